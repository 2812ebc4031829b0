"""All tables. Importing this package fills ``Base.metadata``."""

from service.db.base import Base
from service.db.models.study import Event, IdempotencyKey, StoredRecommendation, Study
from service.db.models.work import Checkpoint, Measurement, Trial, Unit, Worker

__all__ = [
    "Base",
    "Checkpoint",
    "Event",
    "IdempotencyKey",
    "Measurement",
    "StoredRecommendation",
    "Study",
    "Trial",
    "Unit",
    "Worker",
]
