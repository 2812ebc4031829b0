"""Whether the techniques of a study make sense for its network and task."""

from __future__ import annotations

from torch import nn

from optim_core.nn.dropout import SeededDropout
from optim_core.spec.errors import SpecError
from optim_core.spec.problem import StudySpec


def check_techniques(spec: StudySpec, network: nn.Module, classification: bool) -> None:
    """Raises SpecError ``option_not_applicable`` with a pointer to the technique."""
    wanted = spec.search.techniques
    if "label_smoothing" in wanted and not classification:
        raise _refused("label_smoothing", "it needs classes; this is a regression")
    if "dropout" in wanted and not any(isinstance(module, SeededDropout) for module in network.modules()):
        raise _refused("dropout", "this model has no place for dropout layers")


def _refused(name: str, why: str) -> SpecError:
    pointer = f"/search/techniques/{name}"
    return SpecError(f"technique {name} does not apply: {why}", code="option_not_applicable", pointer=pointer)
