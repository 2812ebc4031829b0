"""One table, written in every notation, encoding and format: the same arrays come out of each."""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import arff
import numpy as np
import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.feather as feather
from hypothesis import given, settings
from hypothesis import strategies as st

from optim_core.data import Arrays, prepare
from optim_core.spec.problem import CatalogueModel, FileDataset, StudySpec, Training

N = 40
NAMES = ("Köln", "Zürich", "Århus")
HEADER = ("größe", "price", "share", "day", "city", "y")


@dataclass(frozen=True)
class Numbers:
    """How a number is written: decimal mark, mark of thousands, and what stands around."""

    decimal: str = "."
    thousands: str = ""
    money: str = "{}"
    percent: bool = False
    minus: str = "-"
    negative: str = "{minus}{}"

    def plain(self, value: float, digits: int = 2) -> str:
        text = f"{abs(value):,.{digits}f}".replace(",", "\0").replace(".", self.decimal).replace("\0", self.thousands)
        return self.negative.format(text, minus=self.minus) if value < 0 else text

    def amount(self, value: float) -> str:
        text = self.money.format(Numbers(self.decimal, self.thousands).plain(abs(value)))
        return self.negative.format(text, minus=self.minus) if value < 0 else text

    def share(self, value: float) -> str:
        return f"{self.plain(value * 100, 1)}%" if self.percent else self.plain(value, 3)


NUMBERS = [
    Numbers(), Numbers(thousands=","), Numbers(decimal=","), Numbers(decimal=",", thousands="."),
    Numbers(decimal=",", thousands=" "), Numbers(decimal=",", thousands="\u00a0"), Numbers(decimal=",", thousands="\u202f"),
    Numbers(thousands="'"), Numbers(thousands=",", money="${}"), Numbers(money="{} €", decimal=",", thousands="."),
    Numbers(money="EUR {}"), Numbers(percent=True), Numbers(percent=True, decimal=","), Numbers(minus="\u2212"),
    Numbers(thousands=",", money="${}", negative="({})"), Numbers(money="{} kr"),
]  # fmt: skip
DATES: list[Callable[[dt.datetime], str]] = [
    lambda d: d.strftime("%Y-%m-%d"), lambda d: d.strftime("%d.%m.%Y"), lambda d: d.strftime("%m/%d/%Y"),
    lambda d: d.strftime("%d/%m/%Y"), lambda d: d.strftime("%m/%d/%y"), lambda d: d.strftime("%d/%m/%y"),
    lambda d: d.strftime("%d %b %Y"), lambda d: d.strftime("%b %d, %Y"), lambda d: d.strftime("%d %B %Y"),
    lambda d: d.strftime("%d-%b-%y"), lambda d: d.strftime("%a, %d %b %Y"), lambda d: d.strftime("%Y/%m/%d"),
    lambda d: d.strftime("%Y-%m-%dT%H:%M:%SZ"), lambda d: (d + dt.timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%S+02:00"),
    lambda d: d.strftime("%Y-%m-%d %H:%M:%S.000"), lambda d: f"{d.month}/{d.day}/{d.year} 12:00 AM",
]  # fmt: skip
GAPS = ["", "NA", "n/a", " N/A ", "?", "-", "None", "NaN"]


@dataclass(frozen=True)
class Table:
    size: list[float]
    price: list[float | None]
    share: list[float]
    day: list[dt.datetime]
    city: list[str]
    y: list[float]

    def rows(self) -> list[tuple[Any, ...]]:
        return list(zip(self.size, self.price, self.share, self.day, self.city, self.y, strict=True))

    def texts(self, numbers: Numbers, date: Callable[[dt.datetime], str], gap: str) -> list[list[str]]:
        return [
            [numbers.plain(a), gap if b is None else numbers.amount(b), numbers.share(c), date(d), e, numbers.plain(f)]
            for a, b, c, d, e, f in self.rows()
        ]


def table(seed: int) -> Table:
    """Amounts over a thousand and below zero, fractions, a gap, dates with days beyond the twelfth, names with accents."""
    rng = np.random.default_rng(seed)
    price = [None if i % 9 == 4 else float(v) for i, v in enumerate(np.round(rng.normal(0, 40_000, N), 2))]
    days = [dt.datetime(2019, 1, 1) + dt.timedelta(days=int(v)) for v in rng.integers(0, 900, N)]
    days[0] = dt.datetime(2020, 3, 25)
    return Table(
        size=[float(v) for v in np.round(rng.normal(0, 3, N), 2)], price=price,
        share=[float(v) for v in np.round(rng.uniform(0.001, 0.999, N), 3)], day=days,
        city=[NAMES[int(v)] for v in rng.integers(0, len(NAMES), N)],
        y=[float(v) for v in np.round(rng.normal(2000, 900, N), 2)],
    )  # fmt: skip


def delimited(rows: list[list[str]], header: list[str], delimiter: str, always: bool, ending: str) -> str:
    out = io.StringIO()
    quoting = csv.QUOTE_ALL if always else csv.QUOTE_MINIMAL
    csv.writer(out, delimiter=delimiter, quoting=quoting, lineterminator=ending).writerows([header, *rows])
    return out.getvalue()


def arrays(content: bytes, name: str, **how: Any) -> Arrays:
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        dataset = FileDataset(path=str(path), target="y", **how)
        return prepare(
            StudySpec(
                model=CatalogueModel(name="mlp"), dataset=dataset, task="regression", training=Training(batch_size=4)
            )
        )


def plain(seed: int) -> Arrays:
    texts = table(seed).texts(Numbers(), DATES[0], "")
    return arrays(delimited(texts, list(HEADER), ",", False, "\n").encode(), "t.csv")


def same(found: Arrays, expected: Arrays) -> None:
    assert found.feature_names == expected.feature_names, found.report
    np.testing.assert_allclose(found.x_train, expected.x_train, atol=2e-6)
    np.testing.assert_allclose(found.x_test, expected.x_test, atol=2e-6)
    np.testing.assert_allclose(found.y_train, expected.y_train, atol=2e-6)
    np.testing.assert_allclose(found.y_scale, expected.y_scale, rtol=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 50), numbers=st.sampled_from(NUMBERS), date=st.sampled_from(DATES), gap=st.sampled_from(GAPS),
    delimiter=st.sampled_from(",;\t|"), always=st.booleans(), ending=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "latin-1", "cp1252", "utf-16", "utf-16-le", "utf-16-be"]),
    above=st.sampled_from(["", "# made by hand\n", "Sales of 2020\n\n", "Sales of 2020{d}{d}{d}{d}{d}\nby city{d}\n"]),
    trailing=st.booleans(), packed=st.booleans(), spaces=st.booleans(),
)  # fmt: skip
def test_a_table_of_text_in_every_notation(
    seed: int, numbers: Numbers, date: Callable[[dt.datetime], str], gap: str, delimiter: str, always: bool, ending: str,
    encoding: str, above: str, trailing: bool, packed: bool, spaces: bool,
) -> None:  # fmt: skip
    rows, header = table(seed).texts(numbers, date, gap), list(HEADER)
    if spaces:
        header = [f" {name} " for name in header]
    if trailing:
        rows, header = [[*row, ""] for row in rows], [*header, ""]
    text = above.format(d=delimiter).replace("\n", ending) + delimited(rows, header, delimiter, always, ending)
    try:
        content = text.encode(encoding)
    except UnicodeEncodeError:
        content = text.encode()
    name = "t.tsv" if delimiter == "\t" else "t.csv"
    found = arrays(gzip.compress(content) if packed else content, f"{name}.gz" if packed else name)
    same(found, plain(seed))


def json_lines(data: Table) -> bytes:
    return "\n".join(json.dumps(record, ensure_ascii=False) for record in json_records(data)).encode()


def json_records(data: Table) -> list[dict[str, Any]]:
    return [dict(zip(HEADER, (*row[:3], row[3].strftime("%Y-%m-%d"), *row[4:]), strict=True)) for row in data.rows()]


def json_columns(data: Table) -> bytes:
    return json.dumps({name: [one[name] for one in json_records(data)] for name in HEADER}).encode()


def frame(data: Table) -> pd.DataFrame:
    return pd.DataFrame(data.rows(), columns=list(HEADER))


def xlsx(data: Table, above: int = 0) -> bytes:
    book, out = openpyxl.Workbook(), io.BytesIO()
    for line in range(above):
        book.active.append([f"Report, line {line}"])
    book.active.append([f" {name} " for name in HEADER])
    for row in data.rows():
        book.active.append(row)
    book.create_sheet("other").append(["nothing"])
    book.save(out)
    return out.getvalue()


def feathered(data: Table, compression: str) -> bytes:
    out = io.BytesIO()
    feather.write_feather(frame(data), out, compression=compression)
    return out.getvalue()


def arrow_stream(data: Table) -> bytes:
    out, made = io.BytesIO(), pa.Table.from_pandas(frame(data))
    with pa.ipc.new_stream(out, made.schema) as writer:
        writer.write_table(made, max_chunksize=7)
    return out.getvalue()


def parquet(data: Table, **how: Any) -> bytes:
    out = io.BytesIO()
    frame(data).assign(**how).to_parquet(out, index=False)
    return out.getvalue()


def arff_text(data: Table) -> bytes:
    rows = [[*row[:3], row[3].strftime("%Y-%m-%d"), *row[4:]] for row in data.rows()]
    kinds: list[Any] = ["REAL", "NUMERIC", "REAL", "STRING", list(NAMES), "REAL"]
    return arff.dumps({"relation": "t", "attributes": list(zip(HEADER, kinds, strict=True)), "data": rows}).encode()


FORMATS: dict[str, tuple[str, Callable[[Table], bytes]]] = {
    "json lines": ("t.jsonl", json_lines),
    "json lines in gzip": ("t.jsonl.gz", lambda d: gzip.compress(json_lines(d))),
    "json lines, named json": ("t.json", json_lines),
    "records": ("t.json", lambda d: json.dumps(json_records(d), indent=1).encode()),
    "records in UTF-16": ("t.json", lambda d: json.dumps(json_records(d), ensure_ascii=False).encode("utf-16")),
    "columns": ("t.json", json_columns),
    "columns, as pandas writes them": ("t.json", lambda d: frame(d).to_json(date_format="iso", double_precision=12).encode()),
    "spreadsheet": ("t.xlsx", xlsx),
    "spreadsheet under a title": ("t.xlsx", lambda d: xlsx(d, 2)),
    "feather": ("t.feather", lambda d: feathered(d, "uncompressed")),
    "feather, lz4": ("t.feather", lambda d: feathered(d, "lz4")),
    "feather, zstd": ("t.arrow", lambda d: feathered(d, "zstd")),
    "arrow stream": ("t.arrow", arrow_stream),
    "parquet": ("t.parquet", parquet),
    "parquet with a list": ("t.parquet", lambda d: parquet(d, tags=[[1, 2]] * N)),
    "arff": ("t.arff", arff_text),
    "arff in gzip": ("t.arff.gz", lambda d: gzip.compress(arff_text(d))),
}  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 50), kind=st.sampled_from(sorted(FORMATS)))
def test_a_table_in_every_format(seed: int, kind: str) -> None:
    name, write = FORMATS[kind]
    same(arrays(write(table(seed)), name), plain(seed))
