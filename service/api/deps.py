"""What every endpoint may use, put together by ``create_app``."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated

from fastapi import Depends, Request

from optim_core.spec.problem import StudySpec
from service.api.checker import Checker
from service.api.hub import Hub
from service.api.readers import Readers
from service.api.reports import Reports
from service.api.turns import Turns
from service.db import Database
from service.dispatch.base import Dispatcher
from service.operations.access import Caller
from service.operations.artifact_folder import ArtifactFolder
from service.operations.artifacts import inspect_here
from service.operations.inspection import Inspection
from service.settings import Settings


@dataclass(frozen=True)
class ServiceParts:
    """The parts of the running service. ``checker``: where no broker rings for a process that checks data sets."""

    settings: Settings
    database: Database
    dispatcher: Dispatcher
    hub: Hub
    checker: Checker | None = None
    readers: Readers = field(default_factory=Readers)
    turns: Turns = field(default_factory=Turns)
    reports: Reports = field(default_factory=Reports)

    @property
    def artifacts(self) -> ArtifactFolder:
        """Where uploaded files lie."""
        return ArtifactFolder(self.settings.artifacts)

    def inspect(self, spec: StudySpec) -> Inspection:
        """See ``operations.inspection.inspect``; uploaded files are read in a process of their own."""
        with self.readers.turn(self.database.project_id):
            return inspect_here(self.database, self.artifacts, spec, self.settings.roots)


# Dependencies are coroutines though they wait for nothing: FastAPI takes a thread for each that is none.


async def context(request: Request) -> ServiceParts:
    """The parts as the caller's project sees them. Where nobody was admitted there are none: AttributeError."""
    return replace(await whole_service(request), database=request.state.database)


async def whole_service(request: Request) -> ServiceParts:
    """The parts with the data of all projects: for what is said of the service, and by whoever operates it."""
    return request.app.state.context


async def _caller(request: Request) -> Caller:
    return request.state.caller


# As parameters of endpoints.
Ctx = Annotated[ServiceParts, Depends(context)]
Whole = Annotated[ServiceParts, Depends(whole_service)]
Asking = Annotated[Caller, Depends(_caller)]
