"""Weights that have no gradient in a step: they stay where they are, and their average goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optim_core.transforms.arena import Member
from optim_core.transforms.base import Hypers, Layout, State
from optim_core.transforms.kept_state import MODEL_STEP, STEP, of_the_weight
from optim_core.transforms.registry import build_transform
from optim_core.transforms.techniques import AVERAGE
from optim_core.transforms.working_form import WorkingForm


def count_on(everyone: Sequence[Mapping[str, Any]]) -> None:
    """One more step of the model, where no weight has a gradient: it is counted under all of them, mostly in one tensor."""
    for counter in {id(own[MODEL_STEP]): own[MODEL_STEP] for own in everyone if MODEL_STEP in own}.values():
        counter.add_(1)


def rest(
    name: str,
    members: Sequence[Member],
    hypers: Hypers,
    techniques: Sequence[str],
    everyone: Sequence[Mapping[str, Any]],
    state_bits: int,
) -> None:
    """What the step that was just counted does to ``members``, which had no gradient: their averages, in place."""
    forms = {f"weight{member.place}": WorkingForm(member.p) for member in members}
    state: State = {}
    for member, (key, form) in zip(members, forms.items(), strict=True):
        for entry in of_the_weight(member.own):
            member.own[entry] = form.kept(member.own[entry])
            state.setdefault(entry, {})[key] = form.opened(member.own[entry])
    layout = Layout(
        roles={key: m.role for m, key in zip(members, forms, strict=True) if m.role is not None},
        groups={key: m.group for m, key in zip(members, forms, strict=True)},
    )
    transform = build_transform(name, layout, techniques, state_bits)
    assert transform.rest_ is not None
    # A state saved before models counted their steps has the weights' own.
    t = max(int(own.get(MODEL_STEP, own.get(STEP, 0))) for own in everyone)
    transform.rest_({key: form.working() for key, form in forms.items()}, state, hypers, t)


def resting(members: Sequence[Member]) -> list[Member]:
    """Those without a gradient that have an average."""
    return [member for member in members if member.p.grad is None and AVERAGE in member.own]
