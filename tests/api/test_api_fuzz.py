"""Thousands of requests that the document allows, and that it does not: nothing answers otherwise than the document says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import FailureGroup
from schemathesis.core.parameters import ParameterLocation

from optim_core.spec.validation import parse_spec
from service.app import create_app
from service.db import Database
from service.dispatch.null import NullDispatcher
from service.operations import door, planning, queue, studies
from service.settings import Settings
from tests.api.test_api_asking import EXTERNAL
from tests.db.support import claim, make_recommendation, make_result, make_spec, make_unit
from tests.own_key import AS_OWNER, OWN_KEY

# A spec is judged by more than its form: what is well-formed and does not go together is 422, as the document says. A study
# in the wrong state is 409.
CONFIG = {
    "checks": {"positive_data_acceptance": {"expected-statuses": ["2xx", "404", "409", "413", "422"]}},
}


THERE: dict[str, list[Any]] = {}


def sent(case: Any) -> None:
    """Send a request, of those that are in order every other one to something that is there."""
    given = case.path_parameters or {}
    if case.meta.generation.mode.is_positive and len(str(case.body) + str(given)) % 2:
        for name in given.keys() & THERE.keys():
            # A stream of events would be heard for ever if its study ran.
            choice = THERE[name][:1] if case.path.endswith("/events") else THERE[name]
            given[name] = choice[len(str(case.query)) % len(choice)]
    for name in ("wait", "wait_s"):
        for place in (case.query, case.body):
            if isinstance(place, dict) and isinstance(place.get(name), int | float) and 0 <= place[name] <= 30:
                place[name] = 0
    headers = case.meta.components.get(ParameterLocation.HEADER)
    unsigned = headers is not None and headers.mode.is_negative and "Authorization" not in (case.headers or {})
    case.call_and_validate(headers={} if unsigned else AS_OWNER)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[Any]:
    """The application over studies that have an answer, run, are somebody's own, or wait. Nobody reads or trains anything."""
    path = tmp_path_factory.mktemp("fuzz") / "whichopt.db"
    path.write_bytes(sqlite_template.read_bytes())
    database = Database(f"sqlite:///{path}")
    answered = studies.create_study(database, make_spec()).id
    planning.apply_plan(database, answered, [make_unit("a", [0, 1])], "test")
    held = claim(database, answered)
    queue.complete_unit(database, held.unit_id, held.token, make_result(held.unit))
    planning.finish_study(database, answered, make_recommendation(answered))
    running = studies.create_study(database, make_spec(1)).id
    planning.apply_plan(database, running, [make_unit("a", [0, 1])], "test")
    own = studies.create_study(database, parse_spec(EXTERNAL)).id
    planning.apply_plan(database, own, [make_unit("a", [0])], "test")
    waits = studies.create_study(database, make_spec(2), to_check=True).id
    # Wrong keys are tried by the hundred here.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(door, "WRONG_PER_MINUTE", 10**9)
        app = create_app(
            Settings(broker_url="redis://nowhere:1/0", allowed_hosts=["localhost", "testserver"], data_dir=path.parent),
            database,
            NullDispatcher(),
            OWN_KEY,
        )
    found = schemathesis.openapi.from_asgi(
        "/openapi.json", app, headers=AS_OWNER, config=SchemathesisConfig.from_dict(CONFIG)
    )
    THERE.update(study_id=[answered, running, own, waits], number=[0, 1])
    yield found
    database.dispose()


def play(api: Any, examples: int, **more: Any) -> None:
    """Send ``examples`` requests to each operation; what fails is told together."""
    failures: list[str] = []
    operations = [found.ok() for found in api.get_all_operations()]
    assert len(operations) > 20
    for operation in operations:
        for mode in GenerationMode:

            @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), **more)
            @given(case=operation.as_strategy(generation_mode=mode))
            def judged(case: Any) -> None:
                sent(case)

            try:
                judged()
            except Unsatisfiable:
                continue  # an operation without parameters cannot be asked wrongly
            except BaseExceptionGroup as error:
                failures.append(f"{operation.label}: {error.exceptions}")
            except (AssertionError, FailureGroup) as error:
                failures.append(f"{operation.label}: {error}")
    assert not failures, "\n\n".join(failures)


def test_every_operation_answers_as_the_document_says(api: Any) -> None:
    play(api, 10, derandomize=True, database=None, phases=[Phase.generate])


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_hundreds_of_times(api: Any) -> None:
    play(api, 100)
