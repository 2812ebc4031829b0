"""Whether a study can afford models of another kind beside its answer, and the units that fit them."""

from __future__ import annotations

from collections.abc import Sequence

from optim_core.search.confirm import folds_of
from optim_core.spec.problem import StudySpec
from optim_core.spec.trial import ProbeReport, ReferenceName, StudyView, UnitSpec

# Of a budget in time; and what nobody should wait for where there is none.
SHARE, MOST_S = 0.1, 60.0
# The library has to be loaded first.
IMPORT_S = 1.5


def affordable_references(spec: StudySpec, probe: ProbeReport) -> tuple[list[ReferenceName], float]:
    """(what may be fitted for every fold, the seconds that it should take), the cheapest first. Never changes in a study."""
    most = min(SHARE * spec.budget.shortest_s, MOST_S)
    names: list[ReferenceName] = []
    seconds = 0.0
    for name, each in sorted((probe.reference_s or {}).items(), key=lambda one: one[1]):
        whole = each * len(folds_of(spec, probe))
        # A line is fitted in no time: where the library may be loaded it is not dropped for that.
        loading = 0.0 if name == "linear" and most >= IMPORT_S else IMPORT_S
        if seconds + whole + loading <= most:
            names.append(name)
            seconds += whole
    return names, seconds + IMPORT_S if names else 0.0


def owed_seconds(view: StudyView, probe: ProbeReport) -> float:
    """What the references will still take."""
    if view.finishing or any(u.spec.kind == "reference" and u.result is not None for u in view.units):
        return 0.0
    return affordable_references(view.spec, probe)[1]


def reference_units(view: StudyView, probe: ProbeReport, folds: Sequence[int | None]) -> list[UnitSpec]:
    """One a fold, behind the confirmation's. None for whoever ended the search to have an answer soon."""
    names, _ = affordable_references(view.spec, probe)
    if not names or view.finishing:
        return []
    return [
        UnitSpec(key=f"reference-{fold or 0}", kind="reference", rung=0, horizon=1, split="test", fold=fold, trials=[],
                 data_hash=probe.data_hash, references=names)
        for fold in folds
    ]  # fmt: skip
