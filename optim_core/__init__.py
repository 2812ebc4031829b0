"""Optimizers and learning-rate schedules for PyTorch, each proved equal to the authors' code, under one import.

    >>> import torch, optim_core
    >>> model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3))
    >>> optimizer = optim_core.build_optimizer("muon", model, lr=3e-3)
    >>> scheduler = optim_core.build_scheduler(optimizer, {"name": "cosine", "warmup_fraction": 0.05}, total_steps=1000)

What there is: ``list_optimizers``, ``list_schedules``, ``list_techniques``; what is known of one: ``find_optimizer``,
``find_schedule``, ``find_technique``. What each weight of a model counts as: ``roles_of``. Where a method goes: ``trace``.
Whatever a caller gave wrong is a ``SpecError``, which is a ValueError.

Names are loaded when they are first used: importing this package, or ``optim_core.spec``, loads neither torch nor anything
else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    __version__: str
    from optim_core.spec.errors import SpecError
    from optim_core.spec.optimizers import OptimizerInfo, find_optimizer, list_optimizers
    from optim_core.spec.schedules import ScheduleInfo, find_schedule, list_schedules
    from optim_core.spec.techniques import TechniqueInfo, find_technique, list_techniques
    from optim_core.tracing.run import trace
    from optim_core.transforms.roles import roles_of
    from optim_core.transforms.schedulers import build_scheduler
    from optim_core.transforms.torch_adapter import build_optimizer

__all__ = [
    "OptimizerInfo",
    "ScheduleInfo",
    "SpecError",
    "TechniqueInfo",
    "build_optimizer",
    "build_scheduler",
    "find_optimizer",
    "find_schedule",
    "find_technique",
    "list_optimizers",
    "list_schedules",
    "list_techniques",
    "roles_of",
    "trace",
]

_HOMES = {
    "spec.errors": ("SpecError",),
    "spec.optimizers": ("OptimizerInfo", "find_optimizer", "list_optimizers"),
    "spec.schedules": ("ScheduleInfo", "find_schedule", "list_schedules"),
    "spec.techniques": ("TechniqueInfo", "find_technique", "list_techniques"),
    "tracing.run": ("trace",),
    "transforms.roles": ("roles_of",),
    "transforms.schedulers": ("build_scheduler",),
    "transforms.torch_adapter": ("build_optimizer",),
}

# ``optim_core`` is part of either distribution.
_DISTRIBUTIONS = ("whichopt-optim", "whichopt")


def _version() -> str:
    from importlib import metadata

    for name in _DISTRIBUTIONS:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "unknown"


# Hidden from type checkers, or every misspelt name would pass.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """A name of ``__all__``, loaded now (PEP 562)."""
        if name == "__version__":
            globals()[name] = _version()
            return globals()[name]
        for home, names in _HOMES.items():
            if name in names:
                value = getattr(import_module(f"{__name__}.{home}"), name)
                globals()[name] = value
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
