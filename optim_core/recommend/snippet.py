"""The answer as Python: lines that build optimizer and scheduler, given ``model`` and ``total_steps``."""

from __future__ import annotations

from optim_core.recommend.schedule_snippet import loop_lines, scheduler_lines
from optim_core.spec.optimizers import OPTIMIZERS, OptimizerInfo
from optim_core.spec.schedules import complete_schedule
from optim_core.spec.techniques import TECHNIQUES
from optim_core.spec.trial import Configuration

# How torch.optim names what the catalogue names; betas are joined separately.
_FLAGS = {"nesterov": {"nesterov": "True"}, "amsgrad": {"amsgrad": "True"}}


def make_snippet(configuration: Configuration) -> str:
    """Runnable source. It needs ``model`` (an nn.Module) and ``total_steps`` (optimizer steps of the whole run).

    torch.optim alone where torch has the method, else the adapter of ``optim_core``.
    """
    row = OPTIMIZERS[configuration.optimizer]
    schedule = complete_schedule(configuration.schedule)
    # The loop clips by itself, and loss and network are not the optimizer's.
    inner = {k: v for k, v in configuration.techniques.items() if TECHNIQUES[k].acts_on not in ("loss", "network")}
    inner.pop("clip_norm", None)
    alone = row.torch_class is not None and not inner
    optimizer = _torch_optimizer(configuration) if alone else _adapter(configuration, inner)
    scheduler = scheduler_lines(schedule) if row.kind == "gradient" else ""
    imports = ["import torch"]
    if "math." in scheduler:
        imports.insert(0, "import math\n")
    if not alone:
        imports.append("\nfrom optim_core.transforms.torch_adapter import build_optimizer")
    parts = ["\n".join(imports), optimizer, scheduler, _loop(configuration, schedule, row, inner)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _number(value: float | bool | str) -> str:
    return repr(value) if isinstance(value, bool) else f"{float(value):.6g}"


def _arguments(configuration: Configuration) -> dict[str, str]:
    return {key: _number(value) for key, value in configuration.hyperparameters.items() if key != "weight_decay"}


def _torch_optimizer(configuration: Configuration) -> str:
    row = OPTIMIZERS[configuration.optimizer]
    arguments = _arguments(configuration)
    if "beta1" in arguments:
        arguments["betas"] = f"({arguments.pop('beta1')}, {arguments.pop('beta2')})"
    arguments |= _FLAGS.get(configuration.optimizer, {})
    decay = float(configuration.hyperparameters["weight_decay"])
    listed = "".join(f", {key}={value}" for key, value in arguments.items())
    if decay == 0:
        weight_decay = ", weight_decay=0.0" if row.weight_decay == "decoupled" else ""
        return f"optimizer = torch.optim.{row.torch_class}(model.parameters(){listed}{weight_decay})"
    return (
        "# Weight decay acts on matrices, not on biases and norms.\n"
        "groups = [\n"
        f'    {{"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": {_number(decay)}}},\n'
        '    {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},\n'
        "]\n"
        f'optimizer = torch.optim.{row.torch_class}([g for g in groups if g["params"]]{listed})'
    )


def _adapter(configuration: Configuration, techniques: dict[str, float]) -> str:
    arguments = {**_arguments(configuration), "weight_decay": _number(configuration.hyperparameters["weight_decay"])}
    listed = "".join(f", {key}={value}" for key, value in arguments.items())
    if techniques:
        values = {key: _number(value) for key, value in techniques.items()}
        if "swa" in values:
            values["swa"] = f"round({values['swa']} * total_steps)"
        listed += ", techniques={" + ", ".join(f'"{key}": {value}' for key, value in values.items()) + "}"
    return f'optimizer = build_optimizer("{configuration.optimizer}", model{listed})'


def _loop(
    configuration: Configuration, schedule: dict[str, str | float], row: OptimizerInfo, inner: dict[str, float]
) -> str:
    """Comments that say what the training loop does with all this."""
    clip = configuration.techniques.get("clip_norm")
    before = f"torch.nn.utils.clip_grad_norm_(model.parameters(), {_number(clip)}); " if clip else ""
    if row.kind != "gradient":
        lines = [
            "# closure(): optimizer.zero_grad(); the loss of all training rows; loss.backward(); return the loss",
            "# In the loop: optimizer.step(closure) until the loss stops falling; there is no learning rate to schedule.",
        ]
    elif row.gradients > 1:
        lines = [
            f"# closure(): optimizer.zero_grad(); the loss of the batch; loss.backward(); {before}return the loss",
            loop_lines(schedule, "optimizer.step(closure)"),
        ]
    else:
        lines = [loop_lines(schedule, f"loss.backward(); {before}optimizer.step()")]
    if row.answers_elsewhere or {"ema", "swa"} & set(inner):
        lines.append("# Before evaluating or saving: optimizer.eval(). Before training goes on: optimizer.train().")
    if "label_smoothing" in configuration.techniques:
        value = _number(configuration.techniques["label_smoothing"])
        lines.append(f"# The training loss: torch.nn.functional.cross_entropy(outputs, y, label_smoothing={value})")
    if "dropout" in configuration.techniques:
        lines.append(f"# The model's dropout layers: torch.nn.Dropout({_number(configuration.techniques['dropout'])})")
    return "\n".join(lines)
