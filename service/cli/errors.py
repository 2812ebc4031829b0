"""Exit codes, and one line on standard error for everything that can go wrong. Never a traceback."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from optim_core.spec.errors import PortableError
from service.text import visible

# A verdict that was required and is not there ends as a failure does.
ANSWERED, BAD_INPUT, STUDY_FAILED, UNREACHABLE, NOT_PERMITTED, INTERRUPTED = 0, 2, 3, 4, 5, 130


class Terminated(KeyboardInterrupt):
    """SIGTERM: whoever runs us wants us gone, and the study kept as it is."""


class CommandError(PortableError):
    """The command ends here. ``message`` is one line for a person; ``code`` the exit status; ``errors``: all that is wrong,
    each with ``pointer``, ``code`` and ``detail``. ``answered``: the answer was printed before.
    """

    def __init__(
        self, message: str, code: int = BAD_INPUT, errors: Sequence[dict[str, Any]] = (), *, answered: bool = False
    ) -> None:
        super().__init__(message)
        self.code, self.errors, self.answered = code, list(errors), answered

    def document(self) -> dict[str, Any]:
        """Everything that is wrong, as JSON: the first error leads."""
        code = "bad_input" if self.code == BAD_INPUT else "no_answer"
        errors = self.errors or [{"pointer": "", "code": code, "detail": str(self)}]
        return {
            "errors": [
                {"pointer": one["pointer"], "code": one["code"], "message": one.get("detail") or one["code"]}
                for one in errors
            ]
        }


def one_line(text: str) -> str:
    """``text`` as one printable line."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def field_errors(errors: list[dict]) -> str:
    """``/search/optimizrs: unknown key`` for the first field error, and how many more there are."""
    first = errors[0]
    text = f"{first.get('pointer') or '/'}: {first.get('detail') or first.get('code')}"
    more = len(errors) - 1
    return one_line(text) + (f" (and {more} more)" if more else "")


def say(message: str) -> None:
    """One line on standard error."""
    print(f"whichopt: {visible(message)}", file=sys.stderr)
