"""Texts: how files are read, which are refused, and where they are cut."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from optim_core.data import inspect, text_file, understand_text
from optim_core.data.python_docs import python_docs
from optim_core.data.readers import formats
from optim_core.data.text_blocks import text_blocks
from optim_core.data.text_file import Text, read_text
from optim_core.spec.errors import DataError
from optim_core.spec.problem import FileDataset
from tests.unit.text_cases import SENTENCE, text_spec, written

BOM = b"\xef\xbb\xbf"


def read(path: Path, unit: str = "bytes") -> Text:
    return read_text(FileDataset.model_validate({"path": str(path), "format": "text", "unit": unit}))


def code_of(path: Path, unit: str = "bytes") -> tuple[str, str]:
    with pytest.raises(DataError) as caught:
        read(path, unit)
    assert str(caught.value).count("\n") == 0
    assert caught.value.pointer.startswith("/dataset")
    return caught.value.code, str(caught.value)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(min_size=1, max_size=300))
def test_bytes_are_read_as_they_are(tmp_path: Path, content: bytes) -> None:
    # What begins as another kind of file does, or holds a mark alone, is refused.
    if content == BOM or any(content.startswith(magic) for magic, _ in formats._MAGIC):
        code_of(written(tmp_path, content))
        return
    found = read(written(tmp_path, content))
    assert found.codes.tobytes() == content.removeprefix(BOM)
    assert found.symbols == 256


# Neither a NUL nor half a surrogate pair.
TEXTS = st.text(st.characters(min_codepoint=1, exclude_categories=("Cs",)), min_size=1, max_size=200)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TEXTS, st.booleans())
def test_characters_are_numbered_in_their_own_order(tmp_path: Path, content: str, mark: bool) -> None:
    content = "x" + content
    found = read(written(tmp_path, content.encode("utf-8-sig" if mark else "utf-8")), "characters")
    known = sorted(set(content))
    assert "".join(known[code] for code in found.codes) == content
    assert found.symbols == len(known)
    assert "in UTF-8" in found.report[0]
    assert ("byte order mark" in found.report[0]) == mark


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(min_size=1, max_size=200))
def test_any_bytes_without_a_nul_have_characters(tmp_path: Path, content: bytes) -> None:
    content = b"x" + content.replace(b"\0", b" ")
    found = read(written(tmp_path, content), "characters")
    assert len(found.codes) > 0
    assert int(found.codes.max()) < found.symbols


def test_the_report_says_how_a_text_was_decoded(tmp_path: Path) -> None:
    assert "Windows-1252 (byte 4 is not UTF-8)" in read(written(tmp_path, b"caf\xe9 \x93x\x94"), "characters").report[0]
    assert "Latin-1 (byte 4 is not UTF-8)" in read(written(tmp_path, b"caf\xe9 \x81"), "characters").report[0]
    assert read(written(tmp_path, "café"), "characters").report == [
        "Read 4 characters of 'notes.txt', 4 different ones, in UTF-8."
    ]
    assert read(written(tmp_path, "café")).report == ["Read 5 bytes of 'notes.txt'."]


def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert code_of(tmp_path / "absent.txt")[0] == "file_missing"
    assert code_of(written(tmp_path, b""))[0] == "empty_file"
    assert code_of(written(tmp_path, BOM))[0] == "empty_file"
    assert code_of(tmp_path)[0] == "path_not_allowed"
    assert "a PDF document" in code_of(written(tmp_path, b"%PDF-1.7 \x00"))[1]
    code, said = code_of(written(tmp_path, b"ab\x00c"), "characters")
    assert code == "not_text"
    assert "byte 3" in said
    assert "unit: bytes" in said
    read(written(tmp_path, b"ab\x00\x01\x7fc"))
    read(written(tmp_path, "<html><p>a page is a text, too"))
    monkeypatch.setattr(text_file, "MAX_TEXT_BYTES", 9)
    assert code_of(written(tmp_path, "0123456789"))[0] == "too_large"
    monkeypatch.setattr(text_file, "MAX_SYMBOLS", 3)
    assert code_of(written(tmp_path, "abcd"), "characters")[0] == "too_many_symbols"


def test_a_text_outside_the_roots_is_refused(tmp_path: Path) -> None:
    spec = text_spec(written(tmp_path, SENTENCE * 50), dataset={"block": 8})
    understand_text(spec, [str(tmp_path)])
    with pytest.raises(DataError, match="not allowed"):
        understand_text(spec, [str(tmp_path / "data")])


def test_a_text_is_no_table(tmp_path: Path) -> None:
    spec = text_spec(written(tmp_path, SENTENCE))
    with pytest.raises(DataError, match="no table"):
        inspect(spec.dataset, spec)


@settings(max_examples=100, deadline=None)
@given(st.integers(60, 3000), st.integers(4, 50), st.sampled_from([(0.2, 0.2), (0.1, 0.3), (0.25, 0.1)]))
def test_pieces_share_no_token_and_each_is_a_target_at_most_once(
    tokens: int, size: int, fractions: tuple[float, float]
) -> None:
    training = {"validation_fraction": fractions[0], "test_fraction": fractions[1], "batch_size": 1}
    spec = text_spec(dataset={"block": size}, training=training)
    text = Text(np.zeros(tokens, np.uint8), 256, "bytes", [])
    # Two blocks and a token in the smallest piece; rounding may move a border by one.
    if tokens * min(fractions) < 2 * size + 2:
        if tokens * min(fractions) < 2 * size:
            with pytest.raises(DataError, match="give a longer text"):
                text_blocks(text, spec)
        return
    blocks = text_blocks(text, spec)
    assert len(blocks.splits) == (5 if fractions == (0.2, 0.2) else 1)
    for rows in blocks.splits:
        seen: list[set[int]] = []
        targets: list[int] = []
        for part in (rows.train, rows.validation, rows.test):
            starts = blocks.starts[part]
            seen.append({int(start) + i for start in starts for i in range(size + 1)})
            targets += [int(start) + 1 + i for start in starts for i in range(size)]
        assert sum(map(len, seen)) == len(set().union(*seen))
        assert len(set(targets)) == len(targets)
        assert max(targets) < tokens
        # What lies between the first and the last token of the test is all of it.
        assert max(seen[2]) - min(seen[2]) + 1 == len(seen[2])
        assert sum(rows.counts.values()) == len(blocks.starts)
    # Little is left over: less than a block at the end of each piece, and what five does not divide.
    assert len(set(targets)) > tokens - 5 * (size + 2)
    if len(blocks.splits) == 5:
        assert sorted(np.concatenate([rows.test for rows in blocks.splits])) == list(range(len(blocks.starts)))
        for fold, rows in enumerate(blocks.splits):
            assert (rows.validation == blocks.splits[(fold + 1) % 5].test).all()


def test_a_text_that_is_too_short_says_what_is_needed(tmp_path: Path) -> None:
    spec = text_spec(written(tmp_path, SENTENCE))
    with pytest.raises(DataError) as caught:
        understand_text(spec)
    assert (caught.value.code, caught.value.pointer) == ("text_too_short", "/dataset")
    assert str(caught.value).startswith("the text has 68 bytes; blocks of 64 need about 651, ")
    understand_text(text_spec(written(tmp_path, "x" * 651)))


def test_the_reports_say_that_pieces_are_contiguous(tmp_path: Path) -> None:
    found = read(written(tmp_path, SENTENCE * 100))
    whole = text_blocks(found, text_spec()).report[0]
    assert "blocks of 64 bytes" in whole
    assert "in five contiguous pieces of the text: the search trains on 63 blocks, looks at 21 and leaves 21" in whole
    one = text_blocks(found, text_spec(training={"test_fraction": 0.1})).report[0]
    assert "the front of the text, 74 blocks, for training" in one


def test_the_bundled_text_is_the_same_in_each_process() -> None:
    raw = python_docs()
    assert 700_000 < len(raw) < 1_500_000
    assert raw.count(b"\0") == 0
    assert raw.decode().count("Return") > 500
    program = "import hashlib\nfrom optim_core.data.python_docs import python_docs\n"
    program += "print(hashlib.sha256(python_docs()).hexdigest())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == hashlib.sha256(raw).hexdigest()
