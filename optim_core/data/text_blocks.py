"""A text cut into blocks for training, validation and test: contiguous pieces, so that no passage is on two sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from optim_core.data.split import SplitRows
from optim_core.data.text_file import Text, read_text
from optim_core.spec.errors import DataError
from optim_core.spec.problem import FOLDS, BuiltinDataset, FileDataset, StudySpec
from optim_core.spec.text import DEFAULT_BLOCK

POINTER = "/dataset"
# Of a split: what it scores needs rows to be compared on.
FEWEST_BLOCKS = 2


@dataclass(frozen=True)
class Blocks:
    """``starts``: (n,) int64, the token where each block begins. A block is ``size`` tokens and the one after them: token t + 1
    is the target of token t. ``splits``: of each of the five folds, or the only one; rows are numbers of blocks.
    """

    starts: np.ndarray
    size: int
    splits: list[SplitRows]
    report: list[str]


def text_blocks(text: Text, spec: StudySpec) -> Blocks:
    """Cut ``text`` as ``spec`` says: five pieces of equal length, or with other fractions than the usual one of its own.

    A block begins with the last token of the one before, so that each token of a piece but its first is a target once; no
    token of a piece is in another. Tokens left over at the end of a piece are not used. Split k tests on piece k, validates on
    piece k + 1 and trains on the other three. A single split trains on the front and tests on the end.

    Raises DataError ``text_too_short``.
    """
    assert isinstance(spec.dataset, BuiltinDataset | FileDataset)
    size = spec.dataset.block or DEFAULT_BLOCK
    pieces = _pieces(len(text.codes), spec)
    cut = [np.arange(first, max(first, last - size), size) for first, last in pieces]
    starts = np.concatenate(cut)
    ends = np.cumsum([len(each) for each in cut])
    rows = [np.arange(end - len(each), end) for each, end in zip(cut, ends, strict=True)]
    if spec.in_folds:
        splits = [
            SplitRows(
                train=np.sort(np.concatenate([rows[(fold + i) % FOLDS] for i in range(2, FOLDS)])),
                validation=rows[(fold + 1) % FOLDS],
                test=rows[fold],
            )
            for fold in range(FOLDS)
        ]
    else:
        splits = [SplitRows(*rows)]
    _check(splits, size, text, spec)
    return Blocks(starts, size, splits, [_sentence(splits, size, text, spec)])


def understand_text(spec: StudySpec, roots: Sequence[str] | None = None) -> tuple[Text, Blocks]:
    """The text of ``spec``, read and cut as training will. Raises DataError."""
    assert isinstance(spec.dataset, BuiltinDataset | FileDataset)
    text = read_text(spec.dataset, roots)
    return text, text_blocks(text, spec)


def _pieces(tokens: int, spec: StudySpec) -> list[tuple[int, int]]:
    """(first, one past the last token) of each piece: five, or those of training, validation and test."""
    if spec.in_folds:
        each = tokens // FOLDS
        return [(i * each, (i + 1) * each) for i in range(FOLDS)]
    test = round(tokens * spec.training.test_fraction)
    train = tokens - test - round(tokens * spec.training.validation_fraction)
    return [(0, train), (train, tokens - test), (tokens - test, tokens)]


def _check(splits: list[SplitRows], size: int, text: Text, spec: StudySpec) -> None:
    fewest = min(min(rows.counts.values()) for rows in splits)
    if fewest < FEWEST_BLOCKS:
        training = spec.training
        shares = [training.test_fraction, training.validation_fraction]
        # One more token than the blocks have, in the smallest piece.
        needed = int((FEWEST_BLOCKS * size + 2) / min(shares)) + 1
        message = (
            f"the text has {len(text.codes):,} {text.unit}; blocks of {size} need about {needed:,}, so that training, "
            f"validation and test have {FEWEST_BLOCKS} each: give a longer text or a smaller block"
        )
        raise DataError(message, code="text_too_short", pointer=POINTER)


def _sentence(splits: list[SplitRows], size: int, text: Text, spec: StudySpec) -> str:
    counts = splits[0].counts
    blocks = f"blocks of {size} {text.unit}, each predicted from those before it in its block"
    if spec.in_folds:
        return (
            f"Cut into {blocks}, in five contiguous pieces of the text: the search trains on {counts['train']:,} blocks, looks "
            f"at {counts['validation']:,} and leaves {counts['test']:,}; the confirmation lets each piece be the test in turn."
        )
    return (
        f"Cut into {blocks}: the front of the text, {counts['train']:,} blocks, for training, the next "
        f"{counts['validation']:,} for validation and the end, {counts['test']:,}, for the final test."
    )
