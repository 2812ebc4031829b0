"""Files that were uploaded to a server, as specs name them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from optim_core.spec.base import Value, clean_text
from optim_core.spec.errors import SpecError

ArtifactId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class Artifact(Value):
    """An uploaded file, by the ``id`` it was given."""

    kind: Literal["artifact"]
    id: ArtifactId


def _form(value: Any) -> str:
    return "file_path" if isinstance(value, str) else "file_artifact"


# A path on the machine where the training runs, or what was uploaded.
StoredFile = Annotated[
    Annotated[str, Field(min_length=1, max_length=4096), Tag("file_path")] | Annotated[Artifact, Tag("file_artifact")],
    Discriminator(_form),
]


def clean_file(file: StoredFile | None) -> StoredFile | None:
    """The file unchanged, or SpecError ``invalid_text`` for a path that holds control characters."""
    return clean_text(file) if isinstance(file, str) else file


def path_of(file: StoredFile) -> str:
    """The path of a file that is on this machine. Raises as ``elsewhere`` for an uploaded one that was not ``placed``."""
    if isinstance(file, Artifact):
        raise elsewhere()
    return file


def elsewhere(pointer: str = "") -> SpecError:
    """SpecError ``artifact_elsewhere``: only a server and its workers have uploaded files."""
    message = "an uploaded file is read by its server and its workers alone"
    return SpecError(message, code="artifact_elsewhere", pointer=pointer)
