"""What is wrong with the environment is said at the start, with the name of the variable."""

from __future__ import annotations

from pathlib import Path

import pytest

from service import private
from service.cli.errors import BAD_INPUT, CommandError
from service.settings import Settings
from workers.commands import explain, read_settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://x"), ("DATABASE_URL", "sqlite://"), ("WEBHOOK_HOSTS", "ftp://x"),
        ("WEBHOOK_HOSTS", "https://a.example,b.example"), ("WEBHOOK_HOSTS", "https://a.example/path"),
        ("BROKER_URL", "amqp://x"), ("DATA_ROOTS", "rel"), ("DATA_ROOTS", ":"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_meant_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"WHICHOPT_{name}", value)
    with pytest.raises(CommandError, match=f"^WHICHOPT_{name}: ") as refused:
        read_settings()
    assert refused.value.code == BAD_INPUT


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"WHICHOPT_{name.upper()}", raising=False)
    without = read_settings()
    for name in Settings.model_fields:
        monkeypatch.setenv(f"WHICHOPT_{name.upper()}", "")
    assert read_settings() == without


def test_a_data_folder_that_cannot_be_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHICHOPT_DATA_DIR", "/proc/x")
    with pytest.raises(FileNotFoundError) as cannot:
        private.folder(Path("/proc/x"))
    assert explain(cannot.value) == ("WHICHOPT_DATA_DIR: /proc/x: No such file or directory", BAD_INPUT)
