"""Trainers that people use: Hugging Face's and Lightning's run our optimizers, save on the way, and resume."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from optim_core.transforms.torch_adapter import build_optimizer

NAMES = ["adamw", "lion", "muon", "schedule_free_adamw", "soap", "lookahead(adamw)"]
STEPS, SAVED_AT = 20, 10
Build = Callable[[torch.nn.Module], torch.optim.Optimizer]

# Lightning's own calls, and a checkpoint that stays in the folder of the run that saved it.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.. is deprecated"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed"),
]


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is fetched, nothing is sent, and what a trainer seeds is not seen by other tests."""
    for name in ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        monkeypatch.setenv(name, "1")
    with torch.random.fork_rng():
        yield


def ours(name: str) -> Build:
    return lambda model: build_optimizer(name, model)


def torchs(model: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters())


def weights(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def assert_same(found: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert [name for name, p in right.items() if not torch.equal(found[name], p)] == []


# Hugging Face


class Sentences(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 48

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        tokens = torch.randint(0, 32, (12,), generator=torch.Generator().manual_seed(i))
        return {"input_ids": tokens, "labels": tokens}


def hugging_face(build: Build, folder: Path, resume: Path | None = None, looks: bool = True) -> tuple[Any, Any]:
    """A model after 20 steps in Hugging Face's Trainer, and its optimizer; with ``looks`` it evaluates and saves."""
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    torch.manual_seed(3)
    # Evaluating draws from the generator that dropout uses.
    off = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "bos_token_id": 0, "eos_token_id": 0}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=32, n_positions=12, n_embd=16, n_layer=1, n_head=2, **off))
    optimizer = build(model)
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=STEPS,
        per_device_train_batch_size=4,
        warmup_steps=2,
        eval_strategy="steps" if looks else "no",
        eval_steps=5,
        save_strategy="steps" if looks else "no",
        save_steps=SAVED_AT,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        seed=1,
    )
    data = Sentences()
    trainer = Trainer(model, arguments, train_dataset=data, eval_dataset=data, optimizers=(optimizer, None))
    trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    assert trainer.state.global_step == STEPS
    return model, optimizer


@pytest.mark.parametrize("build", [torchs, *map(ours, NAMES)], ids=["torch", *NAMES])
def test_hugging_faces_trainer_resumes_to_the_same_weights(build: Build, tmp_path: Path) -> None:
    plain, optimizer = hugging_face(build, tmp_path / "plain", looks=False)
    model, saving = hugging_face(build, tmp_path / "saving")
    resumed, after = hugging_face(build, tmp_path / "resumed", resume=tmp_path / "saving" / f"checkpoint-{SAVED_AT}")
    assert {int(own["step"]) for own in optimizer.state.values()} == {STEPS}
    # Evaluating shows the answer, which is another point than the one that is trained.
    for one in (saving, after):
        if hasattr(one, "train"):
            one.train()
    assert_same(weights(model), weights(plain))
    assert_same(weights(resumed), weights(plain))


# Lightning


def batches() -> torch.utils.data.DataLoader:
    """As many as there are steps up to the checkpoint: within an epoch Lightning does not go on where it was."""
    x = torch.randn(4 * SAVED_AT, 6, generator=torch.Generator().manual_seed(2))
    rows = torch.utils.data.TensorDataset(x, x[:, :2].sin())
    return torch.utils.data.DataLoader(rows, batch_size=4)


def lightning(build: Build, folder: Path, resume: Path | None = None, looks: bool = True) -> tuple[Any, Any]:
    """A model after 20 steps in Lightning's Trainer, and its optimizer; with ``looks`` it evaluates and saves."""
    from lightning import LightningModule, Trainer
    from lightning.pytorch.callbacks import ModelCheckpoint

    class Regression(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.inner = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 8))
            self.out = torch.nn.Linear(8, 2)

        def training_step(self, batch: list[Tensor]) -> Tensor:
            return torch.nn.functional.mse_loss(self.out(self.inner(batch[0])), batch[1])

        validation_step = training_step

        def configure_optimizers(self) -> dict[str, Any]:
            optimizer = build(self)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    torch.manual_seed(3)
    model = Regression()
    saver = ModelCheckpoint(folder, filename="{step}", every_n_train_steps=SAVED_AT, save_top_k=-1)
    trainer = Trainer(
        accelerator="cpu",
        callbacks=[saver] if looks else [],
        default_root_dir=folder,
        enable_checkpointing=looks,
        enable_model_summary=False,
        enable_progress_bar=False,
        limit_val_batches=2 if looks else 0,
        logger=False,
        max_steps=STEPS,
    )
    trainer.fit(model, batches(), batches(), ckpt_path=resume)
    assert trainer.global_step == STEPS
    return model, trainer.optimizers[0]


@pytest.mark.parametrize("build", [torchs, *map(ours, NAMES)], ids=["torch", *NAMES])
def test_lightnings_trainer_resumes_to_the_same_weights(build: Build, tmp_path: Path) -> None:
    plain, optimizer = lightning(build, tmp_path / "plain", looks=False)
    model, _ = lightning(build, tmp_path / "saving")
    resumed, _ = lightning(build, tmp_path / "resumed", resume=tmp_path / "saving" / f"step={SAVED_AT}.ckpt")
    assert {int(own["step"]) for own in optimizer.state.values()} == {STEPS}
    assert_same(weights(model), weights(plain))
    assert_same(weights(resumed), weights(plain))
