"""For Hugging Face's Trainer (``whichopt[transformers]``).

    for trial in study.trials():
        trainer = Trainer(
            model, TrainingArguments(..., max_steps=trial.steps, seed=trial.seed, max_grad_norm=0.0),
            train_dataset=..., eval_dataset=..., optimizers=trial.build(model), callbacks=[TrialCallback(trial)],
        )
        trainer.train()
        trial.tell(trainer.evaluate()["eval_loss"])

``max_grad_norm=0.0``: the Trainer else clips gradients by itself, whatever the trial asks for.
"""

from __future__ import annotations

from typing import Any, Protocol

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class Reporting(Protocol):
    """A trial of ``service.client`` or of ``whichopt.distributed``."""

    def report(self, step: int, loss: float | None = None, value: float | None = None) -> bool: ...


class TrialCallback(TrainerCallback):
    """Reports the training loss after every ``logging_steps``, and stops the training where the trial shall not go on.

    ``metric``: a key of the evaluation's metrics, such as ``eval_accuracy``, to report as the trial's metric.
    """

    def __init__(self, trial: Reporting, metric: str | None = None) -> None:
        self.trial, self.metric = trial, metric

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Report the loss."""
        if logs and "loss" in logs and not self.trial.report(state.global_step, loss=logs["loss"]):
            control.should_training_stop = True

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Report the metric."""
        if self.metric is None or not metrics:
            return
        if not self.trial.report(state.global_step, value=metrics[self.metric]):
            control.should_training_stop = True
