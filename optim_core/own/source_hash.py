"""What a person's source was when it was imported."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType


def source_hash(modules: Sequence[ModuleType]) -> str:
    """SHA-256 of the names and contents of the files of ``modules``, as 64 hexadecimal characters, whatever their order.

    Folders do not count: the same code in another place is the same code.
    """
    digest = hashlib.sha256()
    files = {(module.__name__, getattr(module, "__file__", None)) for module in modules}
    for name, file in sorted((name, file) for name, file in files if file is not None):
        content = hashlib.sha256(Path(file).read_bytes()).hexdigest()
        digest.update(f"{name} {content}\n".encode())
    return digest.hexdigest()
