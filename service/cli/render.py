"""The answer and the lists, for a person on a terminal. Numbers come from the JSON documents, nothing is computed anew."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from optim_core.spec.optimizers.families import FAMILIES
from service.cli.progress import describe, duration

PLAIN_WIDTH = 110
DEFAULT_MARK, WIDE = "*", 100
GRADIENTS = {"full_batch": "as many as its search asks for", "gradient_free": "none"}
OTHER_SCHEDULES = {
    "any": "all fit",
    "decaying": "those that decay",
    "constant": "none fits",
    "no_restarts": "those without restarts",
    "none": "",
}
VERDICT_STYLE = {"better": "bold green", "no_difference": "bold cyan", "inconclusive": "bold yellow"}


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to the console script, which ends quietly."""
        raise BrokenPipeError


def console() -> Console:
    """Standard output; as wide as the terminal, or a fixed width in a file."""
    out = _Console(highlight=False)
    return out if out.is_terminal else _Console(highlight=False, width=PLAIN_WIDTH)


def number(value: float | None) -> str:
    """Four significant digits, a dash for nothing."""
    return "–" if value is None else f"{value:.4g}"


def interval(bounds: list[float] | None) -> str:
    """``[0.96, 0.98]``."""
    return "" if bounds is None else f"[{number(bounds[0])}, {number(bounds[1])}]"


def recommendation(answer: dict[str, Any], out: Console | None = None) -> None:
    """Verdict, settings, league, snippet, cost, and what was done to the data."""
    out = out or console()
    metric = answer["metric"]
    out.print(Text(answer["summary"], style=VERDICT_STYLE[answer["verdict"]]))
    out.print()
    _settings(answer, out)
    out.print()
    out.print(_league(answer))
    for row in answer["equivalent"]:
        chosen = row["configuration"]
        out.print(Text(f"equal within the margin: {configuration(chosen)}, {number(row['score']['mean'])}"))
    out.print(Text(f"scores: {metric['name']} on the {metric['split']} split, higher is better"
                   if metric["direction"] == "maximize" else
                   f"scores: {metric['name']} on the {metric['split']} split, lower is better"))  # fmt: skip
    _list(out, "Data", answer["dataset"]["report"])
    out.print()
    out.print(Text("Paste into your training script", style="bold"))
    code = answer["snippet"].rstrip()
    # In a file every line of code stays whole.
    out.print(Syntax(code, "python", background_color="default") if out.is_terminal else Text(code), soft_wrap=True)
    out.print()
    cost = answer["cost"]
    out.print(
        Text(
            f"Cost: {cost['trials']} trials, {cost['train_steps']:,} training steps, {duration(cost['seconds'])}"
            f" on {cost['device']}, {cost['packs']} packs of {cost['mean_pack_size']:.1f} trials ({answer['engine']})"
        )
    )
    out.print(Text(f"Study {answer['study']} · reproduce the score: {answer['replay']['command']}"))


def configuration(chosen: dict[str, Any]) -> str:
    """``adamw lr 0.01, beta1 0.9 · cosine``: one line."""
    values = settings(chosen["hyperparameters"])
    extra = "".join(f" · {name} {_value(value)}" for name, value in chosen["techniques"].items())
    return f"{chosen['optimizer']} {values} · {schedule(chosen['schedule'])}{extra}"


def settings(values: dict[str, Any]) -> str:
    """``lr 0.01, beta1 0.9``: the learning rate first."""
    ordered = sorted(values.items(), key=lambda item: item[0] != "lr")
    return ", ".join(f"{name} {_value(value)}" for name, value in ordered)


def schedule(chosen: dict[str, Any]) -> str:
    """``cosine (warmup_fraction 0.05)``: parameters at zero are left out."""
    parts = [f"{name} {_value(value)}" for name, value in chosen.items() if name != "name" and value]
    return str(chosen["name"]) + (f" ({', '.join(parts)})" if parts else "")


def _settings(answer: dict[str, Any], out: Console) -> None:
    chosen, score, effect = answer["recommended"], answer["score"], answer["effect"]
    tuned, default = answer["baselines"]["adamw_tuned"], answer["baselines"]["adamw_default"]
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("optimizer", Text(chosen["optimizer"]))
    table.add_row("settings", settings(chosen["hyperparameters"]))
    table.add_row("schedule", schedule(chosen["schedule"]))
    if chosen["techniques"]:
        table.add_row("techniques", ", ".join(f"{k} {_value(v)}" for k, v in chosen["techniques"].items()))
    table.add_row("score", f"{_score(score)} over {score['seeds']} fresh seeds")
    table.add_row("tuned AdamW", _score(tuned))
    table.add_row("default AdamW", _score(default))
    table.add_row("difference", f"{number(effect['difference'])} {interval(effect['ci95'])} to tuned AdamW; "
                                f"probability that it is better {effect['probability_better']:.0%}")  # fmt: skip
    out.print(table)


def _score(score: dict[str, Any]) -> str:
    return f"{number(score['mean'])} {interval(score['ci95'])}"


def _league(answer: dict[str, Any]) -> Table:
    table = Table(title="League of optimizers", title_justify="left", title_style="bold")
    table.add_column("optimizer", no_wrap=True)
    for title in ("best", "95 % interval", "trials", "diverged", "lr width", "step", "state/weight"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in answer["league"]:
        best = number(row["best"]) + ("" if row["confirmed"] or row["best"] is None else " *")
        width = "–" if row["lr_width_decades"] is None else f"{row['lr_width_decades']:.1f} dec"
        step = "–" if row["step_s"] is None else f"{row['step_s'] * 1e3:.2f} ms"
        bold = "bold" if row["optimizer"] == answer["recommended"]["optimizer"] else ""
        table.add_row(
            row["optimizer"], best, interval(row["ci95"]) or "–", str(row["trials"]), f"{row['divergence_rate']:.0%}",
            width, step, f"{row['state_bytes_per_parameter']:g} B", style=bold,
        )  # fmt: skip
    if any(not row["confirmed"] and row["best"] is not None for row in answer["league"]):
        table.caption = "* searched value on the validation split, not confirmed on fresh seeds"
        table.caption_justify = "left"
    return table


def _list(out: Console, title: str, lines: list[str]) -> None:
    if lines:
        out.print()
        out.print(Text(title, style="bold"))
        for line in lines:
            out.print(Text(f"  {line}"))


def _value(value: Any) -> str:
    return number(value) if isinstance(value, float) else str(value)


def studies(rows: list[dict[str, Any]], out: Console | None = None) -> None:
    """One line a study."""
    out = out or console()
    table = Table("study", "status", "model", "data", "winner", "verdict", "trials", "created", box=None)
    for row in rows:
        created = time.strftime("%Y-%m-%d %H:%M", time.localtime(row["created_at"]))
        cells = (row["id"], row["status"], row["model"], row["dataset"], row["winner"] or "", row["verdict"] or "",
                 str(row["progress"]["trials_done"]), created)  # fmt: skip
        table.add_row(*(Text(cell) for cell in cells))
    out.print(table if rows else Text("no studies yet"))


def study(row: dict[str, Any], out: Console | None = None) -> None:
    """One study that has no answer (yet)."""
    out = out or console()
    out.print(Text(f"{row['id']}  {row['name'] or ''}".rstrip(), style="bold"))
    out.print(Text(f"{row['status']}: {row['model']} on {row['dataset']}"))
    out.print(Text(describe(row)))
    if row["error"]:
        out.print(Text(f"{row['error']['code']}: {row['error']['message']}"))


def optimizers(rows: list[dict[str, Any]], out: Console | None = None) -> None:
    """The catalogue by group, one line an optimizer where the terminal is wide enough."""
    out = out or console()
    widest = max(len(row["name"]) for row in rows)
    out.print(_columns(widest, header=True))
    for title in FAMILIES:
        table = _columns(widest)
        for row in (row for row in rows if row["family"] == title):
            state, step = f"{row['state_bytes_per_parameter']:g} B", f"{row['step_cost']:g}×"
            mark = Text(DEFAULT_MARK if row["searched"] else "", style="green")
            name = Text(row["name"], style="bold" if row["searched"] else "")
            table.add_row(mark, name, Text(state), Text(step), Text(row["wins_when"]))
        if table.row_count:
            out.print()
            out.print(Text(title, style="bold cyan"))
            out.print(table)
    out.print()
    out.print(Text(f"{DEFAULT_MARK} competes by default; a study may name any other. State: bytes a weight (float32). "
                   "Step: arithmetic relative to SGD. The last group goes around any gradient method, as in "
                   "lookahead(sgd); shown around adamw. One in detail: whichopt optimizers NAME"))  # fmt: skip


def _columns(widest: int, header: bool = False) -> Table:
    """The columns of the catalogue, equally wide in every group."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=header)
    table.add_column("", width=1)
    table.add_column("name", width=widest, no_wrap=True)
    table.add_column("state", width=6, justify="right", no_wrap=True)
    table.add_column("step", width=4, justify="right", no_wrap=True)
    table.add_column("good for")
    return table


def optimizer(row: dict[str, Any], out: Console | None = None) -> None:
    """One optimizer: formula, where it wins, what it costs, ranges."""
    out = out or console()
    out.print(Text(row["title"], style="bold"))
    out.print(Text(row["formula"]))
    out.print()
    facts = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    for label, text in _facts(row):
        facts.add_row(label, Text(text))
    out.print(facts)
    for table in _hyperparameters(row["hyperparameters"], one=out.width >= WIDE):
        out.print()
        out.print(table)


def _hyperparameters(rows: list[dict[str, Any]], one: bool) -> list[Table]:
    """Ranges and reasons: in one table, or, where that would squeeze the reasons, in two."""
    ranges = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("hyperparameter", "default", "from", "to", "scale"):
        ranges.add_column(title, no_wrap=True)
    reasons = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    if one:
        ranges.add_column("reason")
    for hyper in rows:
        ends = ("", "") if hyper["sample_as"] == "flag" else (number(hyper["low"]), number(hyper["high"]))
        default = ("on" if hyper["default"] else "off") if hyper["sample_as"] == "flag" else number(hyper["default"])
        scale = hyper["scale"] + (", whole" if hyper["whole"] else "")
        cells = (hyper["name"], default, *ends, scale, *([hyper["reason"]] if one else []))
        ranges.add_row(*(Text(cell) for cell in cells))
        reasons.add_row(Text(hyper["name"]), Text(hyper["reason"]))
    return [ranges] if one else [ranges, reasons]


def _facts(row: dict[str, Any]) -> list[tuple[str, str]]:
    """What is known of an optimizer besides its formula and its hyperparameters."""
    gradients = f"{row['gradients']:g}" if row["kind"] == "gradient" else GRADIENTS[row["kind"]]
    schedules = (
        "none: it sets the size of its steps by itself" if row["fits"] == "none" else ", ".join(row["schedules"])
    )
    elsewhere = "call optimizer.eval() before evaluating or saving, optimizer.train() before training goes on"
    facts = [
        ("good for", row["wins_when"]),
        ("beware", row["pitfalls"]),
        ("group", row["family"]),
        ("competes", "by default" if row["searched"] else "when a study names it"),
        ("applies to", row["applies_to"]),
        ("state", f"{row['state_bytes_per_parameter']:g} bytes a weight (float32)"),
        ("step", f"{row['step_cost']:g} × the arithmetic of SGD"),
        ("gradients a step", gradients),
        ("trains", "many trials in one batched run" if row["batched"] else "one trial at a time, on all training rows"),
        ("evaluate", elsewhere if row["answers_elsewhere"] else "at the weights as they are"),
        ("weight decay", row["weight_decay"]),
        ("schedules tried", schedules),
        ("other schedules", OTHER_SCHEDULES[row["fits"]]),
        ("in PyTorch", f"torch.optim.{row['torch_class']}" if row["torch_class"] else "through Whichopt's adapter"),
        ("reference", row["reference"]),
    ]
    return [(label, text) for label, text in facts if text]
