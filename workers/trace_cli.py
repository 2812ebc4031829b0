"""``whichopt trace``: where optimizers go on a surface of two variables, drawn in the terminal, as PNG or as HTML."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.answering import emit
from service.cli.errors import CommandError, one_line, say
from service.cli.options import AsJson

if TYPE_CHECKING:
    from optim_core.tracing.path import Path as Trace
    from optim_core.tracing.surfaces import Surface

# More panels than this are no picture any more.
MOST_PATHS = 24
# Written out, because the table itself brings torch with it, and every command would wait for that.
ON = "quadratic, rosenbrock, rastrigin, beale, himmelblau or saddle"
Numbers = dict[str, float | bool]


def add_trace(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command()(trace)


def trace(
    optimizers: Annotated[
        list[str], typer.Argument(metavar="OPTIMIZER[:KEY=VALUE,…]…", help="Such as adamw or momentum:lr=0.4.")
    ],
    on: Annotated[str, typer.Option(help=f"The surface: {ON}.")] = "quadratic",
    steps: Annotated[int, typer.Option(help="Steps of each path.")] = 20,
    schedule: Annotated[
        list[str] | None, typer.Option(metavar="NAME[:KEY=VALUE,…]", help="Learning-rate schedule; may be repeated.")
    ] = None,
    start: Annotated[str | None, typer.Option(metavar="X1,X2", help="Where paths begin: --start=-5,-2.")] = None,
    noise: Annotated[float, typer.Option(help="Standard deviation of Gaussian noise on the gradient.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of the noise and of random methods.")] = 0,
    out: Annotated[Path | None, typer.Option(metavar="FILE.png|FILE.html", help="Draw into this file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Draw where optimizers go on a surface of two variables, side by side."""
    kind = _kind(out)
    chosen = [parse_named(text, "optimizer") for text in optimizers]
    schedules = [_schedule(text) for text in schedule or ["constant"]]
    first = None if start is None else _point(start)
    if len(chosen) * len(schedules) > MOST_PATHS:
        raise CommandError(f"{len(chosen) * len(schedules)} paths are too many for a picture; at most {MOST_PATHS}")
    from optim_core.spec.errors import SpecError
    from optim_core.tracing.surfaces import find_surface

    try:
        surface = find_surface(on)
        paths = run_all(surface.name, chosen, schedules, {"start": first, "steps": steps, "noise": noise, "seed": seed})
    except SpecError as error:
        raise CommandError(one_line(str(error))) from None
    heading = f"{surface.title}: {surface.formula}; {steps} steps" + (f", noise {noise:g}" if noise else "")
    if out is not None:
        _write(out, kind, surface, paths, heading)
    if as_json:
        emit(document(surface, paths))
    elif out is None:
        from optim_core.tracing.draw_terminal import draw
        from service.cli.render import console

        screen = console()
        colour = screen.is_terminal and screen.color_system is not None
        screen.print(draw(surface, paths, heading, screen.width, colour), soft_wrap=True)


def run_all(
    surface: str,
    chosen: Sequence[tuple[str, Numbers]],
    schedules: Sequence[Mapping[str, str | float]],
    common: Mapping[str, Any],
) -> list[Trace]:
    """Every optimizer under every schedule; methods without a learning rate once. Raises SpecError."""
    from optim_core.spec.optimizers import OPTIMIZERS
    from optim_core.tracing.run import CONSTANT, trace

    paths = []
    for name, hyper in chosen:
        takes_one = name not in OPTIMIZERS or OPTIMIZERS[name].kind == "gradient"
        if not takes_one and any(schedule["name"] != "constant" for schedule in schedules):
            say(f"{name} has no learning rate to schedule; it runs without")
        for schedule in schedules if takes_one else [CONSTANT]:
            paths.append(trace(name, surface, hyperparameters=hyper, schedule=schedule, **common))
    return paths


def document(surface: Surface, paths: Sequence[Trace]) -> dict[str, Any]:
    """The JSON of the paths; a number that is not finite is null."""
    return {
        "surface": {
            "name": surface.name,
            "formula": surface.formula,
            "minima": [list(point) for point in surface.minima],
            "lowest": surface.lowest,
        },
        "paths": [
            {
                "optimizer": path.optimizer,
                "label": path.label,
                "hyperparameters": dict(path.hyperparameters),
                "schedule": dict(path.schedule),
                "points": [[_finite(x) for x in point] for point in path.points.tolist()],
                "values": [_finite(value) for value in path.values.tolist()],
                "diverged": path.diverged,
            }
            for path in paths
        ],
    }


def parse_named(text: str, what: str) -> tuple[str, Numbers]:
    """``momentum:lr=0.4,nesterov=true`` as (name, numbers). Raises CommandError."""
    name, colon, rest = text.strip().partition(":")
    if not name:
        raise CommandError(f"{text!r}: the name of the {what} is missing")
    numbers: Numbers = {}
    for part in rest.split(",") if colon else ():
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not (key and equals and value):
            raise CommandError(f"{text!r}: {part.strip()!r} is no KEY=VALUE")
        if key in numbers:
            raise CommandError(f"{text!r}: {key} is given twice")
        numbers[key] = _value(text, key, value)
    return name, numbers


def _value(text: str, key: str, value: str) -> float | bool:
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    try:
        return float(value)
    except ValueError:
        raise CommandError(f"{text!r}: {key} must be a number, or true or false; not {value!r}") from None


def _schedule(text: str) -> dict[str, str | float]:
    from optim_core.spec.names import unknown_name
    from optim_core.spec.schedules import SCHEDULES

    name, numbers = parse_named(text, "schedule")
    if name not in SCHEDULES:
        raise CommandError(
            f"--schedule: {unknown_name('schedule', name, SCHEDULES)} (there are {', '.join(SCHEDULES)})"
        )
    return {"name": name, **{key: float(value) for key, value in numbers.items()}}


def _point(text: str) -> tuple[float, float]:
    try:
        x1, x2 = (float(part) for part in text.split(","))
    except ValueError:
        raise CommandError(f"--start: {text!r} is not two numbers such as --start=-5,-2") from None
    return x1, x2


def _kind(out: Path | None) -> str:
    """``png`` or ``html``, by the file's name; checked before anything runs."""
    if out is None:
        return ""
    kind = out.suffix.lower().lstrip(".")
    if kind not in ("png", "html"):
        raise CommandError(f"--out: {str(out)!r} ends neither in .png nor in .html")
    return kind


def _write(out: Path, kind: str, surface: Surface, paths: Sequence[Trace], heading: str) -> None:
    if kind == "png":
        from optim_core.tracing.draw_png import draw_png as draw
    else:
        from optim_core.tracing.draw_html import draw_html as draw
    try:
        draw(out, surface, paths, heading)
    except OSError as error:
        raise CommandError(f"--out: {out}: {error.strerror or error}") from None
    except ImportError as error:
        raise CommandError(f"--out: a .{kind} file needs the package {error.name}") from None
    say(f"wrote {out}")


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
