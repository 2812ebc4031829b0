"""K trials at once: stacked weights, one forward and one backward for all, one update per optimizer on its rows.

Trials never touch each other, so each one's gradient is its own. Trials are kept in the order of their optimizer so that
what an optimizer updates is one span of rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from optim_core.alignment import aligned
from optim_core.engine.blocks import Blocks, Weights
from optim_core.engine.forward import Forward
from optim_core.engine.hyper import transform_techniques
from optim_core.engine.kinds import asleep, forward_of
from optim_core.engine.norms import norms_of
from optim_core.engine.plateau import Plateaus
from optim_core.engine.recorded import RecordedStep
from optim_core.engine.seeding import Batches
from optim_core.engine.updates.company import Company, company_of
from optim_core.engine.updates.parts import Pack
from optim_core.engine.updates.updater import Updater
from optim_core.nn.dropout import set_rate
from optim_core.spec.trial import Form, TrialParams
from optim_core.tasks.task import Task
from optim_core.transforms.groups import groups_of
from optim_core.transforms.registry import build_transform
from optim_core.transforms.torch_private import tree_map


class BatchedRunner:
    """See ``runner.Runner``. ``form``: how the networks are run; ``company``: what the whole pack has in common, the trials'
    own by default.
    """

    def __init__(
        self, problem: Task, trials: list[TrialParams], horizon: int, form: Form, company: Company | None = None
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
        sleeping = {name: trained.pop(name) for name in asleep(problem) if name in trained}
        woken = {name: torch.zeros_like(x) for name, x in sleeping.items()}
        blocks = Blocks(trained, groups)
        trained.clear()
        self._weights, self._slots = {**blocks.weights, **sleeping}, {**blocks.slots, **woken}
        self._forward: Forward = forward_of(problem, self.skeleton, names, self.trials, form, shared=company.shared)
        pack = Pack(self.skeleton, blocks, sleeping, woken, groups, horizon, company)
        self._updaters = [Updater(span, self.trials[span], pack) for span in self._spans()]
        for i, configuration in enumerate(configurations):
            # What a trial does not set stays as the model has it.
            if "dropout" in configuration.techniques:
                set_rate({name: b[i] for name, b in self._buffers.items()}, configuration.techniques["dropout"])
        self._plateaus = Plateaus(configurations, problem.device)
        self._batches = Batches(problem, [trial.seed for trial in self.trials], horizon, shared=company.shared)
        self._losses_on = RecordedStep(self._train_on, self._buffers) if form.recorded else self._train_on

    def _spans(self) -> list[slice]:
        names = [trial.configuration.optimizer for trial in self.trials]
        starts = [i for i, name in enumerate(names) if i == 0 or names[i - 1] != name]
        return [slice(start, end) for start, end in zip(starts, [*starts[1:], len(names)], strict=True)]

    @torch.no_grad()
    def advance(self, first: int, last: int) -> Tensor:
        self._forward.begin(first, last, self._batches.rows)
        losses = [self._step(step) for step in range(first, last)]
        return torch.stack(losses, dim=1)[self._back]

    def _step(self, step: int) -> Tensor:
        rows = self._batches.rows(step)
        self._forward.at(step, self._buffers)
        losses = self._losses_on(rows)
        factor, all_unused = self._plateaus.factor, self._forward.unused
        for part in self._updaters:
            scale = None if factor is None else factor[part.span]
            unused = {name: x[part.span] for name, x in all_unused.items()}
            if part.looks_again:
                self._look_again(part, rows, step, scale)
                unused = self._forward.unused
            skipped = self._forward.overflowed
            part.update(step, scale, unused, None if skipped is None else skipped[part.span])
        if self._forward.scales is not None and self._forward.overflowed is not None:
            self._forward.scales.update(self._forward.overflowed)
        return losses

    def _train_on(self, rows: Tensor) -> Tensor:
        """Losses (K,) on (1 or K, batch) rows; the gradients are in the blocks afterwards."""
        return self._gradients(self._weights, rows)

    def _gradients(self, weights: Weights, rows: Tensor, span: slice = slice(None)) -> Tensor:
        """Losses of the trials in ``span`` on (1 or k, batch) rows; their gradients are in the blocks afterwards."""
        whole = span == slice(None)
        buffers = self._buffers if whole else {name: b[span] for name, b in self._buffers.items()}
        slots = self._slots if whole else {name: g[span] for name, g in self._slots.items()}
        return self._forward.losses(weights, buffers, rows, slots, span)

    def _look_again(self, part: Updater, rows: Tensor, step: int, factor: Tensor | None) -> None:
        """The gradients at the point that the part's method asks for, on the same mini-batch. A trial that will skip the step
        looks where it is: from gradients that are not finite there is no way to anywhere, and norms would remember it.
        """
        own = rows if self._batches.shared else rows[part.span]
        moved = {name: aligned(p) for name, p in part.moved(step, factor).items()}
        if self._forward.overflowed is not None:
            for i in self._forward.overflowed[part.span].nonzero().flatten().tolist():
                for name, p in moved.items():
                    p[i] = self._weights[name][part.span][i]
        self._gradients(moved, own, part.span)

    def observe(self, losses: Tensor) -> None:
        self._plateaus.observe(losses[torch.tensor(self._order, device=losses.device)])

    @torch.no_grad()
    def outputs(self, batch: Any) -> Any:
        weights, buffers = self._answer(), self._buffers
        if norms_of(self.skeleton) and any(part.answers_elsewhere for part in self._updaters):
            buffers = self._measured(weights)
        return tree_map(lambda x: x[self._back], self._forward.outputs(weights, buffers, batch))

    def _answer(self) -> Weights:
        """The weights that count, of all trials in the order of the updaters."""
        if not any(part.answers_elsewhere for part in self._updaters):
            return self._weights
        parts = [part.answer() for part in self._updaters]
        return {name: aligned(torch.cat([part[name] for part in parts])) for name in self._weights}

    def _measured(self, weights: Weights) -> Weights:
        """Buffers with batch-norm statistics measured at ``weights`` for the trials whose answer lies elsewhere."""
        fresh = {name: b.clone() for name, b in self._buffers.items()}
        self._forward.measure(weights, fresh)
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
        memory = [one for part in self._updaters for one in part.state()]
        scales = {} if self._forward.scales is None else self._forward.scales.state
        return [
            {
                "weights": {name: p[i] for name, p in self._weights.items()},
                "buffers": {name: b[i] for name, b in self._buffers.items()},
                "memory": memory[i],
                "plateau": {key: x[i] for key, x in self._plateaus.state.items()},
                "loss_scale": {key: x[i] for key, x in scales.items()},
            }
            for i in self._back.tolist()
        ]

    @torch.no_grad()
    def restore(self, states: list[dict[str, Any]]) -> None:
        ordered = [states[i] for i in self._order]
        for i, state in enumerate(ordered):
            # What is trained and what is not may have been sorted otherwise when this was stored.
            stored = {**state["buffers"], **state["weights"]}
            for name, tensor in {**self._buffers, **self._weights}.items():
                tensor[i].copy_(stored[name])
        for part in self._updaters:
            part.restore([state["memory"] for state in ordered[part.span]])
        self._plateaus.state = _together([state["plateau"] for state in ordered])
        if self._forward.scales is not None:
            self._forward.scales.state = _together([state["loss_scale"] for state in ordered])

    def weights(self) -> dict[str, Tensor]:
        frozen = {name: self._buffers[name] for name, _ in self.skeleton.named_parameters() if name in self._buffers}
        return {name: p[self._back] for name, p in {**self._answer(), **frozen}.items()}


def _together(states: list[Weights]) -> Weights:
    return {key: torch.stack([one[key] for one in states]) for key in states[0]}


def _stacked(problem: Task, trials: list[TrialParams]) -> tuple[nn.Module, Weights]:
    """The last trial's network, and weights and buffers of all (K, *shape). One network at a time is in memory."""
    networks = problem.make_models(trial.seed for trial in trials)
    model = next(networks)
    stacked = {name: x.new_empty(len(trials), *x.shape) for name, x in _tensors(model)}
    for i in range(len(trials)):
        model = model if i == 0 else next(networks)
        for name, x in _tensors(model):
            stacked[name][i].copy_(x)
    return model, stacked


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Weights and buffers by name; what is registered several times has its first name."""
    for name, p in model.named_parameters():
        yield name, p.detach()
    yield from model.named_buffers()
