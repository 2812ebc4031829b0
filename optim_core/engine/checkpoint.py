"""A pack's state as bytes: tensors only, with a checksum in front. Nothing but tensors is ever unpickled."""

from __future__ import annotations

import hashlib
import io
from typing import Any

import torch

_MAGIC = b"whichopt-pack-2\n"


def dump(fingerprint: str, state: dict[str, Any]) -> bytes:
    """Serialise nested dicts and lists of tensors and numbers. ``fingerprint`` names the pack that it belongs to."""
    buffer = io.BytesIO()
    torch.save({"fingerprint": fingerprint, "torch": str(torch.__version__), "state": state}, buffer)
    body = buffer.getvalue()
    return _MAGIC + hashlib.sha256(body).digest() + body


def load(data: bytes, fingerprint: str) -> dict[str, Any] | None:
    """The state, or None when the bytes are damaged, of another pack, or of another PyTorch: then start again."""
    head = len(_MAGIC)
    digest, body = data[head : head + 32], data[head + 32 :]
    if data[:head] != _MAGIC or hashlib.sha256(body).digest() != digest:
        return None
    stored = torch.load(io.BytesIO(body), weights_only=True)
    if stored["fingerprint"] != fingerprint or stored["torch"] != str(torch.__version__):
        return None
    return stored["state"]
