"""Figures as plain dicts for plotly.js: SVG traces only, because WebGL ones need a looser Content-Security-Policy.

Colours of text, grid and background are left to the page, which knows whether it is light or dark.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from optim_core.spec.curves import thinned
from optim_core.spec.recommendation import Recommendation, ReferenceModel, Score
from service.operations.views import Curve
from service.web import words
from service.web.bestsofar import Finish, Searched
from service.web.palette import UNKNOWN, colour
from service.web.views import is_broken, tuned_is_default

Figure = dict[str, Any]
CURVE_POINTS = 200
# Tuning curves of more optimizers than this, AdamW and the recommended one apart, would hide each other.
TUNING_SHOWN = 6


def _axis(title: str, **extra: Any) -> dict[str, Any]:
    return {"title": {"text": title, "standoff": 8}, "automargin": True, **extra}


def _layout(x: str, y: str, **extra: Any) -> dict[str, Any]:
    return {
        "xaxis": _axis(x),
        "yaxis": _axis(y),
        "margin": {"l": 56, "r": 12, "t": 12, "b": 44},
        "hovermode": "closest",
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "xanchor": "left", "x": 0},
        "showlegend": True,
        # The same revision over all updates keeps a person's zoom and hidden traces while the study runs.
        "uirevision": "study",
        **extra,
    }


def learning_curves(curves: Sequence[Curve], metric: str | None, of: str) -> Figure:
    """Validation metric (``of`` = "value") or loss ("loss") against the optimizer step, one line a trial."""
    name = words.metric_name(metric) if of == "value" else "loss"
    seen: set[str] = set()
    traces = []
    for curve in curves:
        points = [p for p in thinned(curve.points, CURVE_POINTS) if getattr(p, of) is not None]
        if not points:
            continue
        title = words.optimizer_title(curve.optimizer)
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "x": [p.step for p in points],
                "y": [getattr(p, of) for p in points],
                "name": title,
                "legendgroup": curve.optimizer,
                "showlegend": curve.optimizer not in seen,
                "line": {"color": colour(curve.optimizer), "width": 1.8},
                "marker": {"size": 4, "color": colour(curve.optimizer)},
                "hovertemplate": f"{title}, trial {curve.number}<br>step %{{x}}: %{{y:.4g}}<extra></extra>",
            }
        )
        seen.add(curve.optimizer)
    return {"data": traces, "layout": _layout("optimizer steps", f"validation {name}")}


def best_so_far(searched: Searched, direction: str | None, metric: str | None, against: str) -> Figure:
    """Searched trials as dots, and the best so far as a step line, against "time" (s) or "trial" (count)."""

    def place(finish: Finish) -> float:
        return finish.elapsed_s if against == "time" else finish.place

    steps = searched.greatest if direction == "maximize" else searched.least
    scored = searched.dots
    traces = [
        {
            "type": "scatter",
            "mode": "markers",
            "x": [place(f) for f in scored],
            "y": [f.metric for f in scored],
            "marker": {"size": 6, "opacity": 0.6, "color": [colour(f.optimizer) for f in scored]},
            "text": [f"{words.optimizer_title(f.optimizer)}, trial {f.number}" for f in scored],
            "hovertemplate": "%{text}: %{y:.4g}<extra></extra>",
            "name": "trials",
        }
    ]
    if steps and searched.last is not None:
        line = [*steps, steps[-1]]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "x": [*map(place, steps), place(searched.last)],
                "y": [f.metric for f in line],
                "line": {"shape": "hv", "width": 2.2, "color": "ink"},
                # The last point only draws the line on to now; it is no new best.
                "marker": {"size": [9] * len(steps) + [0], "color": [colour(f.optimizer) for f in line]},
                "text": [f"{words.optimizer_title(f.optimizer)}, trial {f.number}" for f in line],
                "hovertemplate": "best: %{text}: %{y:.4g}<extra></extra>",
                "name": "best so far",
            }
        )
    x = "seconds since the start" if against == "time" else "trials finished"
    return {"data": traces, "layout": _layout(x, f"validation {words.metric_name(metric)}")}


def confirmation(answer: Recommendation) -> Figure:
    """Scores on test rows with their 95 % intervals: confirmed rivals, both AdamW baselines and models of another kind as
    diamonds; the best on top.
    """
    rows: list[tuple[str, Score | ReferenceModel, str]] = [
        (words.optimizer_title(r.optimizer), r.confirmed, colour(r.optimizer))
        for r in answer.league
        if r.confirmed is not None and r.optimizer != "adamw"
    ]
    if not tuned_is_default(answer):
        rows.append(("AdamW, tuned", answer.baselines["adamw_tuned"], colour("adamw")))
    rows.append(("AdamW, defaults", answer.baselines["adamw_default"], colour("adamw")))
    if answer.reference is not None:
        rows += [(model.title, model, UNKNOWN) for model in answer.reference.models]
    # What was never measured has no place.
    rows = [row for row in rows if not is_broken(row[1])]
    rows.sort(key=lambda row: row[1].mean, reverse=answer.metric.direction == "minimize")
    scores = [score for _, score, _ in rows]
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": [score.mean for score in scores],
        "y": [label for label, _, _ in rows],
        "marker": {
            "size": 11,
            "color": [tint for _, _, tint in rows],
            "symbol": ["diamond" if isinstance(score, ReferenceModel) else "circle" for score in scores],
        },
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [score.ci95[1] - score.mean for score in scores],
            "arrayminus": [score.mean - score.ci95[0] for score in scores],
            "thickness": 2,
            "width": 6,
            "color": "ink",
        },
        "text": [words.score_numbers(score) for score in scores],
        "hovertemplate": "%{y}: %{text}<extra></extra>",
        "name": "score with 95 % interval",
    }
    layout = _layout(f"test {words.metric_name(answer.metric.name)}", "", showlegend=False)
    layout["yaxis"] = {"automargin": True, "type": "category"}
    tuned = answer.baselines["adamw_tuned"]
    layout["shapes"] = [] if is_broken(tuned) else [
        {"type": "line", "xref": "x", "yref": "paper", "x0": tuned.mean, "x1": tuned.mean, "y0": 0, "y1": 1,
         "line": {"dash": "dot", "width": 1, "color": colour("adamw")}}
    ]  # fmt: skip
    return {"data": [trace], "layout": layout}


def tuning_curves(answer: Recommendation) -> Figure:
    """Expected best searched value after n trials, one line an optimizer: what a smaller budget would have found.

    The best of the league are shown; the recommended optimizer and AdamW are always, and with their bands.
    """
    banded = {answer.recommended.optimizer, "adamw"}
    drawn = [row for row in answer.league if len(row.tuning_curve) > 1]
    traces = []
    for row in (row for i, row in enumerate(drawn) if i < TUNING_SHOWN or row.optimizer in banded):
        title, tint = words.optimizer_title(row.optimizer), colour(row.optimizer)
        n = [band.n for band in row.tuning_curve]
        shared = {"type": "scatter", "legendgroup": row.optimizer}
        if row.optimizer in banded:
            outline = [band.high for band in row.tuning_curve] + [band.low for band in reversed(row.tuning_curve)]
            traces.append(
                {**shared, "mode": "lines", "x": n + n[::-1], "y": outline, "fill": "toself", "fillcolor": f"{tint}24",
                 "line": {"width": 0, "color": tint}, "hoverinfo": "skip", "showlegend": False}
            )  # fmt: skip
        traces.append(
            {
                **shared,
                "mode": "lines+markers",
                "x": n,
                "y": [band.expected for band in row.tuning_curve],
                "name": title,
                "line": {"color": tint, "width": 2.4 if row.optimizer in banded else 1.5},
                "marker": {"size": 4, "color": tint},
                "customdata": [[band.low, band.high] for band in row.tuning_curve],
                "hovertemplate": "after %{x} trials: %{y:.4g} (%{customdata[0]:.4g} to %{customdata[1]:.4g})"
                f"<extra>{title}</extra>",
            }
        )
    # Bands first, so that no line lies under one.
    traces.sort(key=lambda trace: "fill" not in trace)
    name = words.metric_name(answer.metric.name)
    return {"data": traces, "layout": _layout("trials of the optimizer", f"expected best {name}")}


def trial_curve(points: Sequence[Any], optimizer: str, metric: str | None) -> dict[str, Figure]:
    """Two figures of one trial: metric against step; training and validation loss against step."""
    steps = [p.step for p in points]
    base = {"type": "scatter", "mode": "lines+markers", "x": steps, "marker": {"size": 4}}
    name = words.metric_name(metric)
    tint = colour(optimizer)
    value = {**base, "y": [p.value for p in points], "name": name, "line": {"color": tint}}
    loss = {**base, "y": [p.loss for p in points], "name": "validation loss", "line": {"color": tint}}
    train = {
        **base, "y": [p.train_loss for p in points], "name": "training loss", "line": {"color": tint, "dash": "dot"},
    }  # fmt: skip
    return {
        "trial_value": {"data": [value], "layout": _layout("optimizer steps", name, showlegend=False)},
        "trial_loss": {"data": [loss, train], "layout": _layout("optimizer steps", "loss")},
    }
