"""Hugging Face's Trainer, Lightning and jobs of several processes bring a study to its verdict."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from service.db import Database
from tests.workers.loop_server import loop_server

SPEC: dict[str, Any] = {
    "model": {"kind": "external", "steps": 12},
    "metric": "loss",
    "search": {"optimizers": ["adamw"], "ranges": {"adamw": {"lr": [1e-3, 0.3]}}},
    "budget": {"trials": 4},
}


def table(n: int, seed: int) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 4, generator=generator)
    y = x @ torch.tensor([1.0, -2.0, 0.5, 0.0])
    return [{"x": a, "labels": b} for a, b in zip(x, y, strict=True)]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 1)

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        out = self.layer(x).squeeze(-1)
        return {"loss": nn.functional.mse_loss(out, labels), "logits": out}


@pytest.mark.filterwarnings("ignore")
def test_the_trainer_of_hugging_face_ends_in_a_verdict(sqlite: Database, tmp_path: Path) -> None:
    from transformers import Trainer, TrainingArguments

    from whichopt.transformers import TrialCallback

    with loop_server(sqlite, tmp_path) as client:
        with client.study(SPEC) as study:
            for trial in study.trials("hf"):
                torch.manual_seed(trial.seed)
                model = Net()
                arguments = TrainingArguments(
                    output_dir=str(tmp_path / "hf"), max_steps=trial.steps, seed=trial.seed % 2**31, max_grad_norm=0.0,
                    per_device_train_batch_size=8, logging_steps=3, save_strategy="no", report_to=[], use_cpu=True,
                    disable_tqdm=True, log_level="error",
                )  # fmt: skip
                trainer = Trainer(
                    model, arguments, train_dataset=table(64, 0), eval_dataset=table(32, 1),  # type: ignore[arg-type]
                    optimizers=trial.build(model), callbacks=[TrialCallback(trial, "eval_loss")],
                )  # fmt: skip
                trainer.train()
                trial.tell(trainer.evaluate()["eval_loss"])
        answer = study.recommendation()
        assert answer["verdict"] in ("no_difference", "inconclusive", "better")
        assert answer["score"]["mean"] < 5
        curve = client.trial(study.id, 0)["curve"]
        assert [p["step"] for p in curve if p["loss"] is not None] == [3, 6, 9, 12]


@pytest.mark.filterwarnings("ignore")
def test_the_trainer_stops_where_the_trial_diverged(sqlite: Database, tmp_path: Path) -> None:
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from whichopt.transformers import TrialCallback

    with loop_server(sqlite, tmp_path) as client, client.study(SPEC) as study:
        trial = next(study.trials("hf"))
        control, state = TrainerControl(), TrainerState(global_step=3)
        callback = TrialCallback(trial, "eval_loss")
        arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
        callback.on_log(arguments, state, control, logs={"loss": 0.5})
        callback.on_log(arguments, state, control, logs={"learning_rate": 0.5})
        callback.on_evaluate(arguments, state, control, metrics={"eval_loss": 0.5})
        assert not control.should_training_stop
        callback.on_log(arguments, state, control, logs={"loss": float("nan")})
        assert control.should_training_stop
        trial.finish_stopped()


@pytest.mark.filterwarnings("ignore")
def test_lightning_ends_in_a_verdict(sqlite: Database, tmp_path: Path) -> None:
    import lightning

    from whichopt.lightning import TrialCallback

    class Module(lightning.LightningModule):
        def __init__(self, trial: Any) -> None:
            super().__init__()
            self.net, self.trial = Net(), trial

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            return self.net(**batch)["loss"]

        def validation_step(self, batch: Any, index: int) -> None:
            self.log("val_loss", self.net(**batch)["loss"])

        def configure_optimizers(self) -> Any:
            optimizer, scheduler = self.trial.build(self)
            return [optimizer], [{"scheduler": scheduler, "interval": "step"}]

    loader = torch.utils.data.DataLoader(table(64, 0), batch_size=8)  # type: ignore[arg-type]
    held_out = torch.utils.data.DataLoader(table(32, 1), batch_size=32)  # type: ignore[arg-type]
    averaged = {**SPEC, "search": {**SPEC["search"], "techniques": {"ema": [0.9]}}}
    with loop_server(sqlite, tmp_path) as client:
        with client.study(averaged) as study:
            for trial in study.trials("lightning"):
                torch.manual_seed(trial.seed)
                trainer = lightning.Trainer(
                    max_steps=trial.steps, callbacks=[TrialCallback(trial, "val_loss")], accelerator="cpu", logger=False,
                    enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
                )  # fmt: skip
                module = Module(trial)
                trainer.fit(module, loader, held_out)
                # The run ends in the middle of an epoch, and averages are what counts.
                [metrics] = trainer.validate(module, held_out, verbose=False)
                x, labels = (torch.stack([row[name] for row in table(32, 1)]) for name in ("x", "labels"))
                for optimizer in trainer.optimizers:
                    optimizer.eval()
                assert metrics["val_loss"] == pytest.approx(module.net(x, labels)["loss"].item(), rel=1e-5)
                trial.tell(metrics["val_loss"])
        assert study.recommendation()["score"]["mean"] < 5
        curve = client.trial(study.id, 0)["curve"]
        assert [p["step"] for p in curve if p["loss"] is not None] == list(range(1, 13))
        assert any(p["value"] is not None for p in curve)


RANK = """
import sys, torch
from torch import distributed
from service.client import Client
from whichopt.distributed import shared_trials
rank, url, study_id, rendezvous = int(sys.argv[1]), *sys.argv[2:]
distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
client = Client(url)
seen = []
for trial in shared_trials(client.study(study_id) if rank == 0 else None, "job"):
    model = torch.nn.Linear(2, 1)
    optimizer, scheduler = trial.build(model)
    seen.append((trial.number, float(trial.hyperparameters["lr"]), trial.seed))
    for step in range(3):
        # Only rank 0 sees that trial 1 diverged; both stop at that step.
        loss = float("nan") if trial.number == 1 and step == 1 and rank == 0 else 1.0
        if not trial.report(step + 1, loss):
            seen.append(("stopped", step))
            break
    else:
        trial.tell(abs(float(trial.hyperparameters["lr"]) - 0.03) if rank == 0 else None)
print(seen, flush=True)
# A group that one rank still uses while the other takes it down aborts.
distributed.barrier()
distributed.destroy_process_group()
"""


def test_two_processes_of_one_job_train_the_same_trials(sqlite: Database, tmp_path: Path) -> None:
    with loop_server(sqlite, tmp_path) as client:
        study = client.study(SPEC)
        ranks = [
            subprocess.Popen(
                [sys.executable, "-c", RANK, str(rank), client.base_url, study.id, str(tmp_path / "rendezvous")],
                stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": os.getcwd(), "GLOO_SOCKET_IFNAME": "lo"},
            )
            for rank in range(2)
        ]  # fmt: skip
        first, second = [rank.communicate(timeout=240)[0] for rank in ranks]
        assert [rank.returncode for rank in ranks] == [0, 0]
        assert first == second
        assert "('stopped', 1)" in first
        assert client.get_study(study.id)["status"] == "completed"
        assert client.trial(study.id, 1)["state"] == "diverged"
