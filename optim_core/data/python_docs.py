"""The bundled text: what Python's standard library says of itself, read from its sources on this machine."""

from __future__ import annotations

import ast
import sysconfig
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from optim_core.spec.errors import DataError

# Modules written in Python that every installation has and that say much for their length. In this order, so that the same
# version of Python gives the same bytes.
MODULES = (
    "_pydecimal", "_pyio", "asyncio.events", "asyncio.locks", "asyncio.streams", "asyncio.tasks", "base64", "bdb",
    "calendar", "cmd", "code", "codecs", "collections", "concurrent.futures._base", "concurrent.futures.process",
    "configparser", "contextlib", "difflib", "doctest", "email._policybase", "email.charset", "email.header",
    "email.headerregistry", "email.message", "email.policy", "fractions", "ftplib", "functools", "http.client",
    "http.cookiejar", "http.server", "imaplib", "importlib.metadata", "inspect", "ipaddress", "json", "json.decoder",
    "json.encoder", "logging", "logging.handlers", "mailbox", "mimetypes", "optparse", "os", "pathlib", "pdb",
    "pkgutil", "platform", "queue", "random", "shelve", "shutil", "smtplib", "socket", "socketserver", "statistics",
    "tempfile", "textwrap", "threading", "timeit", "traceback", "typing", "urllib.parse", "uuid", "weakref",
    "xml.etree.ElementTree", "xmlrpc.server",
)  # fmt: skip
# Fewer bytes are another thing than what this text is known as.
_LEAST_BYTES = 400_000


@lru_cache(maxsize=1)
def python_docs() -> bytes:
    """Nearly 1 MB in UTF-8: the docstrings of ``MODULES``, each below its name. Takes a second or two, once a process.

    Raises DataError ``file_missing`` where Python was installed without its sources.
    """
    library = Path(sysconfig.get_path("stdlib"))
    chapters = [f"{name}\n{said}\n" for module in MODULES for name, said in _docstrings(library, module)]
    raw = "\n".join(chapters).encode()
    if len(raw) < _LEAST_BYTES:
        message = (
            "this Python was installed without its sources, of which the text python_docs is made; give a file instead"
        )
        raise DataError(message, code="file_missing", pointer="/dataset/name")
    return raw


def _docstrings(library: Path, module: str) -> Iterator[tuple[str, str]]:
    """(dotted name, docstring) of the module, its classes, functions and methods, as they stand in the source."""
    stem = library.joinpath(*module.split("."))
    source = next((path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()), None)
    if source is None:
        return
    tree = ast.parse(source.read_bytes())
    said = ast.get_docstring(tree)
    if said:
        yield module, said
    yield from _inside(tree.body, module)


def _inside(body: list[ast.stmt], name: str) -> Iterator[tuple[str, str]]:
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            said, own = ast.get_docstring(node), f"{name}.{node.name}"
            if said:
                yield own, said
            if isinstance(node, ast.ClassDef):
                yield from _inside(node.body, own)
