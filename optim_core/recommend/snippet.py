"""The answer as Python: lines that build optimizer and scheduler, given ``model`` and ``total_steps``."""

from __future__ import annotations

from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.spec.schedules import complete_schedule
from optim_core.spec.trial import Configuration

# How torch.optim names what the catalogue names; betas are joined separately.
_FLAGS = {"nesterov": {"nesterov": "True"}, "amsgrad": {"amsgrad": "True"}}


def make_snippet(configuration: Configuration) -> str:
    """Runnable source. It needs ``model`` (an nn.Module) and ``total_steps`` (optimizer steps of the whole run).

    torch.optim alone where torch has the method, else the adapter of ``optim_core``.
    """
    row = OPTIMIZERS[configuration.optimizer]
    schedule = complete_schedule(configuration.schedule)
    optimizer = _torch_optimizer(configuration) if row.torch_class else _adapter(configuration)
    imports = ["import torch"]
    if schedule["name"] in ("cosine",):
        imports.insert(0, "import math\n")
    if not row.torch_class:
        imports.append("\nfrom optim_core.transforms.torch_adapter import build_optimizer")
    parts = ["\n".join(imports), optimizer, _scheduler(schedule), _loop(configuration)]
    return "\n\n".join(parts) + "\n"


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


def _adapter(configuration: Configuration) -> str:
    arguments = {**_arguments(configuration), "weight_decay": _number(configuration.hyperparameters["weight_decay"])}
    listed = "".join(f", {key}={value}" for key, value in arguments.items())
    return f'optimizer = build_optimizer("{configuration.optimizer}", model{listed})'


def _scheduler(schedule: dict[str, str | float]) -> str:
    name = str(schedule["name"])
    if name == "one_cycle":
        return (
            "scheduler = torch.optim.lr_scheduler.OneCycleLR(\n"
            '    optimizer, max_lr=[g["lr"] for g in optimizer.param_groups], total_steps=total_steps,\n'
            f"    pct_start={_number(schedule['pct_start'])}, div_factor={_number(schedule['div_factor'])}, "
            f"final_div_factor={_number(schedule['final_div_factor'])}, cycle_momentum=False,\n)"
        )
    end = float(schedule.get("end_factor", 0.0))
    half_cosine = "(1 + math.cos(math.pi * step / total_steps)) / 2"
    body = {
        "constant": "1.0",
        "cosine": f"{{e}} + (1 - {{e}}) * {half_cosine}" if end else half_cosine,
        "linear": "1 - (1 - {e}) * step / total_steps" if end else "1 - step / total_steps",
        "step": "{g} ** (step // max(1, round({f} * total_steps)))",
    }[name].format(
        e=_number(end),
        g=_number(schedule.get("gamma", 0.0)),
        f=repr(schedule.get("step_fraction", 0.0)),
    )
    warmup = float(schedule.get("warmup_fraction", 0.0))
    lines = ["def multiplier(step):", "    step = min(step, total_steps - 1)", f"    value = {body}"]
    if warmup > 0:
        lines.append(f"    warmup = round({_number(warmup)} * total_steps)")
        lines.append("    return value * min(1.0, (step + 1) / warmup) if warmup else value")
    else:
        lines[-1:] = [f"    return {body}"]
        if name == "constant":
            lines.pop(1)
    return "\n" + "\n".join(lines) + "\n\n\nscheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, multiplier)"


def _loop(configuration: Configuration) -> str:
    clip = configuration.techniques.get("clip_norm")
    before = f"torch.nn.utils.clip_grad_norm_(model.parameters(), {_number(clip)}); " if clip else ""
    return f"# In the loop, once per batch: loss.backward(); {before}optimizer.step(); scheduler.step()"
