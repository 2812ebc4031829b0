"""What people have their data in becomes samples; what is read, how often, and ahead of time."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence, pad_sequence
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)  # fmt: skip

from optim_core.own import data as forms
from optim_core.own import samples as holding
from optim_core.own.data import samples_of
from optim_core.own.reading import KeptSamples, ReadSamples
from optim_core.own.samples import Samples, TensorSamples
from optim_core.own.streams import seeded
from optim_core.spec.errors import DataError
from optim_core.vmapped import Streams
from tests.unit.own_cases import CPU, F32, Augmented, Counting, blobs

X, Y = blobs(40)


def _samples(data: Any, seed: int = 0, dtype: torch.dtype = F32) -> Samples:
    return samples_of(data, seed, CPU, dtype)


class _Pair(NamedTuple):
    x: Tensor
    y: Tensor


class _Table:
    """As Hugging Face's tables: lists unless another format is set, several rows at a time."""

    def __init__(self, form: str | None = None) -> None:
        self.format = {"type": form}

    def __len__(self) -> int:
        return len(Y)

    def set_format(self, form: str) -> None:
        self.format = {"type": form}

    def with_format(self, form: str) -> _Table:
        return _Table(form)

    def __getitems__(self, rows: list[int]) -> list[dict[str, Any]]:
        return [self[i] for i in rows]

    def __getitem__(self, i: int) -> dict[str, Any]:
        row = {"x": X[i].tolist(), "label": int(Y[i]), "text": "words", "none": None}
        return {k: torch.tensor(v) if k in ("x", "label") and self.format["type"] else v for k, v in row.items()}


class _Mapped(Dataset):
    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __len__(self) -> int:
        return len(Y)

    def __getitem__(self, i: int) -> Any:
        x, y = torch.from_numpy(X[i]), int(Y[i])
        return {
            "pair": (x, y),
            "path": (x, y, f"{i}.png"),
            "named": _Pair(x, torch.tensor(y)),
            "dict": {"x": x, "label": y, "path": "a", "nothing": None},
            "nested": ((x, x), y),
            "array": (X[i], Y[i]),
        }[self.kind]


@pytest.mark.parametrize(
    "data",
    [
        (X, Y), (torch.from_numpy(X), torch.from_numpy(Y)), [X[:, ::-1][:, ::-1], Y], (X.astype(">f8"), Y),
        TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)), Counting(X, Y), _Mapped("pair"), _Mapped("path"),
        _Mapped("named"), _Mapped("array"), DataLoader(_Mapped("pair"), batch_size=7, shuffle=True, drop_last=True),
        [(torch.from_numpy(x), int(y)) for x, y in zip(X, Y, strict=True)],
        list(zip(torch.from_numpy(X), torch.from_numpy(Y), strict=True)),
        Subset(TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)), range(40)),
    ],
)  # fmt: skip
def test_pairs_in_any_form_are_the_same_batches(data: Any) -> None:
    samples = _samples(data)
    assert len(samples) == 40
    assert not samples.random
    for rows in (torch.tensor([3, 3, 0]), torch.tensor([[1, 2], [39, 0], [1, 2]])):
        x, y = samples.batch(rows)
        assert x.dtype == F32
        np.testing.assert_allclose(x.numpy(), X[rows.numpy()], rtol=1e-6)
        assert y.tolist() == Y[rows.numpy()].tolist()
    x, y = samples.whole()  # type: ignore[misc]
    assert (len(x), y.tolist()) == (40, Y.tolist())


@pytest.mark.parametrize("data", [_Table(), _Table("torch"), _Mapped("dict"), {"x": X, "label": Y}])
def test_samples_by_name(data: Any) -> None:
    batch = _samples(data).batch(torch.tensor([[5, 6, 7], [0, 1, 2]]))
    assert set(batch) == {"x", "label"}
    np.testing.assert_allclose(batch["x"][1].numpy(), X[:3], rtol=1e-6)
    assert batch["label"][0].tolist() == Y[5:8].tolist()
    if isinstance(data, _Table):
        assert data.format["type"] in (None, "torch")


def test_a_persons_table_keeps_its_format() -> None:
    table = _Table()
    _samples(table)
    assert table.format == {"type": None}


def test_nested_samples_and_single_tensors() -> None:
    (a, b), y = _samples(_Mapped("nested")).batch(torch.arange(3))
    assert torch.equal(a, b)
    assert len(y) == 3
    assert _samples(X).batch(torch.arange(3)).shape == (3, 4)


def test_real_numbers_get_the_tasks_precision_and_whole_ones_keep_theirs() -> None:
    x, y = _samples((X.astype(np.float64), Y.astype(np.int32)), dtype=torch.float64).batch(torch.arange(2))
    assert (x.dtype, y.dtype) == (torch.float64, torch.int32)
    x, y = _samples((X > 0, X.astype(np.float16))).batch(torch.arange(2))
    assert (x.dtype, y.dtype) == (torch.bool, F32)


class _Ragged(Dataset):
    def __len__(self) -> int:
        return 20

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return torch.arange(1.0, 2 + i % 5), i % 2


def _padded(samples: list[Any]) -> tuple[Tensor, Tensor]:
    return pad_sequence([x for x, _ in samples], batch_first=True), torch.tensor([y for _, y in samples])


def test_a_collate_fn_pads_each_trials_batch_by_itself_where_they_can_lie_side_by_side() -> None:
    samples = _samples(DataLoader(_Ragged(), collate_fn=_padded))
    assert samples.batch(torch.tensor([0, 1]))[0].shape == (2, 2)
    # Both of length 3, though other samples are longer.
    assert samples.batch(torch.tensor([[0, 2], [2, 1]]))[0].shape == (2, 2, 3)
    x, y = samples.batch(torch.tensor([[0, 1], [4, 2]]))
    assert x.shape == (2, 2, 5)
    assert x[0, 1].tolist() == [1, 2, 0, 0, 0]
    assert y.tolist() == [[0, 1], [0, 0]]


class _Stream(IterableDataset):
    def __iter__(self) -> Iterator[Tensor]:
        return iter(torch.zeros(3))


class _Wide(Dataset):
    """Gives whole batches."""

    def __len__(self) -> int:
        return 20

    def __getitem__(self, i: int) -> Tensor:
        return torch.zeros(8, 3)


def _packed(samples: list[Any]) -> Any:
    return pack_sequence([x for x, _ in samples], enforce_sorted=False)


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (_Stream(), "iterable_data", "ask and tell"),
        (DataLoader(_Stream()), "iterable_data", "__getitem__"),
        ((i for i in range(3)), "iterable_data", "index"),
        (DataLoader(_Wide(), batch_size=None), "unsupported_data", "batch_size=None"),
        (DataLoader(_Ragged(), sampler=WeightedRandomSampler([1.0] * 20, 20), collate_fn=_padded), "unsupported_data", "loss"),
        (DataLoader(_Ragged(), sampler=[0, 1, 1], collate_fn=_padded), "unsupported_data", "more often"),
        (_Ragged(), "shape_mismatch", "collate_fn"),
        (DataLoader(_Ragged(), collate_fn=_packed), "unsupported_dtype", "pack them in forward"),
        (DataLoader(_Ragged(), collate_fn=lambda s: torch.zeros(3, len(s))), "shape_mismatch", "samples first"),
        ((X, Y[:-1]), "shape_mismatch", "as many each"),
        (np.array(["a", "b"]), "unsupported_dtype", "numbers"),
        (TensorDataset(torch.zeros(0, 3)), "shape_mismatch", "samples first"),
        (["a", "b"], "unsupported_dtype", "nothing to compute"),
        ([(x, "cat") for x in X], "unsupported_dtype", r"text \('cat'\): give each class a number"),
        ([{"x": x, "label": "cat"} for x in X], "unsupported_dtype", "'label' of a sample, are text"),
        ([(x, None if i == 0 else 0) for i, x in enumerate(X)], "missing_value", "sample 0: its part 2 is None"),
        ([{"x": x, "y": None if i == 0 else 0} for i, x in enumerate(X)], "missing_value", "sample 0: its 'y' is None"),
        (3, "unsupported_data", "give data sets"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_with_the_way_out(data: Any, code: str, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        _samples(data)
    assert caught.value.code == code
    assert "\n" not in str(caught.value)


def test_texts_and_gaps_beside_the_targets_are_left_out() -> None:
    named = _samples([(x, y, None, "a name") for x, y in zip(X, Y, strict=True)])
    assert [part.shape[0] for part in named.batch(torch.arange(5))] == [5, 5]


def test_a_sampler_that_leaves_rows_out_is_respected_and_its_order_is_not() -> None:
    samples = _samples(DataLoader(_Mapped("pair"), sampler=SubsetRandomSampler([7, 3, 5])))
    assert samples.batch(torch.arange(3))[1].tolist() == Y[[3, 5, 7]].tolist()
    batches = [[9, 8], [2]]
    assert len(_samples(DataLoader(_Mapped("pair"), batch_sampler=batches))) == 3


# Reading ------------------------------------------------------------------------------------------------------------------


class _Costly(Counting):
    """Too large to keep, as far as the limit of the test goes."""


@pytest.fixture
def no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "MOST_HELD_BYTES", 100)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.usefixtures("no_room")
def test_sixteen_trials_read_a_sample_once_a_step(workers: int) -> None:
    data = _Costly(X, Y)
    samples = _samples(DataLoader(data, num_workers=workers) if workers else data)
    assert isinstance(samples, ReadSamples)
    data.reads = [0] * 40
    # Four seeds of four trials each.
    steps = [torch.stack([torch.randperm(40)[:8] for _ in range(4)]).repeat(4, 1) for _ in range(5)]
    found = list(samples.batches(iter(steps)))
    for rows, (x, y) in zip(steps, found, strict=True):
        assert x.shape == (16, 8, 4)
        np.testing.assert_array_equal(x.numpy(), X[rows.numpy()])
        np.testing.assert_array_equal(y.numpy(), Y[rows.numpy()])
    if not workers:
        wanted = [sum(int(i in rows) for rows in steps) for i in range(40)]
        assert data.reads == wanted


@pytest.mark.usefixtures("no_room")
def test_a_process_that_may_have_no_children_reads_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    class Daemon:
        daemon = True

    data = _Costly(X, Y)
    samples = _samples(DataLoader(data, num_workers=1))
    monkeypatch.setattr("multiprocessing.current_process", Daemon)
    data.reads = [0] * 40
    list(samples.batches([torch.arange(8)]))
    assert sum(data.reads) == 8


def test_small_data_that_repeats_is_read_once_at_all() -> None:
    data = Counting(X, Y)
    samples = _samples(data)
    assert isinstance(samples, KeptSamples)
    data.reads = [0] * 40
    steps = [torch.randperm(40)[:8] for _ in range(30)]
    for rows, (x, _) in zip(steps, samples.batches(iter(steps)), strict=True):
        np.testing.assert_array_equal(x.numpy(), X[rows.numpy()])
    samples.batch(torch.arange(40).view(4, 10))
    assert data.reads == [1] * 40
    # Asked for in the middle of an epoch that is given up, what had not come yet is read when it is wanted.
    samples = _samples(data)
    given_up = samples.batches(iter(steps))
    next(given_up)
    given_up.close()  # type: ignore[attr-defined]
    assert samples.batch(torch.arange(40))[1].tolist() == Y.tolist()


def test_batches_are_asked_for_only_a_few_ahead() -> None:
    taken = 0

    def endless() -> Iterator[Tensor]:
        nonlocal taken
        while True:
            taken += 1
            yield torch.randperm(40)[:4]

    for data in (Counting(X, Y), Augmented(X, Y), (X, Y)):
        taken = 0
        batches = _samples(data).batches(endless())
        for _ in range(3):
            next(batches)
        assert taken <= 3 + 3
        batches.close()  # type: ignore[attr-defined]


def test_samples_that_grow_after_the_first_few_are_refused_when_they_come() -> None:
    data = [torch.zeros(3)] * 3000
    data[1] = torch.zeros(4)
    samples = _samples([(x, 0) for x in data])
    with pytest.raises(DataError, match="collate_fn that pads"):
        samples.batch(torch.tensor([1]))
    with pytest.raises(DataError, match="collate_fn that makes one"):
        samples.batch(torch.arange(2))


def test_random_augmentation_stays_random_and_repeats_itself_by_step_and_rows() -> None:
    data = Augmented(X, Y)
    before, seen = Streams(), _samples(data)
    assert isinstance(seen, ReadSamples)
    assert seen.random
    rows = torch.arange(8)
    first = [x for x, _ in seen.batches(iter([rows] * 3))]
    assert not torch.equal(first[0], first[1])
    assert [torch.equal(a, b) for a, (b, _) in zip(first, seen.batches(iter([rows] * 3)), strict=True)] == [True] * 3
    assert torch.equal(seen.batch(rows, 2)[0], first[2])
    assert not torch.equal(_samples(data, seed=1).batch(rows, 2)[0], first[2])
    # Trials of one seed see the same, and nobody else's stream is moved.
    pack = seen.batch(rows.repeat(3, 1), 2)[0]
    assert torch.equal(pack[0], pack[2])
    assert not before.moved()
    in_workers = _samples(DataLoader(data, num_workers=1))
    assert [torch.equal(a, b) for a, (b, _) in zip(first, in_workers.batches(iter([rows] * 3)), strict=True)] == [
        True
    ] * 3
    assert not before.moved()


class _OwnStream(Counting):
    rng = np.random.default_rng(0)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        return self.x[i] + float(self.rng.normal()), self.y[i]


def test_augmentation_from_a_stream_of_its_own_is_seen_too() -> None:
    samples = _samples(_OwnStream(X, Y))
    assert samples.random
    assert samples.digest() == _samples(_OwnStream(X, Y)).digest()


class _Slow(Counting):
    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        time.sleep(0.002)
        return super().__getitem__(i)


@pytest.mark.usefixtures("no_room")
def test_the_next_batch_is_read_while_a_step_trains() -> None:
    data = _Slow(X, Y)
    samples = _samples(data)
    before = sum(data.reads)
    batches = samples.batches(iter([torch.randperm(40)[:20] for _ in range(9)]))
    next(batches)
    # Nobody asks for it: a step would train now.
    until = time.monotonic() + 60
    while sum(data.reads) < before + 2 * 20 and time.monotonic() < until:
        time.sleep(0.005)
    assert sum(data.reads) >= before + 2 * 20


@pytest.mark.usefixtures("no_room")
@pytest.mark.parametrize("workers", [0, 1])
def test_what_goes_wrong_ahead_of_time_is_said_when_the_batch_is_due(workers: int) -> None:
    class Broken(Counting):
        def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
            if i == 32:
                raise ValueError("no such file")
            return super().__getitem__(i)

    data = Broken(X, Y)
    samples = _samples(DataLoader(data, num_workers=workers) if workers else data)
    batches = samples.batches(iter([torch.tensor([1]), torch.tensor([32])]))
    assert len(next(batches)[0]) == 1
    with pytest.raises(Exception, match="no such file") as caught:
        next(batches)
    assert getattr(caught.value, "code", "") == "user_code_error"
    assert "\n" not in str(caught.value)


def test_content_decides_the_hash() -> None:
    other = X.copy()
    other[3, 1] += 1
    assert _samples((X, Y)).digest() == _samples((X.copy(), Y)).digest() != _samples((other, Y)).digest()
    assert _samples(Counting(X, Y)).digest() == _samples(Counting(X, Y)).digest()
    assert _samples(Counting(X, Y)).digest() != _samples(Counting(X[:-1], Y[:-1])).digest()
    assert (
        _samples(Augmented(X, Y)).digest()
        == _samples(Augmented(X, Y)).digest()
        != _samples(Augmented(X + 1, Y)).digest()
    )
    assert _samples(DataLoader(_Ragged(), collate_fn=_padded)).digest()
    assert holding.tree_digest(torch.tensor([1 + 2j])) != holding.tree_digest(torch.tensor([1 + 3j]))


def test_large_tensors_stay_where_they_are_and_are_cast_batch_by_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holding, "MOST_HELD_BYTES", 10)
    wide = X.astype(np.float64)
    wide.flags.writeable = False
    samples = _samples((wide, Y))
    assert isinstance(samples, TensorSamples)
    assert samples.batch(torch.arange(6).view(2, 3))[0].dtype == F32


class _Images(Counting):
    """As torchvision's data sets: ``targets`` beside the samples."""

    @property
    def targets(self) -> list[int]:
        return self.y.tolist()


def test_targets_that_a_data_set_names_are_known_without_reading() -> None:
    data = _Images(X, Y)
    hint = _samples(Subset(data, [5, 2])).hint()
    assert hint is not None
    assert hint.tolist() == Y[[5, 2]].tolist()
    assert _samples(Counting(X, X)).hint() is None


def test_streams_go_on_as_if_nothing_had_been_drawn() -> None:
    torch.manual_seed(3)
    before = (random.getstate(), torch.get_rng_state())
    with seeded(7):
        inside = (random.random(), float(np.random.rand()), float(torch.rand(())))
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
    torch.rand(3)
    with seeded(7):
        assert (random.random(), float(np.random.rand()), float(torch.rand(()))) == inside
