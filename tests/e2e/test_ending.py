"""A server that is told to end ends what waits, and says nothing of it; who waited comes back to the next one."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx2
import pytest

from service.client import Client
from tests.conftest import wait_until
from tests.e2e.cli_support import environment

LOOP: dict[str, Any] = {"model": {"kind": "external", "steps": 9}, "metric": "loss", "budget": {"trials": 5}}


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_streams_and_long_polls_end_with_the_server(tmp_path: Path, how: signal.Signals) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-m", "workers.cli", "serve", "--no-worker", "--port", "0"]
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=environment(tmp_path), cwd=tmp_path, stderr=out)
    streams: list[str] = []
    answers: list[Any] = []
    try:
        wait_until(lambda: bool([*tmp_path.rglob("serving/[!.]*")]), "the server", 120)
        [serving] = tmp_path.rglob("serving/[!.]*")
        url, key = f"http://{serving.name}", (serving.parent.parent / "key").read_text().strip()
        with Client(url, key=key) as client:
            study = client.create_study(LOOP)["id"]

            held = 0
            while client.post(f"/v1/studies/{study}/ask", {"client_id": f"holds-{held}", "wait_s": 5.0})["trial"]:
                held += 1
            assert held

            def listen() -> None:
                headers = {"Authorization": f"Bearer {key}"}
                with httpx2.stream("GET", f"{url}/v1/studies/{study}/events", headers=headers, timeout=120) as stream:
                    for line in stream.iter_lines():
                        streams.append(line)

            def ask() -> None:
                with Client(url, key=key) as other:
                    answers.append(other.post(f"/v1/studies/{study}/ask", {"client_id": "waits", "wait_s": 30.0}))

            threads = [threading.Thread(target=work) for work in (listen, listen, ask)]
            for thread in threads:
                thread.start()
            wait_until(lambda: len([line for line in streams if "study.state" in line]) >= 2, "two streams", 60)
            # Who asks is known before it waits.
            wait_until(lambda: "waits" in [one["id"] for one in client.clients(study)], "the one who asks", 60)
            process.send_signal(how)
            for thread in threads:
                thread.join(60)
            assert not any(thread.is_alive() for thread in threads)
        process.wait(60)
    finally:
        process.kill()
        process.wait()
    [answer] = answers
    assert (answer["trial"], answer["ended"]) == (None, False)
    told = log.read_text()
    assert "Traceback" not in told
    assert '"level": "error"' not in told
