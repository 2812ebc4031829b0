"""Addresses and ids that cannot be any are refused at once: nobody waits half an hour for what can never answer."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from service.address import http_address
from service.cli.backend import server_address
from service.cli.errors import CommandError
from service.client import Client

WRONG: list[Any] = [
    "", "nonsense", "localhost:8000", "ftp://h", "http://", "http://:8000", "http://h:x", "http://h:99999", "http://h:0",
    "http://[::1", "http://exa mple", "http://h\n", "http://a..b", "http://h\\x", None, b"http://h",
]  # fmt: skip


@pytest.mark.parametrize("given", WRONG)
def test_what_is_no_address_is_refused_at_once(given: Any) -> None:
    with pytest.raises(ValueError, match="is no address; write http://HOST:PORT"):
        Client(given)


@pytest.mark.parametrize("given", WRONG[1:-2])
def test_the_commands_refuse_the_same_and_say_who_named_it(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CommandError, match=r"--server: .* is no address"):
        server_address(given)
    monkeypatch.setenv("WHICHOPT_SERVER", given)
    with pytest.raises(CommandError, match=r"WHICHOPT_SERVER: .* is no address"):
        server_address(None)


@pytest.mark.parametrize(
    "given",
    [
        "http://h",
        "HTTPS://h:8443/below",
        "http://[::1]:8000",
        "http://my_host",
        "http://bücher.example",
        "http://u:p@h",
    ],
)
def test_addresses_stay_as_they_are_but_for_the_slash_at_their_end(given: str) -> None:
    assert http_address(given) == http_address(f"{given}/") == given


@pytest.mark.parametrize("given", ["", " ", "run 7", "a/b", "..", "a?b", "x" * 65, "ü", None, 7])
def test_what_is_no_id_is_refused_before_anything_is_sent(given: Any) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        raise AssertionError(request.url)

    with Client("http://x", transport=httpx2.MockTransport(answer)) as client:
        for call in (
            client.study, client.get_study, client.delete, client.cancel, client.trials, client.recommendation,
            client.artifact, client.delete_artifact,
        ):  # fmt: skip
            with pytest.raises(ValueError, match="is no id"):
                call(given)
        with pytest.raises(ValueError, match="is no id"):
            list(client.events(given))
