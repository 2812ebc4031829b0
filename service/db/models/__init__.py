"""All tables. Importing this package fills ``Base.metadata``."""

from service.db.base import Base
from service.db.models.study import Event, IdempotencyKey, Recommendation, Study
from service.db.models.work import Checkpoint, Measurement, Trial, Unit, Worker

__all__ = [
    "Base",
    "Checkpoint",
    "Event",
    "IdempotencyKey",
    "Measurement",
    "Recommendation",
    "Study",
    "Trial",
    "Unit",
    "Worker",
]
