"""REST API v1. A router comes with who may use it: one that stands in neither list is not served."""

from service.api import artifacts, asking, catalogue, events, health, inspection, keys, studies, webhooks
from service.api.admission import Admission

ANYBODY_OF_A_PROJECT = Admission()
guarded = (
    (studies.router, ANYBODY_OF_A_PROJECT),
    # A fleet's reports are many, and come with the token of a trial.
    (asking.router, Admission(writes="reports")),
    (inspection.router, ANYBODY_OF_A_PROJECT),
    (events.router, ANYBODY_OF_A_PROJECT),
    (artifacts.router, ANYBODY_OF_A_PROJECT),
    (webhooks.router, ANYBODY_OF_A_PROJECT),
    (catalogue.router, ANYBODY_OF_A_PROJECT),
    # What an admin key may see of it, `operations.access` decides.
    (keys.router, Admission("admin")),
    (health.router, ANYBODY_OF_A_PROJECT),
    # Figures over the studies of all projects.
    (health.figures, Admission("metrics")),
)
opened = (health.opened,)

__all__ = ["ANYBODY_OF_A_PROJECT", "guarded", "opened"]
