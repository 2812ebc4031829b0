"""Texts in encodings that are no Unicode: what Windows-1252 makes of other alphabets is warned of, Western texts are not."""

from __future__ import annotations

import codecs
from pathlib import Path

import numpy as np
import pytest

from tests.unit.test_data_heads import read, refused, said

X = np.round(np.random.default_rng(4).normal(size=60), 3)


def table(words: list[str], name: str = "name") -> str:
    rows = (f"{words[i % len(words)]},{x},{i % 2}" for i, x in enumerate(X))
    return "\n".join([f"{name},x,y", *rows]) + "\n"


@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        ("shift_jis", ["東京", "大阪", "名古屋"]), ("cp1251", ["Москва", "Казань", "Омск"]),
        ("koi8-r", ["Москва", "Казань", "Омск"]),
        ("gb18030", ["北京市", "上海市", "广州市"]), ("euc-kr", ["서울시", "부산시", "대구시"]),
        ("iso8859-7", ["Αθήνα", "Πάτρα"]),
        ("mac_roman", ["Bär", "Köln", "Müller"]), ("mac_roman", ["café", "thé", "crème"]), ("cp850", ["Bär", "Köln", "Müller"]),
        ("cp850", ["Österreich", "Türkei", "Dänemark"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("late", [False, True])
def test_words_of_another_alphabet_are_warned_of(tmp_path: Path, encoding: str, words: list[str], late: bool) -> None:
    text = table(words)
    if late:
        text = text.replace("\n", "\n" + "abc,1.5,0\n" * 40_000, 1)
    found = read(tmp_path, text.encode(encoding))
    assert said(found, "Warning encoding", "looks wrong", "--encoding")
    right = read(tmp_path, table(words).encode(encoding), encoding=encoding)
    assert not said(right, "encoding")
    levels = next(column.levels for column in right.columns if column.name == "name")
    assert levels is not None
    assert levels.first(2) == words[:2]


@pytest.mark.parametrize(
    "words",
    [
        ["Bär", "Köln", "Österreich"], ["café", "cœur", "l’été"], ["señor", "niño", "¿qué?"], ["ÅRSTA", "Malmö", "Ærø"],
        ["12 €", "9 €"],
        ["„gut“", "„naja“", "‚so‘"], ["Þór", "þæð", "Ísland"], ["São Paulo", "Brasília"], ["Škoda", "Bär", "für", "Öl"],
        ["m²", "µg/m³"],
        ["Berlin–Wien", "A • B", "x…"], ["FRANÇAIS", "GARÇON", "ÉTÉ"],
    ],
    ids=lambda words: words[0],
)  # fmt: skip
def test_western_words_are_not(tmp_path: Path, words: list[str]) -> None:
    found = read(tmp_path, table(words).encode("cp1252"))
    assert said(found, "read as Windows-1252")
    assert not said(found, "Warning encoding")


@pytest.mark.parametrize(
    "content",
    [
        codecs.BOM_UTF32_LE + table(["Bär", "東京"]).encode("utf-32-le"),
        codecs.BOM_UTF32_BE + table(["Bär", "東京"]).encode("utf-32-be"),
        table(["Bär", "東京"]).replace("\n", "\r").encode(),
    ],
    ids=["UTF-32", "UTF-32, big endian", "CR"],
)
def test_what_is_rare_but_plain_is_read(tmp_path: Path, content: bytes) -> None:
    found, expected = read(tmp_path, content), read(tmp_path, table(["Bär", "東京"]))
    assert [(one.name, one.role) for one in found.columns] == [("name", "category"), ("x", "number")]
    np.testing.assert_array_equal(found.target.values, expected.target.values)
    assert found.columns[0].levels is not None
    assert found.columns[0].levels.first(2) == ["Bär", "東京"]


def test_a_return_within_a_line_is_refused_still(tmp_path: Path) -> None:
    lines = table(["a", "b"]).split("\n")
    lines[2] = lines[2].replace(",", "\r,", 1)
    assert "line 3: holds a carriage return" in refused(tmp_path, "\n".join(lines))
