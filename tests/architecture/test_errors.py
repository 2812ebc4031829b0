"""Errors cross from worker processes and pools to whoever waits for them: each is the same one there."""

from __future__ import annotations

import copy
import importlib
import inspect
import pickle
import pkgutil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import optim_core
import service
import workers
from optim_core.spec.validation import FieldError


def errors() -> dict[str, type[BaseException]]:
    """Every class of error of the project, by its place."""
    found: dict[str, type[BaseException]] = {}
    for package in (optim_core, service, workers):
        for row in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if row.name.endswith("__main__"):
                continue
            for one in vars(importlib.import_module(row.name)).values():
                if isinstance(one, type) and issubclass(one, BaseException) and one.__module__ == row.name:
                    found[f"{row.name}.{one.__qualname__}"] = one
    return found


ERRORS = errors()
FIELDS = st.builds(FieldError, st.text(), st.text(min_size=1), st.text())
ROWS = st.lists(st.fixed_dictionaries({"pointer": st.text(), "code": st.text()}))
# What constructors take, by name.
ARGUMENTS: dict[str, st.SearchStrategy[Any]] = {
    "answered": st.booleans(),
    "errors": ROWS, "message": st.text(), "code": st.text(min_size=1), "pointer": st.text(), "detail": st.text(),
    "trace": st.text(), "retry_after_s": st.none() | st.integers(1, 3600),
    "status": st.integers(400, 599), "document": st.dictionaries(st.text(), st.integers()), "checkpoint": st.binary(),
}  # fmt: skip


def made(one: type[BaseException], data: st.DataObject) -> BaseException:
    if not inspect.isfunction(one.__init__):
        return one(data.draw(ARGUMENTS["message"]))
    names = [p for p in inspect.signature(one.__init__).parameters if p != "self"]
    given_ = {name: data.draw(ARGUMENTS[name], label=name) for name in names}
    if one.__name__ == "SpecErrors":
        given_["errors"] = data.draw(st.lists(FIELDS, min_size=1))
    return one(**given_)


@pytest.mark.parametrize("place", ERRORS)
@given(data=st.data())
def test_an_error_is_pickled_and_copied_with_all_it_says(place: str, data: st.DataObject) -> None:
    error = made(ERRORS[place], data)
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is type(error)
        assert (again.args, str(again), vars(again)) == (error.args, str(error), vars(error))
