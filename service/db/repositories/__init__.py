"""Every query of the project. A repository works inside the session that it is given and never commits."""

from service.db.repositories.curves import CurveRepository
from service.db.repositories.studies import StudyRepository
from service.db.repositories.trials import TrialRepository
from service.db.repositories.units import UnitRepository

__all__ = ["CurveRepository", "StudyRepository", "TrialRepository", "UnitRepository"]
