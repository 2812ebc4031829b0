"""Local files of a spec on their way to a server, and back for a replay."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.cli.errors import say

if TYPE_CHECKING:
    from service.client import Client

# Where a spec names a file: keys down to it.
_PLACES = (("dataset",), ("split", "validation"), ("split", "test"), ("training", "fine_tune", "weights"))


def uploaded(document: dict[str, Any], client: Client) -> dict[str, Any]:
    """The spec with every file that lies on this machine uploaded and named by its id; others are the server's own."""

    def put(path: str, fmt: str | None) -> dict[str, Any] | None:
        file = Path(path).expanduser()
        if not file.is_file():
            say(f"there is no file {path} on this machine: the server looks for one of its own")
            return None
        size = file.stat().st_size
        say(f"uploading {path} ({size:,} bytes) to {client.base_url}")
        return {"kind": "artifact", "id": client.upload(file, format=fmt)["id"]}

    def change(part: Any, weights: bool) -> Any:
        if isinstance(part, dict):
            path = part.get("path") if part.get("kind", "file") == "file" else None
            found = put(path, part.get("format")) if isinstance(path, str) else None
            return part if found is None else {k: v for k, v in part.items() if k not in ("kind", "path")} | found
        found = put(part, "weights" if weights else None) if isinstance(part, str) else None
        return part if found is None else found

    return _changed(document, change)


def downloaded(document: dict[str, Any], client: Client, folder: Path) -> dict[str, Any]:
    """The spec with the server's uploaded files in ``folder``."""

    def change(part: Any, weights: bool) -> Any:
        if not isinstance(part, dict) or part.get("kind") != "artifact":
            return part
        known = client.artifact(part["id"])
        path = str(client.download(part["id"], folder / f"{part['id']}-{known['name']}"))
        if "target" not in part and "format" not in part:
            return path
        # Its name need not say the format.
        plain = {k: v for k, v in part.items() if k != "id"}
        return plain | {"kind": "file", "path": path, "format": part.get("format") or known["format"]}

    return _changed(document, change)


def _changed(document: dict[str, Any], change: Callable[[Any, bool], Any]) -> dict[str, Any]:
    document = copy.deepcopy(document)
    for place in _PLACES:
        part: Any = document
        for key in place[:-1]:
            part = part.get(key) if isinstance(part, dict) else None
        if isinstance(part, dict) and part.get(place[-1]) is not None:
            part[place[-1]] = change(part[place[-1]], place[-1] == "weights")
    return document
