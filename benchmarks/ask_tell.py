"""Ask, report and tell by many clients at once: how long each answer takes, and how large the database gets.

``make bench-ask``. A server of this project as ``whichopt serve`` runs it, with one planner, and clients as threads of a few
processes, each with a connection of its own, that train nothing but report as often as the SDK sends (``--pace``). Beside
it, on the same machine in the same run, Optuna's gRPC storage proxy over an SQLite file, with the same clients and, as
Optuna does it, a TPE in each (needs grpcio); and OSS Vizier's service (needs google-vizier). What is not installed is said.
Clients of the others begin no trial after ``--limit``: they get slower with every trial, and what ended till then counts.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.device import RESULTS, device, device_slug
from benchmarks.served import served

CLIENTS, TRIALS, REPORTS, PACE_S = 32, 1_000, 20, 0.5
# Seconds after which clients of the others begin no trial.
LIMIT_S = 300.0
# Requests of one client, before the others come.
ALONE = 100
# What the goal is: 95 % of the answers within so many milliseconds.
GOALS = {"ask": 150.0, "report": 20.0}
# Milliseconds by what was done; ``FAILED``: how many calls ended in an error.
Times = dict[str, list[float]]
FAILED = "failed"


def rest(pace: float) -> None:
    """As if something were trained: not all clients at once."""
    time.sleep(pace * random.uniform(0.5, 1.5))


def whichopt_client(url: str, study_id: str, name: str, reports: int, pace: float, times: Times) -> None:
    """Ask, report and tell until the study has ended."""
    from service.client import Client

    def timed(what: str, call: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        answer = call()
        times.setdefault(what, []).append(1000 * (time.perf_counter() - start))
        return answer

    with Client(url) as client:
        while True:
            wanted = {"client_id": name, "wait_s": 0.0}
            asked = timed("ask", lambda wanted=wanted: client.post(f"/v1/studies/{study_id}/ask", wanted))
            if asked["trial"] is None and not asked["ended"]:
                # Mostly the other clients' time, and the planner's.
                wanted["wait_s"] = 20.0
                asked = timed("ask, waiting", lambda wanted=wanted: client.post(f"/v1/studies/{study_id}/ask", wanted))
            if asked["ended"]:
                return
            trial = asked["trial"]
            if trial is None:
                continue
            mine = {"client_id": name, "token": trial["token"]}
            path = f"/v1/studies/{study_id}/trials/{trial['number']}"
            for i in range(reports):
                rest(pace)
                body = {**mine, "points": [{"step": i + 1, "loss": 1 / (1 + i)}]}
                timed("report", lambda path=path, body=body: client.post(f"{path}/report", body))
            lr = float(trial["configuration"]["hyperparameters"].get("lr", 1.0))
            body = {**mine, "value": abs(lr - 0.01)}
            timed("tell", lambda path=path, body=body: client.post(f"{path}/tell", body))


def optuna_client(address: str, study: str, until: float, trials: int, reports: int, pace: float, times: Times) -> None:
    """The same of Optuna: the sampler runs in the client, the proxy only stores."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    host, _, port = address.partition(":")
    storage = optuna.storages.GrpcStorageProxy(host=host, port=int(port))
    known = optuna.load_study(study_name=study, storage=storage)

    def timed(what: str, call: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        try:
            return call()
        except Exception:  # SQLite was locked for longer than it waits; the client goes on with the next call
            times.setdefault(FAILED, []).append(1.0)
            return None
        finally:
            times.setdefault(what, []).append(1000 * (time.perf_counter() - start))

    space: dict[str, Any] = {"lr": optuna.distributions.FloatDistribution(1e-5, 1.0, log=True)}
    for _ in range(trials):
        if time.time() > until:
            return
        trial = timed("ask", lambda: known.ask(space))
        if trial is None:
            continue
        for i in range(reports):
            rest(pace)
            timed("report", lambda trial=trial, i=i: trial.report(1 / (1 + i), i + 1))
        timed("tell", lambda trial=trial: known.tell(trial, abs(trial.params["lr"] - 0.01)))


def vizier_client(
    endpoint: str, study: str, until: float, name: str, trials: int, reports: int, pace: float, times: Times
) -> None:
    """The same of OSS Vizier's service."""
    from vizier.service import clients  # type: ignore[import-not-found]
    from vizier.service import pyvizier as vz  # type: ignore[import-not-found]

    clients.environment_variables.server_endpoint = endpoint
    known = clients.Study.from_owner_and_id("bench", study)
    for _ in range(trials):
        if time.time() > until:
            return
        start = time.perf_counter()
        [trial] = known.suggest(count=1, client_id=name)
        times.setdefault("ask", []).append(1000 * (time.perf_counter() - start))
        for i in range(reports):
            rest(pace)
            start = time.perf_counter()
            trial.add_measurement(vz.Measurement({"loss": 1 / (1 + i)}, steps=i + 1))
            times.setdefault("report", []).append(1000 * (time.perf_counter() - start))
        start = time.perf_counter()
        trial.complete(vz.Measurement({"loss": abs(trial.parameters["lr"] - 0.01)}))
        times.setdefault("tell", []).append(1000 * (time.perf_counter() - start))


def _several(target: Callable[..., None], calls: list[tuple[Any, ...]], out: Any) -> None:
    """Threads of one process, one a client."""
    found: list[Times] = [{} for _ in calls]
    threads = [threading.Thread(target=target, args=(*call, times)) for call, times in zip(calls, found, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    out.put(found)


def at_once(target: Callable[..., None], calls: list[tuple[Any, ...]], processes: int) -> tuple[Times, float]:
    """(milliseconds by what was done, seconds in all) of all ``calls`` at once."""
    context = multiprocessing.get_context("spawn")
    out = context.Queue()
    parts = [calls[i::processes] for i in range(processes) if calls[i::processes]]
    start = time.perf_counter()
    children = [context.Process(target=_several, args=(target, part, out)) for part in parts]
    for child in children:
        child.start()
    found = [times for _ in children for times in out.get(timeout=3600)]
    for child in children:
        child.join()
    merged: Times = {}
    for times in found:
        for what, values in times.items():
            merged.setdefault(what, []).extend(values)
    return merged, time.perf_counter() - start


def kept_connection(client: Any, study_id: str) -> Times:
    """Milliseconds of one client alone that keeps its connection: 40 more where the server's sockets wait for its answer."""
    spent = []
    for _ in range(ALONE):
        start = time.perf_counter()
        client.get_study(study_id)
        spent.append(1000 * (time.perf_counter() - start))
    return {"one client alone": spent}


def of_whichopt(
    clients: int, trials: int, reports: int, pace: float, processes: int, _limit_s: float
) -> dict[str, Any]:
    """This project's service."""
    from service.client import Client

    spec = {
        "model": {"kind": "external", "steps": max(reports, 1)}, "metric": "loss",
        "search": {"optimizers": ["adamw", "sgd", "lion"]},
        "budget": {"trials": trials},
    }  # fmt: skip
    with (
        tempfile.TemporaryDirectory() as folder,
        served(Path(folder), "--workers", "1", WHICHOPT_LOG_LEVEL="ERROR") as (url, _),
    ):
        # The clients of other processes find it there.
        os.environ["WHICHOPT_KEY"] = (Path(folder) / "key").read_text()
        with Client(url) as client:
            study_id = client.create_study(spec)["id"]
            alone = kept_connection(client, study_id)
            calls = [(url, study_id, f"client-{i}", reports, pace) for i in range(clients)]
            times, seconds = at_once(whichopt_client, calls, processes)
            verdict = client.recommendation(study_id)["verdict"]
        times |= alone
        size = sum(path.stat().st_size for path in Path(folder).glob("whichopt.db*"))
    return {"service": "whichopt", **summary(times, seconds), "verdict": verdict, "database_bytes": size}


def of_optuna(clients: int, trials: int, reports: int, pace: float, processes: int, limit_s: float) -> dict[str, Any]:
    """Optuna's gRPC storage proxy over SQLite."""
    import optuna

    from tests.conftest import free_port

    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/optuna.db"
        code = (
            "import optuna, sys; optuna.storages.run_grpc_proxy_server("
            "optuna.storages.RDBStorage(sys.argv[1]), host='localhost', port=int(sys.argv[2]))"
        )
        proxy = subprocess.Popen([sys.executable, "-c", code, url, str(port)], stderr=subprocess.DEVNULL)
        try:
            optuna.logging.set_verbosity(optuna.logging.ERROR)
            storage = optuna.storages.GrpcStorageProxy(host="localhost", port=port)
            storage.wait_server_ready(timeout=60)
            optuna.create_study(study_name="bench", storage=storage)
            until = time.time() + limit_s
            calls = [(f"localhost:{port}", "bench", until, trials // clients, reports, pace) for _ in range(clients)]
            times, seconds = at_once(optuna_client, calls, processes)
        finally:
            proxy.terminate()
            proxy.wait(30)
        size = sum(path.stat().st_size for path in Path(folder).glob("optuna.db*"))
    return {"service": "optuna gRPC proxy", **summary(times, seconds), "database_bytes": size}


def of_vizier(clients: int, trials: int, reports: int, pace: float, processes: int, limit_s: float) -> dict[str, Any]:
    """OSS Vizier's default service; raises ImportError where it is not installed."""
    from vizier.service import clients as service  # type: ignore[import-not-found]
    from vizier.service import pyvizier as vz  # type: ignore[import-not-found]
    from vizier.service import servers  # type: ignore[import-not-found]

    # It serves as long as it is kept.
    server = servers.DefaultVizierServer(host="localhost")
    endpoint = server.endpoint
    service.environment_variables.server_endpoint = endpoint
    config = vz.StudyConfig(algorithm="DEFAULT")
    config.search_space.root.add_float_param("lr", 1e-5, 1.0, scale_type=vz.ScaleType.LOG)
    config.metric_information.append(vz.MetricInformation("loss", goal=vz.ObjectiveMetricGoal.MINIMIZE))
    service.Study.from_study_config(config, owner="bench", study_id="bench")
    until = time.time() + limit_s
    calls = [(endpoint, "bench", until, f"client-{i}", trials // clients, reports, pace) for i in range(clients)]
    times, seconds = at_once(vizier_client, calls, processes)
    del server
    return {"service": "oss vizier", **summary(times, seconds)}


def summary(times: Times, seconds: float) -> dict[str, Any]:
    """Counts, medians and 95th percentiles in milliseconds."""
    found: dict[str, Any] = {"seconds": round(seconds, 2), FAILED: len(times.pop(FAILED, []))}
    for what, values in times.items():
        p95 = statistics.quantiles(values, n=20)[-1] if len(values) > 1 else values[0]
        found[what] = {"n": len(values), "p50_ms": round(statistics.median(values), 2), "p95_ms": round(p95, 2)}
    return found


def main() -> None:
    """Run and print, one JSON line a service."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--reports", type=int, default=REPORTS, help="reports of each trial")
    parser.add_argument("--pace", type=float, default=PACE_S, help="seconds between them, on average")
    parser.add_argument("--processes", type=int, default=4, help="processes that the clients are threads of")
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds after which the others begin no trial")
    parser.add_argument("--only", choices=("whichopt", "optuna", "vizier"))
    parser.add_argument(
        "--out", type=Path, help="write the document there; 'auto': benchmarks/results/ask-tell-<device>.json"
    )
    asked = parser.parse_args()
    runs = {"whichopt": of_whichopt, "optuna": of_optuna, "vizier": of_vizier}
    found = []
    for name, run in runs.items():
        if asked.only not in (None, name):
            continue
        try:
            row: dict[str, Any] = run(
                asked.clients, asked.trials, asked.reports, asked.pace, asked.processes, asked.limit
            )
        # What is installed may not fit together, which is no fault of the others.
        except (ImportError, AttributeError) as error:
            row = {"service": name, "not_installed": str(error)}
        row["load_average"] = os.getloadavg()[0]
        found.append(row)
        print(json.dumps(row), flush=True)
    if asked.out is not None:
        where = device()
        document = {
            "device": where,
            "clients": asked.clients,
            "trials": asked.trials,
            "reports": asked.reports,
            "goals_ms": GOALS,
            "runs": found,
        }
        out = RESULTS / f"ask-tell-{device_slug(where)}.json" if str(asked.out) == "auto" else asked.out
        out.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
