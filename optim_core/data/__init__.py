"""Tables, texts and bundled data sets to numpy arrays. No torch here: the service inspects data before a worker sees it."""

from optim_core.data.class_weights import class_weights
from optim_core.data.inspection import columns_of
from optim_core.data.paths import open_file
from optim_core.data.prepare import Arrays, TableInfo, Understood, inspect, prepare, understand
from optim_core.data.preview import Preview, preview, preview_of
from optim_core.data.text_blocks import understand_text

__all__ = [
    "Arrays", "Preview", "TableInfo", "Understood", "class_weights", "columns_of", "inspect",
    "open_file", "prepare", "preview", "preview_of", "understand", "understand_text",
]  # fmt: skip
