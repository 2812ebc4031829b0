"""The answer and the lists, for a person on a terminal. Numbers come from the JSON documents, nothing is computed anew."""

from __future__ import annotations

import io
import time
from typing import Any

from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from service.cli.errors import one_line
from service.cli.progress import describe, duration
from service.text import visible

PLAIN_WIDTH = 110
LONGEST_LINE = 100_000
SHORT_MARK, LACKING_MARK = "*", "†"
BASELINES = {"adamw_tuned": "AdamW at its best", "adamw_default": "AdamW at its defaults"}
VERDICT_STYLE = {"better": "bold green", "no_difference": "bold cyan", "inconclusive": "bold yellow"}


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to the console script, which ends quietly."""
        raise BrokenPipeError


class _File(_Console):
    """Standard output that is no terminal: text as wide as a page."""


def console() -> Console:
    """Standard output; as wide as the terminal, or a fixed width in a file."""
    out = _Console(highlight=False)
    return out if out.is_terminal else _File(highlight=False, width=PLAIN_WIDTH)


def print_rows(out: Console, table: Table) -> None:
    """Print a table. In a file each row is one line, however long, for tools that read lines."""
    if not isinstance(out, _File):
        out.print(table)
        return
    lines = _Console(file=io.StringIO(), highlight=False, width=LONGEST_LINE, color_system=None, force_jupyter=False)
    with lines.capture() as shown:
        lines.print(table)
    for line in shown.get().splitlines():
        out.print(Text(line.rstrip()), soft_wrap=True)


def number(value: float | None) -> str:
    """Four significant digits, a dash for nothing."""
    return "–" if value is None else f"{value:.4g}"


def count(n: int, noun: str) -> str:
    """``1 run``, ``1,797 rows``."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def interval(bounds: list[float]) -> str:
    """``[−0.01, 0.98]``."""
    return _signs(f"[{number(bounds[0])}, {number(bounds[1])}]")


def _signs(text: str) -> str:
    """With a true minus sign, for numbers that nobody pastes into code."""
    return text.replace("-", "\N{MINUS SIGN}")


def recommendation(answer: dict[str, Any], out: Console | None = None) -> None:
    """Verdict, settings, league, equivalents, notes, what was done to the data, snippet and cost."""
    out = out or console()
    out.print(Text(answer["headline"], style=VERDICT_STYLE[answer["verdict"]]))
    out.print(Text(answer["summary"]))
    out.print()
    _settings(answer, out)
    out.print()
    _league(answer, out)
    _equivalent(answer, out)
    print_list(out, "Notes", answer["notes"])
    print_list(out, "Data", answer["dataset"]["report"])
    out.print()
    out.print(Text("Paste into your training script", style="bold"))
    code = answer["snippet"].rstrip()
    # In a file every line of code stays whole.
    out.print(Syntax(code, "python", background_color="default") if out.is_terminal else Text(code), soft_wrap=True)
    out.print()
    cost = answer["cost"]
    own_loop = cost["device"] == "external"
    how = f" on {cost['device']}, {cost['packs']} packs of {cost['mean_pack_size']:.1f}"
    out.print(
        Text(
            f"Cost: {count(cost['trials'], 'search trial')} and {count(cost['confirmation_runs'], 'confirmation run')}, "
            f"{cost['train_steps']:,} training steps, {duration(cost['seconds'])}{'' if own_loop else how} ({answer['engine']})"
        )
    )
    if answer["study"] is not None:
        again = f" · reproduce the score: {answer['replay']['command']}" if answer["replay"]["command"] else ""
        out.print(Text(f"Study {answer['study']}{again}"))


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
    chosen, score, trivial = answer["recommended"], answer["score"], answer["trivial"]
    folds, metric = answer["replay"]["folds"], answer["metric"]
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("optimizer", Text(chosen["optimizer"]))
    table.add_row("settings", Text(settings(chosen["hyperparameters"])))
    table.add_row("schedule", Text(schedule(chosen["schedule"])))
    if chosen["techniques"]:
        table.add_row("techniques", Text(", ".join(f"{k} {_value(v)}" for k, v in chosen["techniques"].items())))
    table.add_row("score", Text(_score(score)))
    for role in BASELINES:
        table.add_row(BASELINES[role], Text(_score(answer["baselines"][role])))
    if trivial is not None:
        table.add_row(
            "no model at all",
            Text(_signs(number(trivial["score"])) + ("" if trivial["beaten"] else ", not shown to be beaten")),
        )
    for model in (answer.get("reference") or {"models": []})["models"]:
        table.add_row(model["title"], Text(f"{_signs(number(model['mean']))} {interval(model['ci95'])}, untuned"))
    table.add_row("gain", Text(_effect(answer, "gain", "over")))
    table.add_row("difference", Text(_effect(answer, "effect", "to")))
    wanted = "higher" if metric["direction"] == "maximize" else "lower"
    table.add_row("metric", Text(f"{metric['name']} on the {metric['split']} split, {wanted} is better"))
    seeds = count(score["seeds"], "fresh seed")
    shape = f"{folds} folds × {seeds}" if folds > 1 else seeds
    if answer.get("trained"):
        table.add_row("trained", Text(answer["trained"]["sentence"]))
    rows = f", {count(score['rows'], answer['dataset'].get('each', 'row'))}" if score["rows"] else ""
    table.add_row("measured on", Text(f"{count(score['runs'], 'run')} ({shape}){rows}"))
    out.print(table)


def _score(score: dict[str, Any]) -> str:
    if _broken(score):
        return "every run diverged"
    return f"{_signs(number(score['mean']))} {interval(score['ci95'])}"


def _broken(score: dict[str, Any]) -> bool:
    """Whether every run diverged: then the numbers are what others had at worst."""
    return score.get("diverged") == score["runs"]


def _effect(answer: dict[str, Any], key: str, word: str) -> str:
    """``+0.079 [0.063, 0.095] over AdamW at its defaults, probability > 99.9 %``, or that the two are one configuration."""
    effect, chosen = answer[key], answer["recommended"]
    base, title = answer["baselines"][effect["versus"]], BASELINES[effect["versus"]]
    if chosen["optimizer"] == "adamw" and all(chosen[part] == base[part] for part in ("hyperparameters", "schedule")):
        return f"none: the recommended configuration is {title}"
    if _broken(base):
        return f"not known {word} {title}, of which every run diverged"
    plus = "+" if effect["difference"] > 0 else ""
    found = f"{plus}{_signs(number(effect['difference']))} {interval(effect['ci95'])} {word} {title}"
    return f"{found}, {_probability(effect['probability_better'])}"


def _probability(value: float | None) -> str:
    """Never shown as certainty; None: nothing may be concluded."""
    if value is None:
        return "too few runs to say"
    text = "> 99.9 %" if value > 0.999 else "< 0.1 %" if value < 0.001 else f"{100 * value:.1f} %"
    return f"probability {text}".replace(" ", "\N{NO-BREAK SPACE}")


def _league(answer: dict[str, Any], out: Console) -> None:
    """By the searched value, as the answer has it. A narrow terminal shows the scores alone."""
    rows, wide = answer["league"], out.width >= PLAIN_WIDTH
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, title="League of optimizers", title_justify="left",
                  title_style="bold")  # fmt: skip
    # A long name is folded before any number is cut.
    table.add_column("optimizer", overflow="fold")
    titles = ("searched", "confirmed", "95 % interval", "trials", "full")
    for title in (*titles, "diverged", "lr width", "step", "state") if wide else titles:
        table.add_column(title, justify="right", no_wrap=True)
    longest = max((row["searched_steps"] or 0 for row in rows), default=0)
    short = [row for row in rows if row["searched"] is not None
             and (row["full_trials"] == 0 or row["searched_steps"] < longest)]  # fmt: skip
    for row in rows:
        confirmed = row["confirmed"]
        width = "–" if row["lr_width_decades"] is None else f"{row['lr_width_decades']:.1f} dec"
        step = "–" if row["step_s"] is None else f"{row['step_s'] * 1e3:.2f} ms"
        cells = [
            row["optimizer"] + (f" {LACKING_MARK}" if row["lacks"] else ""),
            _signs(number(row["searched"])) + (f" {SHORT_MARK}" if row in short else ""),
            "–" if confirmed is None or _broken(confirmed) else _signs(number(confirmed["mean"])),
            "–" if confirmed is None else "diverged" if _broken(confirmed) else interval(confirmed["ci95"]),
            str(row["trials"]), str(row["full_trials"]), f"{row['divergence_rate']:.0%}",
            width, step, f"{row['state_bytes_per_parameter']:g} B",
        ]  # fmt: skip
        bold = "bold" if row["optimizer"] == answer["recommended"]["optimizer"] else ""
        table.add_row(*(Text(cell) for cell in cells[: len(table.columns)]), style=bold)
    out.print(table)
    out.print(
        Text("searched: best value on the validation split; confirmed: fresh seeds, test split; not comparable", "dim")
    )
    if short:
        steps = ", ".join(dict.fromkeys(f"{row['searched_steps']:,}" for row in short))
        out.print(Text(f"{SHORT_MARK} at fewer than the full number of steps ({steps})", "dim"))
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row["lacks"]:
            reasons.setdefault(row["lacks"], []).append(row["optimizer"])
    for reason, names in reasons.items():
        out.print(Text(f"{LACKING_MARK} not tried enough: {', '.join(names)}: {reason}", "dim"))


def _equivalent(answer: dict[str, Any], out: Console) -> None:
    """Confirmed configurations within the margin, with what each saves."""
    rows = answer["equivalent"]
    if rows:
        against = rows[0]["effect"]
        margin = number(against["margin"])
        print_list(out, f"Equal to {BASELINES[against['versus']]}, within ±{margin}", [
            f"{row['configuration']['optimizer']}: {row['saves']}\n{configuration(row['configuration'])}" for row in rows
        ])  # fmt: skip


def print_list(out: Console, title: str, lines: list[str]) -> None:
    """A title with a line for each of ``lines``; nothing without any."""
    if lines:
        out.print()
        out.print(Text(title, style="bold"))
        grid = Table.grid(padding=(0, 1, 0, 0))
        for line in lines:
            grid.add_row("  -", Text(line))
        out.print(grid)


def _value(value: Any) -> str:
    return number(value) if isinstance(value, float) else str(value)


def studies(rows: list[dict[str, Any]], out: Console | None = None) -> None:
    """One line a study. A file gets everything; a terminal what fits: ids as far as they differ, names in place of models."""
    out = out or console()
    if not rows:
        out.print(Text("no studies yet"))
        return
    whole = isinstance(out, _File)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    titles = ("study", "status", "name", "model", "data", "winner", "verdict", "trials", "created")
    if not whole:
        titles = ("study", "status", "about", "winner", "trials", "created")
    for title in titles:
        table.add_column(title, overflow="fold", no_wrap=title not in ("about", "winner"))
    short = _telling([row["id"] for row in rows])
    for row in rows:
        created = time.strftime("%Y-%m-%d %H:%M", time.localtime(row["created_at"]))
        trials = str(row["progress"]["trials_done"])
        if whole:
            cells = (row["id"], row["status"], row["name"] or "", row["model"], row["dataset"], row["winner"] or "",
                     row["verdict"] or "", trials, created)  # fmt: skip
        else:
            about = row["name"] or f"{row['model']} on {row['dataset']}"
            cells = (row["id"][:short], row["status"], about, row["winner"] or "", trials, created[5:])
        table.add_row(*(Text(one_line(cell)) for cell in cells))
    print_rows(out, table)


def _telling(ids: list[str]) -> int:
    """How many characters tell ids apart, at least eight."""
    return next(
        (n for n in range(8, max(map(len, ids))) if len({one[:n] for one in ids}) == len(ids)), max(map(len, ids))
    )


def study(row: dict[str, Any], out: Console | None = None) -> None:
    """One study that has no answer (yet)."""
    out = out or console()
    out.print(Text(f"{row['id']}  {row['name'] or ''}".rstrip(), style="bold"))
    out.print(Text(f"{row['status']}: {row['model']} on {row['dataset']}"))
    out.print(Text(describe(row)))
    if row["error"]:
        out.print(Text(f"{row['error']['code']}: {row['error']['message']}"))


def clients(rows: list[dict[str, Any]], out: Console | None = None) -> None:
    """Who trains a study of a loop of one's own, and who is late; nothing where nobody does."""
    if not rows:
        return
    out = out or console()
    table = Table(box=None)
    for title in ("client", "heard of", "trial", "for", "step", "attempt", "lease"):
        table.add_column(title)
    for row in rows:
        heard = "" if row["age_s"] is None else f"{duration(row['age_s'])} ago"
        left = "" if row["lease_left_s"] is None else "late" if row["late"] else f"{duration(row['lease_left_s'])} left"
        trial = "" if row["trial"] is None else f"{row['trial']} {row['optimizer']}"
        step = "" if row["step"] is None else f"{row['step']:,} of {row['steps']:,}"
        cells = (row["id"], heard, trial, row["stage"] or "", step, str(row["attempt"] or ""), left)
        table.add_row(*(Text(one_line(cell)) for cell in cells))
    print_rows(out, table)


def asked(spec: dict[str, Any], out: Console | None = None) -> None:
    """What was asked, as a spec file that asks the same again."""
    from service.cli.specfile import written

    out = out or console()
    out.print()
    out.print(Text("What was asked", style="bold"))
    text = written(given(spec))
    if visible(text) != text:
        text = written(given(spec), ascii_only=True)
    out.print(Text(text.rstrip()), soft_wrap=True)


def given(spec: Any) -> Any:
    """A stored spec without nulls and what that leaves empty."""
    if not isinstance(spec, dict):
        return spec
    kept = {key: given(value) for key, value in spec.items()}
    return {key: value for key, value in kept.items() if value is not None and value != {}}
