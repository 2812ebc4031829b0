"""A catalogue optimizer behind torch's interface."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from optim_core.spec.errors import SpecError
from optim_core.transforms.arena import TRAINED, Arena, Member
from optim_core.transforms.registry import build_transform
from optim_core.transforms.techniques import NEUTRAL

_NOT_HYPER = {"params", "initial_lr", "role"}


class TransformOptimizer(torch.optim.Optimizer):
    """param_groups, state_dict, lr schedulers, closures, GradScaler: as any optimizer of torch.

    A weight whose gradient is None is left alone, as torch's own optimizers do. Weights are updated as a whole: state lives
    in arenas between steps and is put under ``state[p]`` when it is saved. ``.eval()`` and ``.train()`` move the weights
    of methods whose answer is not the point they train.
    """

    def __init__(self, params: Any, name: str, defaults: dict[str, Any]) -> None:
        noise = {"noise_key": 0.0} if "gradient_noise" in defaults else {}
        super().__init__(params, {**defaults, **noise, "base_lr": defaults["lr"]})
        self._name = name
        self._arenas: list[Arena] = []
        self._merged: tuple[int, ...] = ()

    @cached_property
    def _perturbs(self) -> bool:
        return build_transform(self._name).perturb is not None

    @cached_property
    def _techniques(self) -> list[str]:
        return [name for name in NEUTRAL if name in self.defaults]

    def __getstate__(self) -> dict[str, Any]:
        # torch lists by hand what is copied and pickled; functions cannot be, so the name stands for them.
        self._flush()
        return {**super().__getstate__(), "_name": self._name}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._arenas, self._merged = [], ()

    def state_dict(self) -> dict[str, Any]:
        """As torch's; what a method remembers is under each weight."""
        self._flush()
        return super().state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As torch's."""
        self._arenas = []
        super().load_state_dict(state_dict)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One update. ``closure`` evaluates the loss and its gradients; SAM cannot do without. Raises SpecError."""
        if self._shows_answer():
            raise SpecError(f"{self._name}: call optimizer.train() before training goes on", code="evaluating")
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        hypers = [{key: v for key, v in group.items() if key not in _NOT_HYPER} for group in self.param_groups]
        # Groups that agree in everything are updated as one.
        self._gather(tuple(hypers.index(hyper) for hyper in hypers))
        if self._perturbs:
            self._move_and_look_again(hypers, closure)
        for arena in self._arenas:
            arena.step(hypers)
        return loss

    @torch.no_grad()
    def eval(self) -> None:
        """Put the point that counts into the weights, for evaluation or saving. Nothing happens where it is the trained one."""
        self._flush()
        self._merged = tuple(range(len(self.param_groups)))
        hypers = [dict(group) for group in self.param_groups]
        for arena in self._group_members(lambda p: bool(self.state[p]) and TRAINED not in self.state[p]):
            if arena.transform.answers_elsewhere:
                arena.show_answer(hypers, self.state)

    @torch.no_grad()
    def train(self) -> None:
        """Undo ``eval``."""
        for group in self.param_groups:
            for p in group["params"]:
                if TRAINED in self.state[p]:
                    p.copy_(self.state[p].pop(TRAINED))
        self._arenas = []

    def _move_and_look_again(self, hypers: list[dict[str, Any]], closure: Callable[[], Any] | None) -> None:
        if closure is None:
            raise SpecError(f"{self._name} takes two gradients a step: call step(closure)", code="closure_missing")
        before = [(p, p.detach().clone()) for arena in self._arenas for p in arena.weights]
        for arena in self._arenas:
            arena.perturb(hypers)
        with torch.enable_grad():
            closure()
        for p, old in before:
            p.copy_(old)

    def _shows_answer(self) -> bool:
        return not self._arenas and any(TRAINED in own for own in self.state.values())

    def _gather(self, merged: tuple[int, ...]) -> None:
        """Arenas of the weights that have a gradient now; those of the last step when they are the same.

        ``merged``: for each param group the one whose hyperparameters it shares.
        """
        if merged == self._merged and self._arenas:
            held = [p for arena in self._arenas for p in arena.weights]
            present = sum(p.grad is not None for group in self.param_groups for p in group["params"])
            if present == len(held) and all(p.grad is not None for p in held):
                return
        self._flush()
        self._merged = merged
        self._arenas = self._group_members(lambda p: p.grad is not None)

    def _group_members(self, chosen: Callable[[Tensor], bool]) -> list[Arena]:
        """One arena per number of steps taken, precision and device; almost always one in all."""
        cuts: dict[tuple[Any, ...], list[Member]] = {}
        for index, group in enumerate(self.param_groups):
            for p in group["params"]:
                if chosen(p):
                    key = (self.state[p].get("step", 0), p.dtype, p.device)
                    cuts.setdefault(key, []).append(Member(p, self._merged[index], group.get("role")))
        return [Arena(self._name, members, self.state, self._techniques) for members in cuts.values()]

    def _flush(self) -> None:
        for arena in self._arenas:
            arena.flush(self.state)
        self._arenas = []
