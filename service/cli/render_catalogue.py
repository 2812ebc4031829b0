"""The catalogue of optimizers for a person on a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from optim_core.spec.optimizers.families import FAMILIES
from service.cli.render import console, number, print_rows

DEFAULT_MARK, WIDE = "*", 100
GRADIENTS = {"full_batch": "as many as its search asks for", "gradient_free": "none"}
OTHER_SCHEDULES = {
    "any": "all fit",
    "decaying": "those that decay",
    "constant": "none fits",
    "no_restarts": "those without restarts",
    "none": "",
}


def optimizers(rows: list[dict[str, Any]], out: Console | None = None) -> None:
    """The catalogue by group, one line an optimizer where the terminal is wide enough."""
    out = out or console()
    widest = max(len(row["name"]) for row in rows)
    print_rows(out, _columns(widest, header=True))
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
            print_rows(out, table)
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
    print_rows(out, facts)
    for table in _hyperparameters(row["hyperparameters"], one=out.width >= WIDE):
        out.print()
        print_rows(out, table)


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
        ("in PyTorch", f"torch.optim.{row['torch_class']}" if row["torch_class"] else "through optim_core"),
        ("reference", row["reference"]),
    ]
    return [(label, text) for label, text in facts if text]
