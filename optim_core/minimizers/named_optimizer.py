"""What all optimizers have that we hand out: they know which method they are, and can be told to evaluate or to train."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar, overload

import torch

from optim_core.minimizers.torch_private import compiler_watches, record_enter, record_exit, somebody_listens
from optim_core.spec.errors import SpecError
from optim_core.spec.names import unknown_name
from optim_core.spec.optimizers import OPTIMIZERS, unwrap
from optim_core.spec.techniques import TECHNIQUES

# Entries of a param group that are no hyperparameters.
METHOD = "method"
NAMES = "param_names"
# The weights' places in the order in which they were given to the optimizer.
PLACES = "places"
_MOST_SHOWN = 12
# What a param group may say besides hyperparameters: ours, torch's, what torch's schedulers write there, and timm's.
_OF_GROUPS = (
    "params", "betas", "role", PLACES, "maximize", "base_lr", "name", METHOD, NAMES, "differentiable",
    "initial_lr", "max_lr", "min_lr", "base_momentum", "max_momentum", "swa_lr", "lr_scale",
)  # fmt: skip
# torch's argument → the method that it makes.
_METHODS = {
    ("sgd", "nesterov"): "nesterov",
    ("sgd", "momentum"): "momentum",
    ("adamw", "amsgrad"): "amsgrad",
    ("adam", "amsgrad"): "amsgrad",
}
_KERNELS = "; there is nothing to choose: torch's fused and multi-tensor kernels are used wherever they fit"
_WARMUP = (
    '; warm-up belongs to the schedule: build_scheduler(optimizer, {"name": …, "warmup_fraction": …}, total_steps)'
)
_CLIPPING = '; that is the technique clip_norm: techniques={"clip_norm": …}'
# What others take as an argument of the optimizer → where it is here.
_ELSEWHERE = {
    **dict.fromkeys(("foreach", "fused"), _KERNELS),
    **dict.fromkeys(("warmup", "warmup_steps", "num_warmup_steps", "warmup_fraction"), _WARMUP),
    **dict.fromkeys(("max_grad_norm", "grad_clip", "gradient_clipping"), _CLIPPING),
}
Method = TypeVar("Method", bound=Callable[..., Any])
Loss = TypeVar("Loss")


def never_compiled(method: Method) -> Method:
    """``method`` as it stands, also inside a function that is compiled: the compiler cannot follow what it does.

    torch's decorator takes as long as thirty small weights, and loads the compiler, for half a second: where nobody compiles,
    nothing of it is needed.
    """
    found: list[Callable[..., Any]] = []

    @wraps(method)
    def run(*args: Any, **kwargs: Any) -> Any:
        if not compiler_watches():
            return method(*args, **kwargs)
        if not found:
            found.append(torch.compiler.disable(method))
        return found[0](*args, **kwargs)

    return run  # type: ignore[return-value]


def weights_in(group: Mapping[str, Any]) -> Any:
    """The ``params`` of a param group. Raises SpecError where it has none."""
    if "params" not in group:
        raise SpecError("a param group needs params, its weights", code="wrong_type")
    return group["params"]


def what_it_is(name: str, key: str) -> str:
    """The end of a message about ``key``, which is no hyperparameter of method ``name``: what it is here, or nothing."""
    if method := _METHODS.get((name, key)):
        return f"; that is the method {method!r}"
    if key in TECHNIQUES:
        return f'; that is a technique: techniques={{"{key}": …}}'
    if "warmup_steps" in OPTIMIZERS[name].defaults() and _ELSEWHERE.get(key) == _WARMUP:
        # Schedule-free methods have a warm-up of their own.
        return ""
    return _ELSEWHERE.get(key, "")


def _named(group: Mapping[str, Any]) -> str:
    names = group.get(NAMES, ())
    more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    return f" in {', '.join(names[:_MOST_SHOWN])}{more}" if names else ""


class NamedOptimizer(torch.optim.Optimizer):
    """``defaults[METHOD]``, and with it every param group and every ``state_dict``, holds the method's name."""

    def __init__(self, params: Any, name: str, defaults: dict[str, Any]) -> None:
        super().__init__(params, {**defaults, METHOD: name})

    @staticmethod
    def profile_hook_step(func: Callable[..., Any]) -> Callable[..., Any]:
        """What torch puts around ``step``, only where a profiler or hook listens: it takes as long as sixty small weights.

        Whatever else watches torch's operations is told the same name.
        """
        listened_to = torch.optim.Optimizer.profile_hook_step(func)

        @never_compiled
        @wraps(func)
        def step(self: NamedOptimizer, *args: Any, **kwargs: Any) -> Any:
            if somebody_listens(self):
                return listened_to(self, *args, **kwargs)
            record = record_enter(f"Optimizer.step#{type(self).__name__}.step")
            try:
                return func(self, *args, **kwargs)
            finally:
                record_exit(record)

        return step

    @property
    def method(self) -> str:
        """The catalogue's name."""
        return self.defaults[METHOD]

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], Loss]) -> Loss: ...

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One update of all weights. ``closure``: evaluates the loss and its gradients, and gives the loss back."""
        raise NotImplementedError

    def eval(self) -> None:
        """Put the point that counts into the weights, for evaluation or saving. Nothing happens where it is the trained one."""

    def train(self) -> None:
        """Undo ``eval``; nothing happens where there was none. A weight that was loaded or changed since ``eval`` is kept: it
        is the new trained point, and the averages and slow weights of it begin there.
        """

    def __repr__(self) -> str:
        lines = [f"{self.method} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}: {sum(p.numel() for p in group['params'])} numbers{_named(group)}")
            hidden = ("params", NAMES, PLACES, METHOD, "differentiable")
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key not in hidden]
        return "\n".join([*lines, ")"])

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As torch's. Weights of a later group may lack names where the first ones have them: their places serve.

        Raises SpecError for an entry that nothing reads: a hyperparameter whose name is not quite right would be lost.
        """
        if isinstance(param_group, dict):
            self._check_entries(param_group)
        if self.param_groups and isinstance(param_group, dict):
            param_group = {**param_group, "params": self._named_as_before(weights_in(param_group))}
        super().add_param_group(param_group)

    def _check_entries(self, group: Mapping[str, Any]) -> None:
        known = (*OPTIMIZERS[self.method].defaults(), *self.defaults, *_OF_GROUPS)
        for key in group:
            if key not in known:
                message = (
                    f"{self.method}: param group: {unknown_name('entry', key, known)}{what_it_is(self.method, key)}"
                )
                raise SpecError(message, code="unknown_field")

    def _named_as_before(self, params: Any) -> list[Any]:
        listed = [params] if isinstance(params, torch.Tensor) else params
        if isinstance(listed, set):
            return listed  # type: ignore[return-value]  # Refused by torch, in words.
        listed = list(listed)
        bare = [row[1] if isinstance(row, tuple) else row for row in listed]
        if NAMES not in self.param_groups[0]:
            return bare
        place = len(self.param_groups)
        return [row if isinstance(row, tuple) else (f"group{place}.{i}", row) for i, row in enumerate(listed)]

    def check_method(self, state_dict: dict[str, Any]) -> None:
        """Raise SpecError where ``state_dict`` was saved by another method; torch's own do not say."""
        for group in state_dict["param_groups"]:
            saved = group.get(METHOD, self.method)
            if (unwrap(saved) or saved) != (unwrap(self.method) or self.method):
                message = f"this state was saved by {saved}, and the optimizer is {self.method}"
                raise SpecError(message, code="other_method")
