"""Tables, texts and bundled data sets to numpy arrays. No torch here: the service inspects data before a worker sees it."""

from optim_core.data.paths import resolve_path
from optim_core.data.prepare import Arrays, TableInfo, Understood, inspect, prepare, understand
from optim_core.data.text_blocks import check_text_data

__all__ = ["Arrays", "TableInfo", "Understood", "check_text_data", "inspect", "prepare", "resolve_path", "understand"]
