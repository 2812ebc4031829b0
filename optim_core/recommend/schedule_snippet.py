"""The schedule as Python: lines that build ``scheduler``, given ``optimizer`` and ``total_steps``.

torch's own class where it gives the same learning rates for every ``total_steps`` and every loss, else the closed form of
``optim_core.schedules`` written out in a LambdaLR, or torch's class corrected.
"""

from __future__ import annotations

from collections.abc import Mapping

from optim_core.spec.schedules import SCHEDULES

_CYCLIC = """CyclicLR(
    optimizer, base_lr=[{low_factor} * g["lr"] for g in optimizer.param_groups],
    max_lr=[g["lr"] for g in optimizer.param_groups], step_size_up=max(1, {rise_fraction} * total_steps),
    """

# Calls of torch's classes.
_CLASSES = {
    "cosine": "CosineAnnealingLR(optimizer, T_max=total_steps)",
    "linear": "LinearLR(optimizer, 1.0, {end_factor}, total_iters=total_steps)",
    "polynomial": "PolynomialLR(optimizer, total_iters=total_steps, power={power})",
    "step": "StepLR(optimizer, max(1, round({step_fraction} * total_steps)), gamma={gamma})",
    "multistep": (
        "MultiStepLR(\n    optimizer, [max(1, round(f * total_steps)) for f in ({first_milestone}, "
        "{second_milestone})], gamma={gamma},\n)"
    ),
    "exponential": "ExponentialLR(optimizer, gamma={end_factor} ** (1 / total_steps))",
    "triangular": _CYCLIC + 'mode="triangular", cycle_momentum=False,\n)',
    "triangular2": _CYCLIC + 'mode="triangular2", cycle_momentum=False,\n)',
    "exp_range": _CYCLIC + 'mode="exp_range", gamma={decay_factor} ** (1 / total_steps), cycle_momentum=False,\n)',
    "one_cycle": (
        "OneCycleLR(\n"
        '    optimizer, max_lr=[g["lr"] for g in optimizer.param_groups], total_steps=total_steps,\n'
        "    pct_start={pct_start}, div_factor={div_factor}, final_div_factor={final_div_factor}, {phases}"
        "cycle_momentum=False,\n)"
    ),
}

# torch multiplies a best loss below zero by 1 − threshold too, and takes a worse one for a better one.
_PLATEAU = """
class Plateau(torch.optim.lr_scheduler.ReduceLROnPlateau):
    def step(self, loss):  # a loss has to fall by the threshold, also below zero
        self.threshold = -{threshold} if self.best < 0 else {threshold}
        super().step(loss)


scheduler = Plateau(optimizer, factor={gamma}, patience={patience}, cooldown={cooldown}, eps=0.0)"""

# Phases of one_cycle up to the last one's end: (first step, last step, f there, f here).
_TWO_LEGS = "(0, peak, low, 1.0), (peak, last, 1.0"
_THREE_LEGS = "(0, peak, low, 1.0), (peak, 2 * peak, 1.0, low), (2 * peak, last, low"

# Bodies of f(step): statements, and last an expression.
_CONSTANT = ("1.0",)
_BODIES = {
    "constant": _CONSTANT,
    "cosine": ("{down}(1 + math.cos(math.pi * step / total_steps)) / 2",),
    "linear": ("1 - {span}step / total_steps",),
    "polynomial": ("{down}(1 - step / total_steps) ** {power}",),
    "step": ("{gamma} ** (step // max(1, round({step_fraction} * total_steps)))",),
    "multistep": (
        "milestones = [max(1, round(f * total_steps)) for f in ({first_milestone}, {second_milestone})]",
        "{gamma} ** sum(step >= milestone for milestone in milestones)",
    ),
    "exponential": ("{end_factor} ** (step / total_steps)",),
    "inverse_sqrt": (
        "rise = max(1, round({rise_fraction} * total_steps))",
        "min((step + 1) / rise, math.sqrt(rise / (step + 1)))",
    ),
    "inverse_time": ("1 / (1 + {decay} * step / total_steps)",),
    "sgdr": (
        "length, start = max(1.0, {first_cycle} * total_steps), 0.0",
        "while step >= start + length * (1 - 1e-9):  # a cycle that ends on a step, but for rounding, ends there",
        "    length, start = length * {cycle_factor}, start + length",
        "{down}(1 + math.cos(math.pi * max(0.0, step - start) / length)) / 2",
    ),
    "one_cycle": (
        "low, peak, last = 1 / {div_factor}, {pct_start} * total_steps - 1, total_steps - 1",
        "legs = [{legs}, low / {final_div_factor})]",
        "first, end, start, stop = next(leg for leg in legs if step <= leg[1])",
        "x = (step - first) / (end - first) if end > first else 1.0",
        "stop + (start - stop) * (1 + math.cos(math.pi * x)) / 2",
    ),
    "wsd": (
        "length = {decay_fraction} * total_steps",
        "x = max(0.0, (step - (total_steps - length)) / length)",
        "1 - {decayed}",
    ),
    "hold_cosine": (
        "x = max(0.0, (step / total_steps - {hold_fraction}) / (1 - {hold_fraction}))",
        "{down}(1 + math.cos(math.pi * x)) / 2",
    ),
}


def scheduler_lines(schedule: Mapping[str, str | float]) -> str:
    """Runnable source that defines ``scheduler``; it needs ``math`` where it says ``math.``. ``schedule`` is complete."""
    name = str(schedule["name"])
    words = {key: _number(float(value)) for key, value in schedule.items() if key != "name"}
    warm = words.get("warmup_fraction", "0") != "0"
    if SCHEDULES[name].stateful:
        return _plateau(words, warm)
    if name in _CLASSES and not warm and not _differs(name, schedule):
        phases = "three_phase=True, " if words.get("three_phase") == "1" else ""
        return f"scheduler = torch.optim.lr_scheduler.{_CLASSES[name].format(**words, phases=phases)}"
    return _closed_form(name, words, warm)


def loop_lines(schedule: Mapping[str, str | float], step: str) -> str:
    """Comments that say where the scheduler is stepped; ``step`` is the code of a batch up to ``optimizer.step()``."""
    if not SCHEDULES[str(schedule["name"])].stateful:
        return f"# In the loop, once per batch: {step}; scheduler.step()"
    warmup = "; warmup_scheduler.step()" if float(schedule["warmup_fraction"]) > 0 else ""
    return f"# In the loop, once per batch: {step}{warmup}\n# After each evaluation: scheduler.step(validation_loss)"


def _differs(name: str, schedule: Mapping[str, str | float]) -> bool:
    """Whether torch's class gives other rates: its end of a cosine is a learning rate, of a polynomial always zero, and a rise
    of exactly one step divides by zero, which happens in a run of 1/pct_start steps where that is a whole number.
    """
    if name in ("cosine", "polynomial"):
        return float(schedule["end_factor"]) != 0
    return name == "one_cycle" and float(schedule["pct_start"]) * round(1 / float(schedule["pct_start"])) == 1


def _number(value: float) -> str:
    """The shortest text that reads back as exactly ``value``: rounded, a milestone could move by a step."""
    short = f"{value:.6g}"
    return short if float(short) == value else repr(value)


def _closed_form(name: str, words: dict[str, str], warm: bool) -> str:
    end = words.get("end_factor", "0")
    parts = {
        "down": "" if end == "0" else f"{end} + (1 - {end}) * ",
        "span": "" if end == "0" else f"(1 - {end}) * ",
        "decayed": "math.sqrt(x)" if words.get("sqrt_shape") == "1" else "x",
        "legs": _THREE_LEGS if words.get("three_phase") == "1" else _TWO_LEGS,
    }
    # A hold to the very end leaves no length to divide by.
    body = _CONSTANT if words.get("hold_fraction") == "1" else _BODIES[name]
    *lines, value = (line.format(**words, **parts) for line in body)
    if body is not _CONSTANT or warm:
        lines.insert(0, "step = min(step, total_steps - 1)")
    if warm:
        lines += [f"value = {value}", f"warmup = round({words['warmup_fraction']} * total_steps)"]
        value = "value * min(1.0, (step + 1) / warmup) if warmup else value"
    source = "\n".join(f"    {line}" for line in [*lines, f"return {value}"])
    return (
        f"\ndef multiplier(step):\n{source}\n\n\nscheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, multiplier)"
    )


def _plateau(words: dict[str, str], warm: bool) -> str:
    """A warm-up in front must be one that multiplies the rate as it is, or it would undo the reductions."""
    warmup = (
        f"warmup = max(1, round({words['warmup_fraction']} * total_steps))\n"
        "warmup_scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / warmup, 1.0, total_iters=warmup - 1)\n\n"
        if warm
        else ""
    )
    return warmup + _PLATEAU.format(**words)
