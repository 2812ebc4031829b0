"""Whose Python may run: on a server what its operator has listed, in a command's own stack whatever its person names."""

from __future__ import annotations

from optim_core.spec.entrypoints import parse_entrypoint
from optim_core.spec.errors import SpecError
from optim_core.spec.problem import PythonDataset, PythonModel, StudySpec
from service.settings import Settings


def check_entrypoints(spec: StudySpec, settings: Settings) -> None:
    """Raises SpecError ``entrypoint_not_allowed`` for the first entry point of ``spec`` that must not run here.

    Asked before a study is stored, and by workers before they import anything: others may write to the same database.
    """
    if settings.own_process:
        return
    for name, part in (("model", spec.model), ("dataset", spec.dataset)):
        # A folder would be searched first, and may hold a module of a listed name.
        if isinstance(part, PythonModel | PythonDataset) and part.folder is not None:
            raise _refused(f"/{name}/folder", "a server runs installed modules only: leave folder out")
    for pointer, text in spec.entrypoints.items():
        place = parse_entrypoint(text)
        if place.is_file:
            raise _refused(pointer, "a server runs no files: install the module there, or ask without a server")
        if not any(
            place.place == one or place.place.startswith(f"{one}.") for one in settings.python_entrypoints or ()
        ):
            raise _refused(
                pointer, f"{place.place} is not among the modules in WHICHOPT_PYTHON_ENTRYPOINTS of this server"
            )


def _refused(pointer: str, why: str) -> SpecError:
    return SpecError(why, code="entrypoint_not_allowed", pointer=pointer)
