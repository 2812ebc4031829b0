"""Which format an upload has: as declared, else by its name, else by its first bytes."""

from __future__ import annotations

from pathlib import PurePath

# The last is refused, with what to upload instead.
WEIGHTS = frozenset({".pt", ".pth", ".safetensors"})


def format_of(name: str, declared: str | None, head: bytes) -> str:
    """``csv``, ``json``, …, ``text`` or ``weights``."""
    from optim_core.data.readers.formats import SUFFIXES, piped_suffix

    def known(suffix: str) -> str | None:
        return "weights" if suffix in WEIGHTS else SUFFIXES.get(suffix)

    suffixes = [suffix.lower() for suffix in PurePath(name).suffixes if suffix.lower() != ".gz"]
    by_name = known(suffixes[-1]) if suffixes else None
    return declared or by_name or SUFFIXES[piped_suffix(head).removesuffix(".gz")]
