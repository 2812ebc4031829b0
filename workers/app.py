"""The Celery application. It only rings bells: ids and work live in the database. No torch here: this is the parent process.

``celery -A workers.app worker -Q device -c 1`` trains, ``-Q control -B`` plans and sweeps.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import warnings
from typing import Any

from celery import Celery, signals
from celery.exceptions import CPendingDeprecationWarning

from service import logs
from service.settings import Settings

settings = Settings()
# Of what becomes of tasks where the broker goes away, which is decided below.
warnings.simplefilter("ignore", CPendingDeprecationWarning)

# Tasks do not train, they wake the thread that does: no limit here depends on how long a unit takes.
PULL_LIMIT_S = settings.quantum_s + 60

app = Celery("whichopt", broker=settings.broker_url, include=["workers.tasks"])
app.conf.update(
    # The queue in the database decides who runs what. A message may be lost or doubled without harm, so it is
    # acknowledged at once, carries nothing and has no result.
    task_acks_late=False,
    task_ignore_result=True,
    task_serializer="json",
    accept_content=["json"],
    task_default_queue="control",
    task_routes={"whichopt.pull": {"queue": "device"}},
    # Planning, reading data sets: a last resort.
    task_time_limit=3600,
    worker_prefetch_multiplier=1,
    worker_disable_prefetch=True,
    worker_soft_shutdown_timeout=30,
    worker_proc_alive_timeout=60,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    # A Redis that is full refuses to note a message that it gave out: the worker waits as for one that is away.
    broker_channel_error_retry=True,
    broker_transport_options={"socket_timeout": 5, "socket_connect_timeout": 2, "health_check_interval": 10},
    # In memory: a schedule of two lines needs no file.
    beat_scheduler="celery.beat:Scheduler",
    beat_schedule={
        "sweep": {"task": "whichopt.sweep", "schedule": settings.sweep_s, "options": {"expires": settings.sweep_s}},
    },
)

# Shared with the forked children: set when this worker is asked to end, read between chunks of training.
shutting_down = multiprocessing.RawValue(ctypes.c_bool, False)
# Which queues this worker serves; set before the children are forked.
serves: set[str] = set()


@signals.setup_logging.connect
def _set_up_logging(**_: Any) -> None:
    logs.configure(settings)


@signals.celeryd_after_setup.connect
def _note_queues(instance: Any, **_: Any) -> None:
    serves.update(instance.app.amqp.queues.consume_from)


@signals.worker_shutting_down.connect
def _tell_children(**_: Any) -> None:
    shutting_down.value = True


@signals.worker_process_init.connect
def _start_loop(**_: Any) -> None:
    from workers import process

    process.start(settings, trains="device" in serves, shutting_down=lambda: shutting_down.value)


@signals.worker_process_shutdown.connect
def _stop_loop(**_: Any) -> None:
    from workers import process

    process.stop()
