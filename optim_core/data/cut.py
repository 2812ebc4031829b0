"""A study's rows cut as its ``split`` says, with what belongs together on one side, and what is to be said about it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from optim_core.data import columns as reading
from optim_core.data.columns import Column
from optim_core.data.declared import by_time, moments, named_parts, with_validation
from optim_core.data.proposals import proposals
from optim_core.data.rows import Rows
from optim_core.data.split import SplitRows, asked_batch, split_rows
from optim_core.data.target import Target
from optim_core.data.text import counted, plural, show, show_some
from optim_core.spec.problem import StudySpec


def without_a_moment(spec: StudySpec, rows: Rows, target: Target) -> Target:
    """The target without the rows that a split by time cannot place. Raises DataError."""
    if spec.split.by != "time" or rows.by is None:
        return target
    when = _moments(rows, rows.by)
    return target.without(
        np.isnan(when[target.keep]), f"without a value of {show(spec.split.column)}, which orders the rows"
    )


def _moments(rows: Rows, by: pd.Series) -> np.ndarray:
    return moments(reading.understand(str(by.name), by, chosen=True, notation=rows.source.notation))


@dataclass(frozen=True)
class Cut:
    """``splits``: see ``split.split_rows``. ``together``, ``batch_size``: see ``prepare.Understood``."""

    splits: list[SplitRows]
    together: np.ndarray | None
    batch_size: int
    report: list[str]


def cut_rows(
    spec: StudySpec,
    rows: Rows,
    target: Target,
    columns: Sequence[Column],
    copies: tuple[np.ndarray | None, list[str]],
    beside: Sequence[Column] = (),
    leaks: Collection[str] = (),
) -> Cut:
    """Cut the rows that ``target`` keeps. ``copies``: what ``copies.repeated`` says of them. ``beside``: columns that are no
    features, but may say how; ``leaks``: names of those that give the target away. Raises DataError.
    """
    plan, y, classes = spec.split, target.values, target.classes
    by = None if rows.by is None else pd.Series(rows.by[target.keep]).reset_index(drop=True)
    parts = None if rows.parts is None else rows.parts[target.keep]
    report: list[str] = []
    together: np.ndarray | None = None
    if plan.by == "time":
        assert by is not None
        split, together = by_time(_moments(rows, by), spec)
        splits = [split]
    elif plan.by == "group":
        assert by is not None
        together = _groups(by)
        splits = split_rows(spec, y, classes, together)
    else:
        together, report = copies[0], [*copies[1]]
        if plan.by == "random":
            splits = split_rows(spec, y, classes, together)
            report += proposals([*columns, *beside], leaks)
        else:
            given = parts if by is None else named_parts(by)
            assert given is not None
            splits = [with_validation(given, y, classes, together, spec)]
            # Copies stay where they were declared to be.
            report = _seen_before(together, splits[0])
    asked = asked_batch(spec)
    batch = min(asked, *(len(split.train) for split in splits))
    if batch < asked:
        searched = len(splits[0].train)
        where = (
            "all training rows"
            if batch == searched
            else f"one of the folds trains on no more, the search on {searched:,}"
        )
        report.append(f"Batches have {plural(batch, 'row')} rather than {asked:,}: {where}.")
    return Cut(splits, together, batch, [*report, *_unseen(target, splits), _sentence(spec, target, splits)])


def _groups(by: pd.Series) -> np.ndarray:
    """(n,) labels; a row without a value is a group by itself."""
    labels, values = pd.factorize(by.astype("str").str.strip().where(by.notna()))
    alone = np.flatnonzero(labels < 0)
    labels[alone] = len(values) + np.arange(len(alone))
    return labels.astype(np.int64)


def _seen_before(together: np.ndarray | None, rows: SplitRows) -> list[str]:
    if together is None:
        return []
    seen = int(np.isin(together[rows.test], together[rows.train]).sum())
    if not seen:
        return []
    return [f"Warning possible_leakage: {plural(seen, 'test row')} repeat the features of training rows."]


def _unseen(target: Target, splits: Sequence[SplitRows]) -> list[str]:
    """Classes that some training rows lack."""
    classes = target.classes
    if classes is None:
        return []
    lacking: set[int] = set()
    for rows in splits:
        lacking |= set(range(len(classes))) - set(np.unique(target.values[rows.train]).tolist())
    if not lacking:
        return []
    where = "in some folds" if len(splits) > 1 else "here"
    names = show_some(classes[code] for code in sorted(lacking))
    return [
        f"Warning class_unseen: the training rows lack {names} {where}, and every such row will be scored as wrong."
    ]


def _sentence(spec: StudySpec, target: Target, splits: Sequence[SplitRows]) -> str:
    rows = splits[0]
    counts, how = rows.counts, ""
    if target.classes:
        each = all(len(np.unique(target.values[split.test])) == len(target.classes) for split in splits)
        trained = all(len(np.unique(target.values[split.train])) == len(target.classes) for split in splits)
        how = ", with every class in each" if each else ", with every class among the training rows" if trained else ""
    column = show(spec.split.column)
    ways = {
        "random": "at random",
        "group": f"by {column}, whose values stay together,",
        "time": f"by {column}, earlier rows first,",
        "column": f"as {column} says",
        "files": "as the files have them",
    }
    split = (
        f"Split {plural(len(target.values), 'row')} {ways[spec.split.by]} into {counts['train']:,} for training, "
        f"{counts['validation']:,} for validation and {counts['test']:,} for the final test{how}"
    )
    folds = counted(len(splits))
    turns = f"; the confirmation lets each of {folds} folds be the test rows in turn" if len(splits) > 1 else ""
    return f"{split}{turns}."
