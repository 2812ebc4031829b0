"""Calls into a person's code: what goes wrong in it is theirs, and says so in one line."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from optim_core.spec.errors import WhichoptError


class UserCodeError(WhichoptError):
    """An exception in the person's code."""

    code = "user_code_error"


@contextmanager
def user_code(what: str) -> Iterator[None]:
    """``what``: where their code is called, ``in forward``. Raises UserCodeError; errors of ours pass unchanged."""
    try:
        yield
    except WhichoptError:
        raise
    except (Exception, SystemExit) as error:
        last = traceback.extract_tb(sys.exc_info()[2])[-1]
        first_line = (str(error).splitlines() or [""])[0]
        where = f"{Path(last.filename).name}, line {last.lineno}, {what}"
        raise UserCodeError(f"{where}: {type(error).__name__}: {first_line}") from error
