"""For Lightning (``whichopt[lightning]``).

class Net(LightningModule):
    def configure_optimizers(self):
        optimizer, scheduler = self.trial.build(self)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]

for trial in study.trials():
    trainer = Trainer(max_steps=trial.steps, callbacks=[TrialCallback(trial)])
    trainer.fit(net, batches, held_out)
    [metrics] = trainer.validate(net, held_out)  # after the last step, which is rarely the end of an epoch
    trial.tell(metrics["val_loss"])
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from lightning import Callback, LightningModule, Trainer


class Reporting(Protocol):
    """A trial of ``service.client`` or of ``whichopt.distributed``."""

    def report(self, step: int, loss: float | None = None, value: float | None = None) -> bool: ...


class TrialCallback(Callback):
    """Reports the loss of every training batch, and stops the training where the trial shall not go on. Validated is what
    ``optimizer.eval()`` puts into the weights.

    ``metric``: a name among the logged metrics, such as ``val_accuracy``, to report as the metric after each validation.
    """

    def __init__(self, trial: Reporting, metric: str | None = None) -> None:
        self.trial, self.metric = trial, metric

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Report the loss."""
        loss = outputs["loss"] if isinstance(outputs, Mapping) else outputs
        if loss is not None and not self.trial.report(trainer.global_step, loss=float(loss)):
            trainer.should_stop = True

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the weights that count in place."""
        for optimizer in _own(trainer):
            optimizer.eval()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the metric, and go on from the trained weights."""
        for optimizer in _own(trainer):
            optimizer.train()
        if self.metric is None or trainer.sanity_checking or self.metric not in trainer.callback_metrics:
            return
        if not self.trial.report(trainer.global_step, value=float(trainer.callback_metrics[self.metric])):
            trainer.should_stop = True

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the weights that count in place."""
        for optimizer in _own(trainer):
            optimizer.eval()


def _own(trainer: Trainer) -> list[Any]:
    return [optimizer for optimizer in trainer.optimizers if hasattr(optimizer, "eval")]
