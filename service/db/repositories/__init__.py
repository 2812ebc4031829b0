"""Every query of the project. A repository works inside the session that it is given and never commits."""

from service.db.repositories.access import AccessRepository
from service.db.repositories.artifacts import ArtifactRepository
from service.db.repositories.curves import CurveRepository
from service.db.repositories.figures import FiguresRepository
from service.db.repositories.hooks import HookRepository
from service.db.repositories.pruning import PruneRepository
from service.db.repositories.studies import StudyRepository
from service.db.repositories.trials import TrialRepository
from service.db.repositories.units import UnitRepository
from service.db.repositories.use import UseRepository

__all__ = [
    "AccessRepository",
    "ArtifactRepository",
    "CurveRepository",
    "FiguresRepository",
    "HookRepository",
    "PruneRepository",
    "StudyRepository",
    "TrialRepository",
    "UnitRepository",
    "UseRepository",
]
