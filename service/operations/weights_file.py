"""A file of weights, looked at without torch and without running anything in it: whoever trains reads it once more, tensors
only.
"""

from __future__ import annotations

import pickletools
import zipfile
import zlib
from typing import BinaryIO

from optim_core.data.readers.zip_check import check_entries
from optim_core.data.text import show
from optim_core.spec.errors import DataError

# What a state_dict is made of: (module, name); of torch also any name that ends in Storage.
_PARTS = frozenset(
    {
        ("collections", "OrderedDict"),
        ("torch._utils", "_rebuild_tensor_v2"),
        ("torch._utils", "_rebuild_tensor_v3"),
        ("torch._utils", "_rebuild_parameter"),
    }
)
_MOST_PICKLE = 64 * 2**20


def tensors_in(file: BinaryIO, name: str) -> int:
    """How many tensors a ``state_dict`` holds that torch.save wrote.

    Raises DataError ``unsupported_format`` for another kind of file, ``malformed_archive``, ``too_large_unpacked``, and
    ``unsafe_program`` with the name of what it would run.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            names = {entry.filename: entry for entry in check_entries(archive, name)}
            inside = [one for one in names if one.endswith("/data.pkl")]
            if len(inside) != 1 or any("/models/" in one or "/code/" in one for one in names):
                raise _other(name)
            if names[inside[0]].file_size > _MOST_PICKLE:
                raise DataError(f"{show(name)} describes too many tensors", code="too_large_unpacked", pointer="")
            return _count(archive.read(inside[0]), name)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise _other(name) from error


def _count(pickled: bytes, name: str) -> int:
    tensors = 0
    try:
        for code, argument, _ in pickletools.genops(pickled):
            if code.name in ("STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4"):
                raise _unsafe(name, code.name)
            if code.name == "GLOBAL":
                module, _, part = str(argument).partition(" ")
                if (module, part) not in _PARTS and not (module == "torch" and part.endswith("Storage")):
                    raise _unsafe(name, f"{module}.{part}")
            tensors += code.name == "BINPERSID"
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise _other(name) from None
    return tensors


def _unsafe(name: str, what: str) -> DataError:
    message = f"{show(name)} would run {show(what)} when it is read; save a state_dict of tensors alone"
    return DataError(message, code="unsafe_program", pointer="")


def _other(name: str) -> DataError:
    instead = ""
    if name.lower().endswith(".safetensors"):
        instead = ': upload what torch.save(safetensors.torch.load_file(FILE), "weights.pt") writes'
    return DataError(
        f"{show(name)} is no state_dict saved by torch.save{instead}", code="unsupported_format", pointer=""
    )
