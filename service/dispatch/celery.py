"""Nudges by Celery over Redis, by task name: the API process never imports the tasks, nor torch."""

from __future__ import annotations

import logging
import time

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from service.dispatch.base import Queue
from service.logs import Outage, thread

log = logging.getLogger("whichopt.dispatch")

TASKS: dict[Queue, str] = {"control": "whichopt.advance", "device": "whichopt.pull"}
TIMEOUT_S = 2.0
# How often a broker that is away is looked for.
LOOK_S = 5.0
# An old nudge tells nothing that the sweep does not find by itself.
EXPIRES_S = 60


class CeleryDispatcher:
    """Sends ids of nothing: the task looks into the database. Safe to share between threads."""

    def __init__(self, broker_url: str) -> None:
        self._outage = Outage(log, "the broker is away, workers find their work by themselves")
        self._app = Celery("whichopt-dispatch", broker=broker_url, set_as_current=False)
        self._app.conf.update(
            task_ignore_result=True,
            task_serializer="json",
            broker_transport_options={
                "socket_timeout": TIMEOUT_S,
                "socket_connect_timeout": TIMEOUT_S,
                "max_retries": 0,
            },
            broker_connection_timeout=TIMEOUT_S,
        )

    def nudge(self, queue: Queue) -> None:
        """Ring, or note in the log that nobody could hear it; and then when somebody can, whether anybody rings or not."""
        try:
            self._app.send_task(TASKS[queue], queue=queue, expires=EXPIRES_S, retry=False, ignore_result=True)
        except (OperationalError, RedisError, OSError) as error:
            self._away(error)
        else:
            self._outage.back()

    def _away(self, why: object) -> None:
        if self._outage.away(why):
            thread(self._wait, "broker").start()

    def _wait(self) -> None:
        while not self.healthy():
            time.sleep(LOOK_S)

    def healthy(self) -> bool:
        """Whether the broker answers within two seconds; the log has it where that has changed."""
        try:
            with self._app.connection_for_write(connect_timeout=TIMEOUT_S) as connection:
                connection.ensure_connection(max_retries=0, timeout=TIMEOUT_S)
        except (OperationalError, RedisError, OSError) as error:
            self._away(error)
            return False
        self._outage.back()
        return True
