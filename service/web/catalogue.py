"""The catalogue's rows → what its pages show. No HTML."""

from __future__ import annotations

import re
from dataclasses import dataclass

from optim_core.spec.optimizers import ALL_SCHEDULES, OPTIMIZERS, Hyperparameter, OptimizerInfo, unwrap
from optim_core.spec.optimizers.families import FAMILIES
from optim_core.spec.optimizers.wrappers import WRAPPERS
from optim_core.spec.schedules import SCHEDULES, ScheduleInfo, ScheduleParameter
from optim_core.spec.techniques import TechniqueInfo
from service.web.words import DASH, number

# The group of an optimizer follows from its row where a fact of the row says it; these few are named.
COUPLES = {
    "nothing": "its own gradient only",
    "tensor": "the other numbers of the same weight",
    "matrix": "the rows and columns of its matrix",
    "model": "all weights of the model",
    "population": "a population of candidates",
}
KINDS = {
    "gradient": "gradients of mini-batches; many trials train together in one batched run",
    "full_batch": "loss and gradient of all training rows; one trial at a time",
    "gradient_free": "losses of all training rows and no gradient; one trial at a time",
}
ACTS_ON = {
    "gradient": "the gradient, before the method",
    "weights": "the weights, after the method",
    "average": "an average of the weights, evaluated in their place",
    "loss": "the loss",
    "network": "the network",
    "rate": "the learning rate of a layer",
}
# Statements are set apart by ";" and two spaces; those inside brackets belong together.
_BETWEEN_STATEMENTS = re.compile(r";\s{2,}(?![^\[]*\])")


@dataclass(frozen=True)
class Tile:
    """One optimizer in the list. ``text`` is what the filter looks at; ``hidden`` when it does not fit the filter."""

    info: OptimizerInfo
    title: str
    statements: list[str]
    facts: str
    text: str
    hidden: bool


@dataclass(frozen=True)
class TileGroup:
    """Tiles under one heading. ``key`` is its place on the page."""

    key: str
    title: str
    about: str
    tiles: list[Tile]

    @property
    def shown(self) -> int:
        """How many tiles fit the filter."""
        return sum(not tile.hidden for tile in self.tiles)


def groups(words: str = "", competing: bool = False) -> list[TileGroup]:
    """All optimizers by group; those without all of ``words``, or not in the default search, are hidden."""
    wanted = words.lower().split()
    tiles: dict[str, list[Tile]] = {title: [] for title in FAMILIES}
    for info in OPTIMIZERS.values():
        title = info.family
        text = " ".join((info.name, info.title, title, info.wins_when, info.reference)).lower()
        hidden = (competing and not info.searched) or not all(word in text for word in wanted)
        tiles[title].append(Tile(info, heading(info), statements(own_formula(info)), tile_facts(info), text, hidden))
    return [TileGroup(f"group-{i}", title, FAMILIES[title], tiles[title]) for i, title in enumerate(FAMILIES)]


def heading(info: OptimizerInfo) -> str:
    """The title; of a wrapper in the list only its own, since it goes around any."""
    return WRAPPERS[info.name].title if info.name in WRAPPERS else info.title


def own_formula(info: OptimizerInfo) -> str:
    """The formula without that of what it goes around."""
    parts = unwrap(info.name)
    return WRAPPERS[parts[0]].formula if parts else info.formula


def layers(info: OptimizerInfo) -> list[OptimizerInfo]:
    """The method, then what it goes around, and so on inwards."""
    parts = unwrap(info.name)
    return [info, *(layers(OPTIMIZERS[parts[1]]) if parts else [])]


def statements(formula: str) -> list[str]:
    """The formula, one statement each, so that lines break between them."""
    parts = _BETWEEN_STATEMENTS.split(formula)
    return [part + ";" for part in parts[:-1]] + parts[-1:]


def tile_facts(info: OptimizerInfo) -> str:
    """State, cost of a step, gradients: of a wrapper what it adds."""
    row, plus = (WRAPPERS[info.name], "+") if info.name in WRAPPERS else (info, "")
    state = f"{plus}{number(4.0 * row.state_per_weight)} B of state per weight"
    facts = ["no state of its own" if plus and not row.state_per_weight else state]
    facts.append(f"step {plus}{number(row.step_cost, 2)} × SGD")
    return " · ".join([*facts, *([f"{number(info.gradients)} gradients a step"] if info.gradients != 1 else [])])


def _range(low: float, high: float) -> str:
    # Enough digits for 0.99999, which must not read as 1.
    return f"{number(low, 6)} to {number(high, 6)}"


def default_text(hyper: Hyperparameter) -> str:
    return ("on" if hyper.default else "off") if hyper.sample_as == "flag" else number(hyper.default)


def range_text(hyper: Hyperparameter) -> str:
    """``0.001 to 0.1``; a switch has no range."""
    return "" if hyper.sample_as == "flag" else _range(hyper.low, hyper.high)


def scale_text(hyper: Hyperparameter) -> str:
    return hyper.scale + (", whole numbers" if hyper.whole else "")


def searched_text(hyper: Hyperparameter) -> str:
    """From when on a search varies it."""
    if hyper.min_trials is None:
        return "only by hand" if hyper.sample_as == "flag" else "only when you give a range"
    return "always" if hyper.min_trials == 0 else f"from {hyper.min_trials} trials per optimizer"


def fitting(info: OptimizerInfo) -> list[ScheduleInfo]:
    """Schedules that make sense with it, those of its own search first; none for one that sets its steps by itself."""
    if info.fits == "none":
        return []
    found = [
        s
        for s in SCHEDULES.values()
        if info.fits_schedule(decays=s.decays, restarts=s.restarts, constant=s.name == "constant")
    ]
    return sorted(found, key=lambda s: s.name not in info.schedules)


def in_default_search(schedule: ScheduleInfo) -> bool:
    """Whether most optimizers are tried with it without being asked."""
    return schedule.name in ALL_SCHEDULES


def _switch(parameter: ScheduleParameter) -> bool:
    return parameter.whole and (parameter.low, parameter.high) == (0.0, 1.0)


def parameter_value(parameter: ScheduleParameter, value: float) -> str:
    return ("on" if value else "off") if _switch(parameter) else number(value, 3)


def parameter_range(parameter: ScheduleParameter) -> str:
    """``0 to 0.5``."""
    if _switch(parameter):
        return "on or off"
    return _range(parameter.low, parameter.high) + (", whole" if parameter.whole else "")


def parameter_choices(parameter: ScheduleParameter) -> str:
    """What a search tries; a dash where it keeps the default."""
    return ", ".join(parameter_value(parameter, value) for value in parameter.choices) or DASH


def tried(technique: TechniqueInfo) -> str:
    """The values of a search; 0 is off."""
    on = "on" if technique.low == technique.high else None
    return ", ".join("off" if value == 0 else on or number(value, 3) for value in technique.choices)


def allowed(technique: TechniqueInfo) -> str:
    if technique.low == technique.high:
        return f"{number(technique.low)} is on, 0 is off"
    return f"{_range(technique.low, technique.high)}; 0 is off"
