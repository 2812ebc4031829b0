"""The one error tree of the core. Each error carries a machine code and the JSON pointer of the offending field."""

from __future__ import annotations

import copyreg
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class PortableError(Exception):
    """An error that crosses from one process to another as it is, whatever its constructor takes: Python would call that with
    the message alone.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class WhichoptError(PortableError):
    """Base of all errors raised on purpose. ``code`` is stable; the message is for a person."""

    code = "internal"

    def __init__(self, message: str, *, code: str | None = None, pointer: str = "") -> None:
        super().__init__(message)
        self.code = code or type(self).code
        self.pointer = pointer


class SpecError(WhichoptError, ValueError):
    """The input cannot be used as given: the person has to change it. Final, never retried.

    A ValueError, as torch.optim raises one; raised in a validator, pydantic reports it with its place in the document.
    """

    code = "invalid_spec"


@contextmanager
def within(*parts: str | int) -> Iterator[None]:
    """What is raised in the block is wrong with the field that these parts lead to, from where the error is reported."""
    try:
        yield
    except SpecError as error:
        error.pointer = "".join(f"/{escape(part)}" for part in parts) + error.pointer
        raise


def escape(part: str | int) -> str:
    """A key or a place in a list as part of a JSON pointer (RFC 6901)."""
    return str(part).replace("~", "~0").replace("/", "~1")


class DataError(SpecError):
    """A data set cannot be read or used."""

    code = "malformed_table"


class TrainingError(WhichoptError):
    """A model cannot be built or trained on its data set. Final for the study."""

    code = "cannot_train"


class IllegalTransition(WhichoptError):
    """A state change that the tables of ``spec.states`` do not allow."""

    code = "illegal_transition"
