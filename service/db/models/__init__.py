"""All tables. Importing this package fills ``Base.metadata``."""

from service.db.base import Base
from service.db.models.access import DEFAULT_PROJECT, AccessKey, Project
from service.db.models.files import StoredArtifact, StudyArtifact
from service.db.models.hooks import Delivery, Webhook
from service.db.models.study import Event, IdempotencyKey, StoredRecommendation, Study
from service.db.models.work import Checkpoint, Curve, DeviceUse, Trial, Unit, Worker

__all__ = [
    "DEFAULT_PROJECT",
    "AccessKey",
    "Base",
    "Checkpoint",
    "Curve",
    "Delivery",
    "DeviceUse",
    "Event",
    "IdempotencyKey",
    "Project",
    "StoredArtifact",
    "StoredRecommendation",
    "Study",
    "StudyArtifact",
    "Trial",
    "Unit",
    "Webhook",
    "Worker",
]
