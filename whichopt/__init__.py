"""Which optimizer to train a model with, at which settings, and how sure that is.

    >>> import whichopt
    >>> answer = whichopt.recommend(make_net, (train, validation, test), budget="5m")  # doctest: +SKIP
    >>> optimizer, scheduler = answer.optimizer(model, total_steps=4000)  # doctest: +SKIP

``recommend`` runs a study in this process; ``Client`` speaks to a server; the rest is ``optim_core``'s. Names are loaded when
they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optim_core import build_optimizer, build_scheduler, list_optimizers, roles_of, trace
    from service.client import Client
    from workers.answer import Answer
    from workers.in_process import StudyFailed, recommend

__all__ = [
    "Answer",
    "Client",
    "StudyFailed",
    "build_optimizer",
    "build_scheduler",
    "list_optimizers",
    "recommend",
    "roles_of",
    "trace",
]

_HOMES = {
    "optim_core": ("build_optimizer", "build_scheduler", "list_optimizers", "roles_of", "trace"),
    "service.client": ("Client",),
    "workers.answer": ("Answer",),
    "workers.in_process": ("StudyFailed", "recommend"),
}

# Hidden from type checkers, or every misspelt name would pass.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """A name of ``__all__``, loaded now (PEP 562)."""
        for home, names in _HOMES.items():
            if name in names:
                value = getattr(import_module(home), name)
                globals()[name] = value
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
