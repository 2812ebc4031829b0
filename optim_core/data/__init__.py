"""Tables and bundled data sets to numpy arrays. No torch here: the service inspects data before a worker sees it."""

from optim_core.data.paths import resolve_path
from optim_core.data.prepare import Arrays, TableInfo, Understood, inspect, prepare, understand

__all__ = ["Arrays", "TableInfo", "Understood", "inspect", "prepare", "resolve_path", "understand"]
