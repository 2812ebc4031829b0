"""The answer as Python: lines that build optimizer and scheduler, given ``model``."""

from __future__ import annotations

from textwrap import fill

from optim_core.recommend.schedule_snippet import loop_lines, scheduler_lines
from optim_core.spec.optimizers import OPTIMIZERS, OptimizerInfo
from optim_core.spec.recommendation import Trained
from optim_core.spec.schedules import complete_schedule
from optim_core.spec.techniques import TECHNIQUES
from optim_core.spec.trial import Configuration

# What torch's classes take as a pair.
# The library alone: ``make wheel-optim``. No ``pip install`` in front: nobody owns the name on an index yet.
DISTRIBUTION = "whichopt-optim"
_WIDTH = 100


def make_snippet(configuration: Configuration, trained: Trained) -> str:
    """Runnable source. It needs ``model`` (an nn.Module) alone, and says ``total_steps`` (optimizer steps of the whole run)
    as they were measured where anything depends on them, in a line to be changed.

    torch alone where torch has the method, proved equal by a test, else the library alone. Three classes of torch's are
    other methods: Muon refuses kernels, iterates in bfloat16 on every device and needs a second optimizer for all weights
    that are no hidden matrices; ASGD leaves the average in its state; LBFGS has another line search.
    """
    row = OPTIMIZERS[configuration.optimizer]
    schedule = complete_schedule(configuration.schedule)
    # The loop clips by itself, and loss and network are not the optimizer's.
    inner = {k: v for k, v in configuration.techniques.items() if TECHNIQUES[k].acts_on not in ("loss", "network")}
    inner.pop("clip_norm", None)
    alone = row.torch is not None and row.torch.at(configuration.hyperparameters) and not inner
    optimizer = _torch_optimizer(configuration, row) if alone else _library(configuration, row, inner)
    scheduler = scheduler_lines(schedule) if row.kind == "gradient" else ""
    imports = [f"import {name}" for name in ("math", "torch") if f"{name}." in optimizer + scheduler]
    if not alone:
        ours = f"import optim_core  # of the distribution {DISTRIBUTION}, or of whichopt itself"
        imports = ["\n".join(imports), ours] if imports else [ours]
    parts = ["\n\n".join(imports), f"{_found_with(trained, optimizer + scheduler)}\n{optimizer}", scheduler]
    return "\n\n".join(part for part in [*parts, _loop(configuration, schedule, row, inner)] if part) + "\n"


def _found_with(trained: Trained, source: str) -> str:
    used = "total_steps" in source
    steps = (
        f"\ntotal_steps = {trained.steps}  # as measured: set it to the optimizer steps of your whole run"
        if used
        else ""
    )
    if trained.epochs is None:
        return (
            f"# Measured in {trained.steps} steps of your own loop; learning rate and schedule depend on them.{steps}"
        )
    each = round(trained.steps / trained.epochs)
    return (
        f"# Measured with batches of {trained.batch_size} rows in {trained.steps} steps "
        f"({trained.epochs:.4g} epochs of {each} steps);\n# learning rate and schedule depend on both.{_how(trained)}{steps}"
    )


def _how(trained: Trained) -> str:
    """What else a loop has to do to train as it was measured, as lines of comment."""
    said = ""
    if trained.accumulated > 1:
        said += f"\n# A batch is {trained.accumulated} backward passes in parts, each loss divided by {trained.accumulated}."
    if trained.precision != "fp32":
        dtype = {"bf16": "bfloat16", "fp16": "float16"}[trained.precision]
        said += f"\n# Forward and loss ran under torch.autocast(device.type, dtype=torch.{dtype}), weights in float32"
        said += ", with torch.amp.GradScaler()." if trained.precision == "fp16" else "."
    return said


def _number(value: float | bool) -> str:
    """The shortest text that reads back as exactly ``value``: beta2 = 0.99999967 must not become 1."""
    return repr(value) if isinstance(value, bool) else repr(float(value))


def _arguments(configuration: Configuration, row: OptimizerInfo) -> dict[str, str]:
    whole = {h.name for h in row.hyperparameters if h.whole}
    return {
        key: str(int(value)) if key in whole else _number(value) for key, value in configuration.hyperparameters.items()
    }


def _call(function: str, arguments: list[str]) -> str:
    line = f"{function}({', '.join(arguments)})"
    if len(line) <= _WIDTH:
        return line
    # Only between arguments, never inside one.
    inside = fill(", ".join(a.replace(" ", "\0") for a in arguments) + ",", _WIDTH, initial_indent="    ",
                  subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)  # fmt: skip
    return f"{function}(\n{inside}\n)".replace("\0", " ")


def _torch_optimizer(configuration: Configuration, row: OptimizerInfo) -> str:
    twin, arguments = row.torch, _arguments(configuration, row)
    assert twin is not None
    decay = arguments.pop("weight_decay")
    for name, (first, second) in twin.pairs.items():
        arguments[name] = f"({arguments.pop(first)}, {arguments.pop(second)})"
    for name, form in twin.spelled.items():
        arguments[name] = form.format(arguments[name])
    listed = [f"{key}={value}" for key, value in {**arguments, **twin.switches}.items()]
    function = f"optimizer = torch.optim.{twin.name}"
    if float(decay) == 0:
        # Where decay is decoupled, torch's default may not be 0.
        none = ["weight_decay=0.0"] if row.weight_decay == "decoupled" else []
        return _call(function, ["model.parameters()", *listed, *none])
    return (
        "# Weight decay acts on matrices, not on biases and norms.\n"
        'norms = {p for m in model.modules() if "Norm" in type(m).__name__ for p in m.parameters()}\n'
        "others = {p for p in model.parameters() if p.ndim < 2} | norms\n"
        "groups = [\n"
        f'    {{"params": [p for p in model.parameters() if p not in others], "weight_decay": {decay}}},\n'
        '    {"params": [p for p in model.parameters() if p in others], "weight_decay": 0.0},\n'
        "]\n"
    ) + _call(function, ['[g for g in groups if g["params"]]', *listed])


def _library(configuration: Configuration, row: OptimizerInfo, techniques: dict[str, float]) -> str:
    listed = [f"{key}={value}" for key, value in _arguments(configuration, row).items()]
    if techniques:
        values = {key: _number(value) for key, value in techniques.items()}
        if "swa" in values:
            values["swa"] = f"round({values['swa']} * total_steps)"
        listed.append("techniques={" + ", ".join(f'"{key}": {value}' for key, value in values.items()) + "}")
    call = _call("optimizer = optim_core.build_optimizer", [f'"{configuration.optimizer}"', "model", *listed])
    return "".join(f"# {line}\n" for line in _roles(configuration, row)) + call


def _roles(configuration: Configuration, row: OptimizerInfo) -> list[str]:
    """What is done to which weights."""
    lines = []
    if float(configuration.hyperparameters["weight_decay"]) > 0:
        lines.append("Weight decay acts on matrices, not on biases and norms.")
    if row.applies_to != "all weights":
        lines += [f"{row.title} is for {row.applies_to}.", "optim_core.roles_of(model) says what each weight is."]
    return lines


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
