"""K trials at once: stacked weights, one forward and one backward for all, one update per optimizer on its rows.

Trials never touch each other, so each one's gradient is its own. Trials are kept in the order of their optimizer so that
what an optimizer updates is one span of rows.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from optim_core.alignment import aligned, rounded
from optim_core.engine.blocks import Blocks, Weights
from optim_core.engine.company import Company, company_of
from optim_core.engine.hyper import transform_techniques
from optim_core.engine.norms import MEASURED_ROWS, measure, norms_of
from optim_core.engine.plateau import Plateaus
from optim_core.engine.recorded import RecordedStep
from optim_core.engine.seeding import Batches
from optim_core.engine.singles import Singles
from optim_core.engine.slices import Slice
from optim_core.nn.dropout import STEP, set_rate, set_step
from optim_core.spec.trial import TrialParams
from optim_core.stacked import losses as stacked_losses
from optim_core.stacked.network import StackedNetwork
from optim_core.tasks.build import Problem
from optim_core.transforms.groups import groups_of
from optim_core.transforms.registry import build_transform


class BatchedRunner:
    """See ``runner.Runner``. ``company``: what the whole pack has in common; the trials' own by default. ``vectorise``,
    ``recorded``: as in ``Form``.
    """

    def __init__(
        self,
        problem: Problem,
        trials: list[TrialParams],
        horizon: int,
        company: Company | None = None,
        *,
        vectorise: bool = False,
        recorded: bool = False,
    ) -> None:
        company = company or company_of(trials, on_cpu=problem.device.type == "cpu")
        self._order = sorted(range(len(trials)), key=lambda i: (trials[i].configuration.optimizer, i))
        self.trials = [trials[i] for i in self._order]
        self._back = torch.tensor(self._order).argsort().to(problem.device)
        self.problem = problem
        self.skeleton, stacked = _stacked(problem, self.trials)
        names = [name for name, p in self.skeleton.named_parameters() if p.requires_grad]
        # Frozen weights are constants of the network, as buffers are.
        self._buffers: Weights = {name: x for name, x in stacked.items() if name not in set(names)}
        trained = {name: stacked.pop(name) for name in names}
        del stacked
        configurations = [trial.configuration for trial in self.trials]
        groups = groups_of(self.skeleton, company.rates)
        self._blocks = Blocks(trained, groups)
        trained.clear()
        self._network = StackedNetwork(self.skeleton, names, problem.train.x[:2], vectorise=vectorise)
        self._slices = [
            (Singles if self.trials[span.start].configuration.optimizer in company.alone else Slice)(
                span, self.trials[span], self.skeleton, self._blocks, groups, horizon, company
            )
            for span in self._spans()
        ]
        self._drops = any(name.rpartition(".")[2] == STEP for name in self._buffers)
        for i, configuration in enumerate(configurations):
            # What a trial does not set stays as the model has it.
            if "dropout" in configuration.techniques:
                set_rate({name: b[i] for name, b in self._buffers.items()}, configuration.techniques["dropout"])
        self._smoothing = self._numbers_of("label_smoothing", problem.spec.training.label_smoothing)
        self._plateaus = Plateaus(configurations, problem.device)
        self._batches = Batches(problem, [trial.seed for trial in self.trials], horizon, shared=company.shared)
        self._losses_on = RecordedStep(self._train_on, self._buffers) if recorded else self._train_on

    def _spans(self) -> list[slice]:
        names = [trial.configuration.optimizer for trial in self.trials]
        starts = [i for i, name in enumerate(names) if i == 0 or names[i - 1] != name]
        return [slice(start, end) for start, end in zip(starts, [*starts[1:], len(names)], strict=True)]

    def _numbers_of(self, technique: str, default: float) -> Tensor | float:
        """(K,) values of a technique, or the default when no trial sets its own."""
        values = [trial.configuration.techniques.get(technique) for trial in self.trials]
        if all(value is None for value in values):
            return default
        chosen = [default if value is None else value for value in values]
        return torch.tensor(chosen, dtype=self.problem.dtype, device=self.problem.device)

    @torch.no_grad()
    def advance(self, first: int, last: int) -> Tensor:
        self.skeleton.train()
        losses = [self._step(step) for step in range(first, last)]
        return torch.stack(losses, dim=1)[self._back]

    def _step(self, step: int) -> Tensor:
        rows = self._batches.rows(step)
        if self._drops:
            set_step(self._buffers, step)
        losses = self._losses_on(rows)
        factor = self._plateaus.factor
        for part in self._slices:
            scale = None if factor is None else factor[part.span]
            if part.looks_again:
                self._look_again(part, rows, step, scale)
            part.update(step, scale)
        return losses

    def _train_on(self, rows: Tensor) -> Tensor:
        """Losses (K,) on (1 or K, batch) rows; the gradients are in the blocks afterwards."""
        return self._gradients(self._blocks.weights, *self._data(rows))

    def _data(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        # Several times faster than indexing by rows.
        (x, y), flat = self.problem.train, rows.view(-1)
        return x.index_select(0, flat).view(*rows.shape, *x.shape[1:]), y.index_select(0, flat).view(rows.shape)

    def _gradients(self, weights: Weights, x: Tensor, y: Tensor, span: slice = slice(None)) -> Tensor:
        """Losses of the trials in ``span`` on (1 or k, batch, …) rows; their gradients are in the blocks afterwards."""
        whole = span == slice(None)
        buffers = self._buffers if whole else {name: b[span] for name, b in self._buffers.items()}
        slots = self._blocks.slots if whole else {name: g[span] for name, g in self._blocks.slots.items()}
        outputs, back = self._network.forward(weights, buffers, x, slots)
        target = y[0] if len(y) == 1 else y
        if self.problem.classes is None:
            losses, gradient = stacked_losses.squared_error(outputs, target)
        else:
            smoothing = self._smoothing[span] if isinstance(self._smoothing, Tensor) else self._smoothing
            losses, gradient = stacked_losses.cross_entropy(outputs, target, smoothing)
        if back is not None:
            back(gradient)
        return losses

    def _look_again(self, part: Slice | Singles, rows: Tensor, step: int, factor: Tensor | None) -> None:
        """The gradients at the point that the part's method asks for, on the same mini-batch."""
        own = rows if self._batches.shared else rows[part.span]
        moved = {name: aligned(p) for name, p in part.moved(step, factor).items()}
        self._gradients(moved, *self._data(own), part.span)

    def observe(self, losses: Tensor) -> None:
        self._plateaus.observe(losses[torch.tensor(self._order, device=losses.device)])

    @torch.no_grad()
    def outputs(self, x: Tensor) -> Tensor:
        weights, buffers = self._answer(), self._buffers
        if norms_of(self.skeleton) and any(part.answers_elsewhere for part in self._slices):
            buffers = self._measured(weights)
        self.skeleton.eval()
        # With rows up to a boundary, whatever a layer makes of them is a multiple of it too.
        more = rounded(len(x), self.problem.dtype) - len(x)
        rows = torch.cat([x, x[-1:].expand(more, *x.shape[1:])]) if more else x
        found, _ = self._network.forward(weights, buffers, rows.unsqueeze(0))
        return found.mT[self._back, : len(x)]

    def _answer(self) -> Weights:
        """The weights that count, of all trials in the order of the slices."""
        if not any(part.answers_elsewhere for part in self._slices):
            return self._blocks.weights
        parts = [part.answer() for part in self._slices]
        return {name: aligned(torch.cat([part[name] for part in parts])) for name in self._blocks.weights}

    def _measured(self, weights: Weights) -> Weights:
        """Buffers with batch-norm statistics measured at ``weights`` for the trials whose answer lies elsewhere."""
        fresh = {name: b.clone() for name, b in self._buffers.items()}
        with measure(self.skeleton):
            self._network.forward(weights, fresh, self.problem.train.x[:MEASURED_ROWS].unsqueeze(0))
        for i, elsewhere in enumerate(self._elsewhere):
            # Whether a neighbour averages its weights does not matter to a trial that does not.
            if not elsewhere:
                for name, b in fresh.items():
                    b[i] = self._buffers[name][i]
        return fresh

    @cached_property
    def _elsewhere(self) -> list[bool]:
        """Of each trial: whether the point to evaluate differs from the one that is trained."""
        configurations = [trial.configuration for trial in self.trials]
        methods = [build_transform(c.optimizer, techniques=transform_techniques([c])) for c in configurations]
        return [method.answers_elsewhere for method in methods]

    def state(self) -> list[dict[str, Any]]:
        memory = [one for part in self._slices for one in part.state()]
        return [
            {
                "weights": {name: p[i] for name, p in self._blocks.weights.items()},
                "buffers": {name: b[i] for name, b in self._buffers.items()},
                "memory": memory[i],
                "plateau": {key: x[i] for key, x in self._plateaus.state.items()},
            }
            for i in self._back.tolist()
        ]

    @torch.no_grad()
    def restore(self, states: list[dict[str, Any]]) -> None:
        ordered = [states[i] for i in self._order]
        for i, state in enumerate(ordered):
            for mine, stored in ((self._blocks.weights, state["weights"]), (self._buffers, state["buffers"])):
                for name, tensor in mine.items():
                    tensor[i].copy_(stored[name])
        for part in self._slices:
            part.restore([state["memory"] for state in ordered[part.span]])
        plateau = [state["plateau"] for state in ordered]
        self._plateaus.state = {key: torch.stack([one[key] for one in plateau]) for key in plateau[0]}

    def weights(self) -> dict[str, Tensor]:
        frozen = {name: self._buffers[name] for name, _ in self.skeleton.named_parameters() if name in self._buffers}
        return {name: p[self._back] for name, p in {**self._answer(), **frozen}.items()}


def _stacked(problem: Problem, trials: list[TrialParams]) -> tuple[nn.Module, Weights]:
    """The last trial's network, and weights and buffers of all (K, *shape). One network at a time is in memory."""
    networks = problem.make_models(trial.seed for trial in trials)
    model = next(networks)
    stacked = {name: x.new_empty(len(trials), *x.shape) for name, x in model.state_dict().items()}
    for i in range(len(trials)):
        model = model if i == 0 else next(networks)
        for name, x in model.state_dict().items():
            stacked[name][i].copy_(x)
    return model, stacked
