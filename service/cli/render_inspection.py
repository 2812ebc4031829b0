"""What ``inspect`` found, for a person on a terminal."""

from __future__ import annotations

from shlex import quote
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.cli.errors import one_line
from service.cli.render import console, count, print_list, print_rows

# More columns than these are told by kind, with a few names each.
MOST_COLUMNS, NAMES_SHOWN, MOST_PREVIEWED = 60, 4, 20
LONGEST_NAME, LONGEST_VALUE, MOST_CLASSES = 40, 20, 8
UNMEASURED = "not measured here (recommend says it after a few steps)"


def inspection(found: dict[str, Any], out: Console | None = None) -> None:
    """What would be learned, from how many rows, by which network; each column; what is worth knowing."""
    out = out or console()
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in _facts(found):
        table.add_row(name, Text(text))
    out.print(table)
    if found["columns"]:
        out.print()
        out.print(Text("Columns", style="bold"))
        print_rows(out, _columns(found["columns"]))
    _print_preview(found["preview"], out)
    print_list(out, "Warnings", found["warnings"])
    print_list(out, "Data", found["report"])


def preview(found: dict[str, Any], source: str, out: Console | None = None) -> None:
    """The columns of a table without a target, and how to name one. ``source``: as it was given."""
    out = out or console()
    out.print(Text(one_line(f"{count(found['rows'], 'row')}, {count(len(found['columns']), 'column')}")))
    _print_preview(found["columns"], out)
    print_list(out, "Warnings", found["warnings"])
    print_list(out, "Data", found["report"])
    name = found["columns"][-1]["name"] if found["columns"] else "COLUMN"
    out.print()
    out.print(Text(one_line(f"Name the column to predict: whichopt inspect {quote(source)} --target {quote(name)}")))


def _print_preview(columns: list[dict[str, Any]], out: Console) -> None:
    if not columns:
        return
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("column", overflow="fold", max_width=LONGEST_NAME)
    for name in ("type", "missing", "min", "median", "max"):
        table.add_column(name, justify="left" if name == "type" else "right", overflow="fold")
    for place in range(max(len(column["examples"]) for column in columns)):
        table.add_column(f"row {place + 1}", justify="right", overflow="fold", max_width=LONGEST_VALUE)
    for column in columns[:MOST_PREVIEWED]:
        ends = [column[key] for key in ("least", "middle", "most")]
        table.add_row(
            Text(one_line(column["name"])),
            column["role"],
            f"{column['missing']:,}" if column["missing"] else "",
            *("" if end is None else end if isinstance(end, str) else f"{end:.6g}" for end in ends),
            *(Text(one_line(example)[:LONGEST_VALUE]) for example in column["examples"]),
        )
    out.print()
    out.print(Text("First rows", style="bold"))
    print_rows(out, table)
    if columns[MOST_PREVIEWED:]:
        out.print(Text(f"and {count(len(columns) - MOST_PREVIEWED, 'column')} more"))


def _facts(found: dict[str, Any]) -> list[tuple[str, str]]:
    rows, model, forecast = found["rows"], found["model"], found["forecast"]
    turns = "; five folds take turns in the confirmation" if found["folds"] > 1 else ""
    split = (
        f"{rows['train']:,} for training, {rows['validation']:,} for validation, {rows['test']:,} for the test{turns}"
    )
    wanted = "higher" if found["direction"] == "maximize" else "lower"
    weights = count(model["parameters"], "weight")
    facts = [
        ("task", _task(found)),
        ("metric", f"{found['metric']}, {wanted} is better"),
        ("rows", split),
        ("model", f"{model['name']} fits, {weights}: {model['layers']}"),
        ("training", f"{count(found['steps'], 'step')} of {count(found['batch_size'], 'row')}"),
        ("budget", UNMEASURED if forecast is None else forecast["sentence"]),
    ]
    return [(name, one_line(text)) for name, text in facts]


def _task(found: dict[str, Any]) -> str:
    if found["target"] is None:
        return "the model's own" if found["task"] == "own" else str(found["task"])
    classes = found["classes"] or []
    shown = ", ".join(classes[:MOST_CLASSES]) + (
        f" and {len(classes) - MOST_CLASSES} more" if classes[MOST_CLASSES:] else ""
    )
    which = f", {len(classes)} classes: {shown}" if classes else ""
    return f"{found['task']} of {found['target']!r}{which}"


def _columns(columns: list[dict[str, Any]]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("column" if len(columns) <= MOST_COLUMNS else "columns", overflow="fold", max_width=LONGEST_NAME)
    table.add_column("type", no_wrap=True)
    table.add_column("missing", justify="right", no_wrap=True)
    table.add_column("features", justify="right", no_wrap=True)
    table.add_column("what is done", overflow="fold")
    for name, role, missing, features, done in _rows(columns):
        table.add_row(
            Text(one_line(name)), role, f"{missing:,}" if missing else "", f"{features:,}", Text(one_line(done))
        )
    return table


def _rows(columns: list[dict[str, Any]]) -> list[tuple[str, str, int, int, str]]:
    """(name, type, rows without a value, features, what is done) of each column, or of many those that share all this."""
    if len(columns) <= MOST_COLUMNS:
        return [(c["name"], c["role"], c["missing"], c["features"], c["done"]) for c in columns]
    kinds: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for column in columns:
        kinds.setdefault((column["role"], column["done"]), []).append(column)
    rows = []
    for (role, done), alike in sorted(kinds.items(), key=lambda item: -len(item[1])):
        names = ", ".join(str(c["name"])[:LONGEST_NAME] for c in alike[:NAMES_SHOWN])
        more = f" and {len(alike) - NAMES_SHOWN:,} more" if len(alike) > NAMES_SHOWN else ""
        missing, features = (sum(c[key] for c in alike) for key in ("missing", "features"))
        rows.append((names + more, role, missing, features, done))
    return rows
