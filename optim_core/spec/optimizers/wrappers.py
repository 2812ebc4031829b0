"""Methods that go around any other: ``lookahead(sgd)``, ``cautious(lion)``, ``sam(momentum)``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Literal

from optim_core.spec.optimizers import families
from optim_core.spec.optimizers.info import Hyperparameter, OptimizerInfo, Role, Shape, count

DEFAULT_BASE = "adamw"


Couples = Literal["nothing", "tensor", "matrix", "model", "population"]


@dataclass(frozen=True, kw_only=True)
class Wrapper:
    """A method around another. The fields mean what they mean in ``OptimizerInfo``, added to the base's; ``couples``: what it
    brings about around a base that couples nothing.
    """

    name: str
    title: str
    formula: str
    hyperparameters: tuple[Hyperparameter, ...]
    state_per_weight: float
    step_cost: float
    gradients: float
    reference: str
    wins_when: str
    pitfalls: str
    couples: Couples = "nothing"
    answers_elsewhere: bool = False

    def around(self, base: OptimizerInfo) -> OptimizerInfo:
        """The row of this wrapper around ``base``. Raises ValueError, in words, where that makes no sense."""
        if base.kind != "gradient":
            kind = base.kind.replace("_", "-")
            raise ValueError(f"{self.name} cannot go around {base.name}, which is a {kind} method")
        taken = {h.name for h in base.hyperparameters} & {h.name for h in self.hyperparameters}
        if taken or self.title in base.title:
            raise ValueError(f"{self.name} cannot go around {base.name}, in which it is already")
        extra = self.state_per_weight

        def numbers(shape: Shape, role: Role) -> int:
            return base.numbers_of(shape, role) + round(extra * prod(shape))

        return replace(
            base,
            name=f"{self.name}({base.name})",
            title=f"{self.title} around {base.title}",
            formula=f"{self.formula}  [base: {base.formula}]",
            hyperparameters=(*base.hyperparameters, *self.hyperparameters),
            state_per_weight=base.state_per_weight + extra,
            step_cost=base.step_cost + self.step_cost,
            gradients=base.gradients + self.gradients,
            simplicity=base.simplicity + 5,
            reference=f"{self.reference}; base: {base.reference}",
            wins_when=self.wins_when,
            pitfalls=self.pitfalls,
            torch=None,
            heading=families.AROUND,
            searched=False,
            couples=self.couples if base.couples == "nothing" else base.couples,
            state_numbers=numbers,
            answers_elsewhere=base.answers_elsewhere or self.answers_elsewhere,
        )


WRAPPERS: dict[str, Wrapper] = {
    wrapper.name: wrapper
    for wrapper in (
        Wrapper(
            name="lookahead",
            title="Lookahead",
            formula="every k steps of the base:  slow += α(p − slow);  p = slow;  evaluate at slow",
            hyperparameters=(
                count("lookahead_k", 5, 1, 1000, "steps of the base between two syncs"),
                Hyperparameter(
                    "lookahead_alpha",
                    0.5,
                    0.0,
                    1.0,
                    "how far the slow weights follow; 1 is the base",
                    log=False,
                    min_trials=None,
                    most=1.0,
                ),
            ),
            state_per_weight=1,
            step_cost=0.3,
            gradients=0,
            reference="Zhang et al. 2019, arXiv 1907.08610",
            wins_when="noisy runs at a high learning rate",
            pitfalls="evaluate at the slow weights (optimizer.eval()); timm's first sync does nothing",
            answers_elsewhere=True,
        ),
        Wrapper(
            name="cautious",
            title="Cautious",
            formula="mask = [step·g goes downhill];  step *= mask/max(mean(mask), 1e-3)",
            hyperparameters=(),
            state_per_weight=0,
            step_cost=0.5,
            gradients=0,
            reference="Liang et al. 2024, arXiv 2411.16085; timm caution=True",
            wins_when="momentum that overshoots",
            pitfalls="changes the size of steps; pytorch_optimizer scales the mask differently",
            # The mean of its mask is a weight's.
            couples="tensor",
        ),
        Wrapper(
            name="sam",
            title="SAM",
            formula="gradient at p + ρ·g/‖g‖",
            hyperparameters=(Hyperparameter("rho", 0.05, 0.01, 0.2, "radius of the neighbourhood", min_trials=6),),
            state_per_weight=0,
            step_cost=0.5,
            gradients=1,
            reference="Foret et al. 2021, arXiv 2010.01412",
            wins_when="overfitting; vision models",
            pitfalls="two gradients a step: half the steps at equal cost",
            # The norm of its gradient is the model's.
            couples="model",
        ),
    )
}
