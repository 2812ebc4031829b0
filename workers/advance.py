"""Plan what a study does next, from what is stored, and store the plan. Repeating it changes nothing."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from service import telemetry
from service.db import Database, DatabaseUnavailable
from service.dispatch.base import Dispatcher
from service.operations import planning

log = logging.getLogger("whichopt.worker")

# More rings than workers are pointless, and each worker that finds work rings again.
MOST_RINGS = 16


def advance_ready(database: Database, dispatcher: Dispatcher, study_id: str | None = None) -> int:
    """Advance every study that can go on (or only this one); how many did."""
    return advance_all(database, dispatcher, planning.active_studies(database, study_id))


def advance_all(database: Database, dispatcher: Dispatcher, active: Mapping[str, bool]) -> int:
    """Advance those of ``planning.active_studies`` that wait for it; how many did.

    Rings for each new unit, and once more for a worker that gets ready meanwhile.
    """
    waiting, units = [study_id for study_id, waits in active.items() if waits], []
    # What others plan meanwhile is passed over.
    while waiting and (study_id := planning.begin_one(database, waiting)) is not None:
        waiting.remove(study_id)
        units.append(_advance(database, study_id))
    new = sum(filter(None, units))
    for _ in range(min(new + 1, MOST_RINGS) if new else 0):
        dispatcher.nudge("device")
    return sum(unit is not None for unit in units)


def _advance(database: Database, study_id: str) -> int | None:
    """One planner's turn: how many units were added, None when there was nothing to decide or another was faster.

    A planner that breaks, wherever it does, fails its study and leaves the others alone; the traceback is logged.
    """
    try:
        with planning.turn_of(database, study_id) as turn:
            if turn is None:
                return None
            with telemetry.span("plan", study=study_id):
                units = _decide(turn)
                telemetry.note(units=units)
                return units
    except DatabaseUnavailable:
        raise
    except Exception as error:
        log.exception("planning failed", extra={"study": study_id})
        told = f"the planner broke ({type(error).__name__}); the log of the server has the traceback"
        # Nothing of what was planned goes with it: that may be what cannot be stored.
        planning.fail_study(database, study_id, "internal_error", told)
        return None


def _decide(turn: planning.Advance) -> int | None:
    from optim_core.recommend import recommend, standing
    from optim_core.search import Finish, Plan, forecast, plan

    expected, stands = forecast(turn.view), standing(turn.view)
    turn.standing = None if stands is None else stands.document()
    turn.forecast = None if expected is None else expected.document()
    match plan(turn.view):
        case Plan(units=units, note=note):
            log.info("%s units: %s", len(units), note, extra={"study": turn.view.study_id})
            return len(units) if turn.apply_plan(list(units), note) else None
        case Finish(failure=None):
            suffices = None if expected is None else expected.suffices
            return 0 if turn.finish(recommend(turn.view, suffices)) else None
        case Finish(failure=(code, message)):
            return 0 if turn.fail(code, message) else None
        case _:
            return None
