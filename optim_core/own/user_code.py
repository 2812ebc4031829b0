"""Errors of a person's code: one line that names their file and line, the traceback beside it."""

from __future__ import annotations

import contextlib
import linecache
import sys
import sysconfig
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

from optim_core.spec.errors import TrainingError

LONGEST_REASON = 300
# Ours, and what is installed: none of it is the person's, wherever their folder lies.
_OURS = Path(__file__).resolve().parents[1]
_INSTALLED = tuple(
    {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)
_PACKAGES = {"site-packages", "dist-packages"}


class UserCodeError(TrainingError):
    """A person's code raised an error or ended the process. Final for the study: the same code fails again.

    The message is one line, ``my_net.py, line 12, in forward: ValueError: …``; ``trace``: the whole traceback as text.
    """

    code = "user_code_error"

    def __init__(self, message: str, *, code: str | None = None, pointer: str = "", trace: str = "") -> None:
        super().__init__(message, code=code, pointer=pointer)
        self.trace = trace


@contextlib.contextmanager
def user_code(what: str, roots: Sequence[Path] = ()) -> Iterator[None]:
    """Around each call of a person's code. What it prints goes to standard error: standard output carries the answer alone.

    ``what``: what is done, in words, for an error that shows no line of theirs; ``roots``: their folders or files. Raises
    UserCodeError for every exception and for ``exit()``. Ctrl-C, and errors that we raised on purpose, pass.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except UserCodeError:
        raise
    except (Exception, SystemExit) as error:
        raise from_exception(error, roots, what) from error


def from_exception(error: BaseException, roots: Sequence[Path], what: str = "your code") -> UserCodeError:
    """``error`` as the person reads it: their last line that was running, then the error's own words."""
    frame = _last_frame(error, roots)
    reason = "it called exit()" if isinstance(error, SystemExit) else _reason(error)
    linecache.checkcache()
    trace = "".join(traceback.format_exception(error))
    return UserCodeError(f"{frame or what}: {reason}", trace=trace)


def is_theirs(file: str | Path, roots: Sequence[Path]) -> bool:
    """Whether a source file belongs to the person: below one of ``roots``, and neither ours nor installed."""
    if str(file).startswith("<"):  # no file: built in, or made by exec
        return False
    path = Path(file).resolve()
    for root in (root.resolve() for root in roots):
        if path.is_relative_to(root) and not _PACKAGES.intersection(path.relative_to(root).parts):
            inside = any(
                path.is_relative_to(place) and not root.is_relative_to(place) for place in (_OURS, *_INSTALLED)
            )
            return not inside
    return False


def _last_frame(error: BaseException, roots: Sequence[Path]) -> str:
    """``my_net.py, line 12, in forward``, or nothing where no frame is theirs."""
    if isinstance(error, SyntaxError) and error.filename and is_theirs(error.filename, roots):
        return f"{_shown(error.filename, roots)}, line {error.lineno}"
    found = ""
    for filename, line, function in _frames(error.__traceback__):
        if is_theirs(filename, roots):
            where = "" if function == "<module>" else f", in {function}"
            found = f"{_shown(filename, roots)}, line {line}{where}"
    return found


def _frames(trace: TracebackType | None) -> Iterator[tuple[str, int, str]]:
    while trace is not None:
        code = trace.tb_frame.f_code
        yield code.co_filename, trace.tb_lineno, code.co_name
        trace = trace.tb_next


def _shown(file: str, roots: Sequence[Path]) -> str:
    """A file's name as seen from the folder it belongs to."""
    path = Path(file).resolve()
    inside = [path.relative_to(root.resolve()) for root in roots if path.is_relative_to(root.resolve())]
    shortest = min(inside, key=lambda name: len(name.parts), default=Path())
    return shortest.as_posix() if shortest.parts else path.name


def _reason(error: BaseException) -> str:
    """The error's name and the first line of what it says."""
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    lines = (said or "").strip().splitlines()
    first = lines[0] if lines else ""
    name = type(error).__name__
    return f"{name}: {first[:LONGEST_REASON]}" if first else name
