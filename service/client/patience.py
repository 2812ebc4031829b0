"""Outages: what will do better later, and waiting for it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from service.client.errors import PASSING, ApiError, Unreachable

log = logging.getLogger("whichopt.client")

# Between two tries while no server answers, and how long such an outage is waited out.
LONGEST_PAUSE_S, OUTAGE_S = 10.0, 1800.0

Result = TypeVar("Result")


def passes(error: BaseException) -> bool:
    """Whether the same call may do better later."""
    return isinstance(error, Unreachable) or (isinstance(error, ApiError) and error.status in PASSING)


def patiently(call: Callable[[], Result]) -> Result:
    """The result of ``call``, through outages of half an hour, of which a warning is logged. Raises what is no outage, and
    Unreachable after it.
    """
    again = Retrying(
        retry=retry_if_exception(passes), stop=stop_after_delay(OUTAGE_S), reraise=True, before_sleep=_warn_once,
        wait=wait_random_exponential(multiplier=0.2, max=LONGEST_PAUSE_S),
    )  # fmt: skip
    return again(call)


def _warn_once(state: RetryCallState) -> None:
    if state.attempt_number == 1 and state.outcome is not None:
        log.warning("no answer (%s): trying again for half an hour", state.outcome.exception())
