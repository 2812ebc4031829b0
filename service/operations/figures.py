"""What Prometheus reads: worked out from the database at each scrape, so that any number of processes say the same and none
counts for itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from optim_core.spec.states import StudyState, UnitState
from service.db import Database
from service.db.repositories import ArtifactRepository, FiguresRepository, StudyRepository, UnitRepository
from service.operations.queue import WORKER_SEEN_S


def exposition(db: Database, accept: str | None) -> tuple[bytes, str]:
    """(body, media type) in the format that ``accept`` asks for."""
    encode, media = choose_encoder(accept or "")
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(_read(db)))
    return encode(registry), media


class _Figures(Collector):
    def __init__(self, found: Sequence[Metric]) -> None:
        self._found = found

    def collect(self) -> Iterator[Metric]:
        yield from self._found


def _read(db: Database) -> list[Metric]:
    with db.read() as session:
        figures, units = FiguresRepository(session), UnitRepository(session)
        work, (files, size) = figures.work(), ArtifactRepository(session).total()
        queued, _, waited = units.queue_depth()
        alive = len(units.workers(StudyRepository(session).now() - WORKER_SEEN_S))
        return [
            # Gauges, all of them: studies can be deleted.
            _by_state("studies", "Studies by state.", figures.studies(), list(StudyState)),
            _by_state("units", "Units of work by state.", figures.units(), list(UnitState)),
            _by_state(
                "deliveries", "Deliveries of webhooks by state.", figures.deliveries(),
                ["waiting", "delivered", "failed", "held"],
            ),
            _one("queue_units", "Units that a worker could claim now.", queued),
            _one("queue_oldest_seconds", "How long the oldest of them has waited.", waited or 0.0),
            _one("workers", f"Workers heard of in the last {WORKER_SEEN_S:g} s.", alive),
            _one("trials", "Trials that have ended.", work["trials"]),
            _one("train_steps", "Optimizer steps that were trained.", work["steps"]),
            _one("device_seconds", "Seconds that devices worked.", work["device_s"]),
            _one("artifacts", "Uploaded files.", files),
            _one("artifact_bytes", "Their size.", size),
        ]  # fmt: skip


def _one(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"whichopt_{name}", text, value=value)


def _by_state(name: str, text: str, counts: dict[str, int], states: Sequence[str]) -> Metric:
    family = GaugeMetricFamily(f"whichopt_{name}", text, labels=["state"])
    for state in states:
        family.add_metric([str(state)], counts.get(state, 0))
    return family
