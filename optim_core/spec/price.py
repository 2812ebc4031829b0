"""What a study of a person's own loop will ask it to train, known before any of it is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass

from optim_core.spec.problem import ExternalModel, StudySpec

# The first rung must still show a whole schedule; each is so many times as long as the one before it.
SHORTEST_RUNG, ETA = 60, 4
# Optimizers besides AdamW that are screened and confirmed.
RIVALS = 3
# From so many search trials on: configurations of each optimizer that are screened, on so many seeds. The more were tried, the
# luckier is the best of them.
SCREENING = ((600, 8, 4), (150, 5, 3), (0, 3, 2))
# Configurations of AdamW that are confirmed besides its default. A rival has to beat the best of them: one alone, lucky on the
# rows of one fold, may do badly on the others, its neighbours with it, and then anybody beats AdamW.
YARDSTICKS = 2
LOOKS = 2
# Search trials after which a claim can be made: AdamW's rates, each rival's, and those beyond an edge where one is best. With
# them 19 of 20 studies of a known truth came to a claim (rates off by .6 decades, 2 to 6 optimizers); of two optimizers 1 in 5
# without the last.
BASELINE_TRIALS, RIVAL_TRIALS, EDGE_TRIALS = 9, 4, 12
# A split of the person's own has one fold: more seeds stand in for the others.
OWN_SPLIT_SEEDS = 5


def screening_sizes(trials: int) -> list[tuple[int, int]]:
    """(configurations of each optimizer, seeds) of a screening after so many search trials: what fits, then what costs less."""
    return [(entering, seeds) for least, entering, seeds in SCREENING if trials >= least]


def needed_trials(spec: StudySpec) -> int:
    """Search trials that bracket every optimizer's learning rate."""
    rivals = len(spec.search.included()) - 1
    return BASELINE_TRIALS + (RIVAL_TRIALS * rivals + EDGE_TRIALS if rivals else 0)


@dataclass(frozen=True)
class Price:
    """Trainings of ``steps`` steps at most: ``trials`` of the search, of which some are trained ``again`` over more steps,
    ``screened``, and one or two looks of a confirmation, ``look`` each. Upper bounds. ``needed``: trials for a verdict.
    """

    steps: int
    trials: int
    again: int
    screened: int
    look: int
    needed: int

    @property
    def enough(self) -> bool:
        """Whether so many trials should be enough for a verdict."""
        return self.trials >= self.needed

    @property
    def most(self) -> int:
        """Trainings in all, at most."""
        return self.trials + self.again + self.screened + LOOKS * self.look

    @property
    def sentence(self) -> str:
        """For people."""
        again = f"up to {self.again:,} of them" if self.trials > 1 else "perhaps"
        climbing = f", {again} again over more steps" if self.again else ""
        needs = f"about {_count(self.needed, 'trial')}"
        needed = f"; a verdict needs {needs}" if self.enough else f". Too few for a verdict, which needs {needs}"
        return (
            f"up to {_count(self.most, 'training')} of at most {_count(self.steps, 'step')}: "
            f"{_count(self.trials, 'trial')} of the search{climbing}; "
            f"{_count(self.screened, 'run')} to screen the best; "
            f"{self.look:,} to {LOOKS * self.look:,} to confirm them on fresh seeds{needed}"
        )


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def price(spec: StudySpec) -> Price | None:
    """Of a loop's study whose budget is in trials; None of others, and where a limit in time or steps ends it earlier."""
    budget, trials = spec.budget, spec.budget.trials
    if not isinstance(spec.model, ExternalModel) or trials is None:
        return None
    if math.isfinite(budget.shortest_s) or budget.train_steps is not None:
        return None
    rivals = min(RIVALS, len(spec.search.included()) - 1, trials)
    entering, seeds = screening_sizes(trials)[0]
    # Default AdamW is among them, tried or not.
    most = trials + 1
    return Price(
        steps=spec.model.steps,
        trials=trials,
        again=trials * (spec.model.steps >= ETA * SHORTEST_RUNG),
        screened=min(entering * (rivals + 1) + YARDSTICKS, most) * seeds,
        look=min(rivals + YARDSTICKS + 1, most) * max(budget.seeds, OWN_SPLIT_SEEDS),
        needed=needed_trials(spec),
    )
