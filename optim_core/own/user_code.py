"""Errors of a person's code: one line that names their file and line, the traceback beside it."""

from __future__ import annotations

import contextlib
import linecache
import sysconfig
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import CodeType, FrameType, TracebackType

from optim_core.spec.errors import TrainingError, WhichoptError

LONGEST_REASON = 300
# Ours, and what is installed: none of it is the person's, wherever their folder lies.
_OURS = tuple(Path(__file__).resolve().parents[2] / name for name in ("optim_core", "service", "whichopt", "workers"))
_INSTALLED = tuple(
    {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)
_PACKAGES = {"site-packages", "dist-packages"}
# Folders of the person's files in the study at hand; none: whatever is neither ours nor installed, as in a notebook.
roots: list[Path] = []
# Calls of theirs that began, and those that ended: while it stands still, one and the same is running.
_calls = [0]


class UserCodeError(TrainingError):
    """A person's code raised an error or ended the process. Final for the study: the same code fails again.

    The message is one line, ``my_net.py, line 12, in forward: ValueError: …``; ``trace``: the whole traceback as text.
    """

    code = "user_code_error"

    def __init__(self, message: str, *, code: str | None = None, pointer: str = "", trace: str = "") -> None:
        super().__init__(message, code=code, pointer=pointer)
        self.trace = trace


@contextlib.contextmanager
def user_code(what: str) -> Iterator[None]:
    """Around each call of a person's code. ``what``: what is done, in words, for an error that shows no line of theirs.

    Raises UserCodeError for every exception and for ``exit()``. Ctrl-C, and errors that we raised on purpose, pass.
    """
    _calls[0] += 1
    try:
        yield
    except WhichoptError:
        raise
    except (Exception, SystemExit) as error:
        raise from_exception(error, what) from error
    finally:
        _calls[0] += 1


@contextlib.contextmanager
def calling_user_code() -> Iterator[None]:
    """Around code of ours that calls theirs: an error on the way through theirs is a UserCodeError, any other passes."""
    _calls[0] += 1
    try:
        yield
    except (WhichoptError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        if not _last_frame(error) or "out of memory" in str(error) or "not enough memory" in str(error):
            raise
        raise from_exception(error) from error
    finally:
        _calls[0] += 1


def calls_so_far() -> int:
    """A number that changes with every call of a person's code in this process that begins or ends."""
    return _calls[0]


def place_in(frame: FrameType | None) -> str:
    """The line of theirs that runs in a thread whose innermost frame this is, as in errors, or nothing."""
    while frame is not None and not is_theirs(frame.f_code.co_filename):
        frame = frame.f_back
    return "" if frame is None else _place(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)


def from_exception(error: BaseException, what: str = "your code") -> UserCodeError:
    """``error`` as the person reads it: their last line that was running, then the error's own words."""
    frame = _last_frame(error)
    reason = "it called exit()" if isinstance(error, SystemExit) else _reason(error)
    linecache.checkcache()
    trace = "".join(traceback.format_exception(error))
    return UserCodeError(f"{frame or what}: {reason}", trace=trace)


def is_theirs(file: str | Path, folders: Sequence[Path] | None = None) -> bool:
    """Whether a source file belongs to the person: below one of ``folders`` (``roots``), and neither ours nor installed."""
    folders = roots if folders is None else folders
    if str(file).startswith("<") and not str(file).startswith("<ipython"):  # no file: built in, or made by exec
        return False
    path = Path(file).resolve()
    if not folders:
        return not any(path.is_relative_to(place) for place in (*_OURS, *_INSTALLED))
    for root in (root.resolve() for root in folders):
        if path.is_relative_to(root) and not _PACKAGES.intersection(path.relative_to(root).parts):
            inside = any(
                path.is_relative_to(place) and not root.is_relative_to(place) for place in (*_OURS, *_INSTALLED)
            )
            return not inside
    return False


def place_of(function: object) -> str:
    """Where a function of theirs is defined, as ``place_in`` says it, or nothing."""
    code = getattr(function, "__code__", None)
    if not isinstance(code, CodeType) or not is_theirs(code.co_filename):
        return ""
    return _place(code.co_filename, code.co_firstlineno, code.co_name)


def _last_frame(error: BaseException) -> str:
    """``my_net.py, line 12, in forward``, or nothing where no frame is theirs."""
    if isinstance(error, SyntaxError) and error.filename and is_theirs(error.filename):
        return f"{_shown(error.filename)}, line {error.lineno}"
    found = ""
    for filename, line, function in _frames(error.__traceback__):
        if is_theirs(filename):
            found = _place(filename, line, function)
    return found


def _place(filename: str, line: int, function: str) -> str:
    where = "" if function == "<module>" else f", in {function}"
    return f"{_shown(filename)}, line {line}{where}"


def _frames(trace: TracebackType | None) -> Iterator[tuple[str, int, str]]:
    while trace is not None:
        code = trace.tb_frame.f_code
        yield code.co_filename, trace.tb_lineno, code.co_name
        trace = trace.tb_next


def _shown(file: str) -> str:
    """A file's name as seen from the folder it belongs to. Cells of a notebook have names that mean nothing to anybody."""
    path = Path(file).resolve()
    if file.startswith("<ipython") or path.parent.name.startswith("ipykernel_"):
        return "your notebook"
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
