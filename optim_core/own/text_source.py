"""A text as a task: the catalogue's transformer as a causal decoder, trained by the engine like a person's own module."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from optim_core.data.text_blocks import Blocks, text_blocks
from optim_core.data.text_file import read_text
from optim_core.networks import fitting_text
from optim_core.nn.decoder import Decoder
from optim_core.own.samples import Samples, SomeRows
from optim_core.own.source import OwnSource
from optim_core.own.splits import Splits, fitting_batch
from optim_core.spec.problem import BuiltinDataset, CatalogueModel, FileDataset, StudySpec
from optim_core.spec.text import DEFAULT_DEPTH, DEFAULT_HEADS, DEFAULT_WIDTH


def text_source(
    spec: StudySpec,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    roots: Sequence[str] | None = None,
) -> OwnSource:
    """The text of ``spec``, read once. A sample is a block: (block,) tokens and as many that follow them, each by one place.

    ``roots``: folders in which the file may lie; None means anywhere. Raises DataError, and SpecError ``model_too_large``.
    """
    assert isinstance(spec.dataset, BuiltinDataset | FileDataset)
    assert isinstance(spec.model, CatalogueModel)
    text = read_text(spec.dataset, roots)
    blocks = text_blocks(text, spec)
    model = spec.model
    fitting_text(spec, text.symbols, blocks.size)

    def make() -> Decoder:
        return Decoder(
            text.symbols,
            blocks.size,
            width=model.width or DEFAULT_WIDTH,
            depth=model.depth or DEFAULT_DEPTH,
            heads=model.heads or DEFAULT_HEADS,
            dropout=model.dropout,
        )

    codes = torch.from_numpy(text.codes.astype("int64"))
    windows = codes.unfold(0, blocks.size + 1, 1)[torch.from_numpy(blocks.starts)]
    return OwnSource(
        spec,
        make,
        (windows[:, :-1], windows[:, 1:]),
        metric=spec.text_metric,
        split=lambda samples, fold: _splits(spec, samples, blocks, text.report, fold),
        dtype=dtype,
        device=device,
        roots=roots,
    )


def _splits(spec: StudySpec, samples: Samples, blocks: Blocks, read: list[str], fold: int | None) -> Splits:
    """The blocks of one fold; None: fold 0, or the only split. ValueError for a fold of what has none."""
    if fold is not None and len(blocks.splits) == 1:
        raise ValueError("this study has one split of its own and no folds")
    rows = blocks.splits[fold or 0]
    train, validation, test = (
        SomeRows(samples, torch.from_numpy(part)) for part in (rows.train, rows.validation, rows.test)
    )
    batch, said = fitting_batch(spec, min(len(one.train) for one in blocks.splits), "block")
    return Splits(train, validation, test, len(blocks.splits), [*read, *blocks.report, *said], batch)
