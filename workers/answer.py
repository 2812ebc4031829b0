"""A recommendation in the hands of someone who writes Python."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

# What a training loop does, not an optimizer.
_OF_THE_LOOP = frozenset({"label_smoothing", "dropout"})
WIDTH = 110


class Answer:
    """The answer of a study. ``document``: all of it, as the JSON that the API gives (``whichopt.recommendation/1``)."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document

    @property
    def verdict(self) -> str:
        """``better``, ``no_difference`` or ``inconclusive``: the recommended against AdamW at its best."""
        return self.document["verdict"]

    @property
    def headline(self) -> str:
        """The answer in a sentence."""
        return self.document["headline"]

    @property
    def summary(self) -> str:
        """What was found, in a few sentences, the gain over default AdamW first."""
        return self.document["summary"]

    @property
    def recommended(self) -> dict[str, Any]:
        """``optimizer``, ``hyperparameters``, ``schedule``, ``techniques`` and ``parameter_groups``."""
        return self.document["recommended"]

    @property
    def snippet(self) -> str:
        """Code to paste into a training script."""
        return self.document["snippet"]

    def optimizer(self, model: nn.Module, total_steps: int) -> tuple[Optimizer, LRScheduler | None]:
        """The recommended optimizer for ``model``, and its scheduler over ``total_steps`` optimizer steps, to be stepped once
        after each. Clipping is part of the optimizer's step; label smoothing and dropout are the loop's and the model's.
        None for a method without a learning rate to schedule. Raises SpecError for a model that the method cannot train.
        """
        from optim_core import build_optimizer, build_scheduler
        from optim_core.spec.optimizers import OPTIMIZERS

        chosen = self.recommended
        techniques = {name: value for name, value in chosen["techniques"].items() if name not in _OF_THE_LOOP}
        if "swa" in techniques:
            techniques["swa"] = round(techniques["swa"] * total_steps)
        built = build_optimizer(chosen["optimizer"], model, techniques=techniques, **chosen["hyperparameters"])
        if OPTIMIZERS[chosen["optimizer"]].kind != "gradient":
            return built, None
        return built, build_scheduler(built, chosen["schedule"], total_steps)

    def __repr__(self) -> str:
        return f"<Answer: {self.headline}>"

    def __str__(self) -> str:
        """What the command line prints."""
        from rich.console import Console

        text = io.StringIO()
        self._print(Console(file=text, width=WIDTH, force_jupyter=False))
        return text.getvalue()

    def _repr_html_(self) -> str:
        """The same for a notebook."""
        from rich.console import Console

        # In a notebook a console shows what it prints, wherever it is asked to print it.
        out = Console(
            file=io.StringIO(), record=True, width=WIDTH, force_terminal=True, force_jupyter=False,
            color_system="truecolor",
        )  # fmt: skip
        self._print(out)
        style = "font-family:ui-monospace,monospace;white-space:pre;overflow-x:auto;line-height:1.35"
        return out.export_html(inline_styles=True, code_format=f'<pre style="{style}">{{code}}</pre>')

    def _print(self, out: Any) -> None:
        from service.cli.render import recommendation

        recommendation(self.document, out)
