"""Text that people gave, such that it shows as what it is: on pages and on a terminal."""

from __future__ import annotations

from typing import Any

# Marks, embeddings, overrides and isolates of direction: they would turn round what stands next to them as well.
_DIRECTIONS = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
# Orders to a terminal, among them its escape. Tabs and ends of lines are text.
_ORDERS = (*range(0x09), *range(0x0B, 0x20), *range(0x7F, 0xA0))
_ESCAPED = {code: f"\\u{code:04x}" for code in (*_DIRECTIONS, *_ORDERS)}


def visible(text: str) -> str:
    """``text`` with characters that change the direction of writing or steer a terminal written as ``\\u202e``."""
    return text.translate(_ESCAPED)


def storable(text: str) -> str:
    """``text`` as every database takes it: NUL and halves of surrogate pairs are written out."""
    return text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()


def visible_document(value: Any) -> Any:
    """A JSON document in which every text is ``visible``."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {visible(key): visible_document(one) for key, one in value.items()}
    return [visible_document(one) for one in value] if isinstance(value, list) else value
