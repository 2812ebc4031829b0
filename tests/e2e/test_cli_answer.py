"""The answer on a terminal: what is said, in which order, and that it stays readable."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from service.cli import render
from tests.web.web_answers import CONFIRMED_N, SHORT_STEPS, sample_recommendation
from tests.web.web_samples import UNUSUAL

KINDS = ("better", "no_difference", "not_enough_search", "noise", "metric_degenerate")


def lines(answer: dict[str, Any], width: int = render.PLAIN_WIDTH) -> list[str]:
    out = Console(file=io.StringIO(), width=width, highlight=False)
    render.recommendation(answer, out)
    assert isinstance(out.file, io.StringIO)
    return [line.rstrip() for line in out.file.getvalue().splitlines()]


def words(shown: list[str]) -> str:
    """As one line, so that a sentence may break anywhere."""
    return " ".join(" ".join(shown).split())


def league(shown: list[str]) -> dict[str, list[str]]:
    """Optimizer → its cells."""
    start = next(i for i, line in enumerate(shown) if line.startswith("optimizer ") and "searched" in line)
    rows = [line.split("  ") for line in shown[start + 1 : shown.index("", start)] if "  " in line]
    return {row[0].split()[0]: [cell.strip() for cell in row[1:] if cell.strip()] for row in rows}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [110, 80])
def test_the_answer_says_its_own_sentences_and_fits(kind: str, width: int) -> None:
    answer = sample_recommendation("s", kind).document()
    shown = lines(answer, width)
    assert shown[0] == answer["headline"]
    code = shown.index("Paste into your training script")
    assert all(len(line) <= width for line in shown[:code])
    assert shown[code + 1 :][: len(answer["snippet"].splitlines())] == answer["snippet"].splitlines()
    text = words(shown)
    assert text.startswith(words([answer["headline"], answer["summary"]]))
    for sentence in (*answer["notes"], *answer["dataset"]["report"]):
        assert sentence in text
    assert "360 search trials and 76 confirmation runs" in text
    assert text.index(" over AdamW at its defaults, probability") < text.index(" difference ")
    assert ("none: the recommended configuration is AdamW at its best" in text) == (kind != "better")
    assert ("half the state, −0.0008" in text) == (kind != "better")


def test_the_league_keeps_searched_and_confirmed_apart_and_marks_what_was_short() -> None:
    shown = lines(sample_recommendation("s", "not_enough_search").document())
    rows = league(shown)
    assert rows["nesterov"][:5] == ["0.9801", "0.9762", "[0.9736, 0.9788]", "12", "11"]
    assert [name for name, row in rows.items() if row[1] != "–"] == list(rows)[:CONFIRMED_N]
    short = [name for name, row in rows.items() if row[0].endswith("*")]
    assert short == [name for name, row in rows.items() if row[4] == "0"] == list(rows)[len(rows) // 2 :]
    text = words(shown)
    assert f"* at fewer than the full number of steps ({SHORT_STEPS})" in text
    assert [line.split()[0] for line in shown if " † " in line] == list(rows)[-2:]
    assert "† not tried enough: muon: the best learning rate, 0.5, is the highest tried" in text
    # Where all reached the full horizon, nothing is marked.
    full = league(lines(sample_recommendation("s").document()))
    assert not any("*" in cell for row in full.values() for cell in row)


def test_optimizers_that_lack_the_same_share_a_footnote() -> None:
    answer = sample_recommendation("s").document()
    for row in answer["league"]:
        row["lacks"] = "never tried at a length that counts"
    assert words(lines(answer)).count("never tried at a length that counts") == 1


def test_long_names_and_numbers_are_not_cut() -> None:
    answer = sample_recommendation("s", "better", UNUSUAL).document()
    for row in answer["league"]:
        row["searched"], row["trials"], row["full_trials"] = -1234567.0 * row["searched"], 12345, 12345
        if row["confirmed"]:
            row["confirmed"]["mean"] *= -1234567.0
            row["confirmed"]["ci95"] = [-1234567.0 * end for end in reversed(row["confirmed"]["ci95"])]
    shown = lines(answer)
    assert "…" not in "".join(shown)
    assert "[−1.208e+06, −1.202e+06]" in words(shown)


def test_a_model_that_hardly_beats_none_is_marked() -> None:
    for beaten in (True, False):
        text = words(lines(sample_recommendation("s", trivial_beaten=beaten).document()))
        assert "no model at all 0.101" in text
        assert ("not shown to be beaten" in text) == (not beaten)
