"""`got serve` with 16 clients at once against one caller of the pipeline, and against MLflow's server.

The embedded model with fresh weights; every request plans 48 tokens and draws one picture. The caller gives
the pipeline batches of as many prompts as there are clients. MLflow's server is that of this checkout, or
with BENCH_BEFORE=FOLDER of another one. Besides: seconds from a killed server to one that is ready again;
requests that failed while the alias of a registered model moved under load; memory before and after each of
several bursts of bad requests, 200 at once. BENCH_CLIENTS, BENCH_ROUNDS and BENCH_BURSTS set the size,
BENCH_PARTS=rates,bursts,start,alias leaves parts out.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from bench.bench_drawing import build_pipeline
from bench.served import ROOT, got_serve, mlflow_serve, per_second, post, resident
from tests.ports import free_port

CLIENTS = int(os.environ.get("BENCH_CLIENTS", "16"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "4"))
BEFORE = os.environ.get("BENCH_BEFORE", str(ROOT))
BURSTS = int(os.environ.get("BENCH_BURSTS", "5"))
PARTS = os.environ.get("BENCH_PARTS", "rates,bursts,start,alias").split(",")
BAD = 200
SETTLED = 8.0
"""Seconds after which the server has given back what it holds no more."""

_SAVE = """
import sys
from pathlib import Path
import mlflow
from got_core.registry import log
options = {}
try:
    from got_core.registry.loading import DEFAULTS
    options = {"model_config": DEFAULTS}
except ImportError:
    pass
mlflow.pyfunc.save_model(
    sys.argv[2],
    python_model=str(Path(log.__file__).with_name("pyfunc.py")),
    artifacts={"pipeline": sys.argv[1]},
    signature=log.signature(),
    pip_requirements=log.requirements(),
    **options,
)
"""


def main() -> dict[str, float | str]:
    """Pictures a second and their ratios, seconds, failures, MiB."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "pipeline"
        pipeline = build_pipeline()
        pipeline.save_pretrained(folder)
        pipeline.set_progress_bar_config(disable=True)
        found: dict[str, float | str] = {}
        if "rates" in PARTS:
            found |= rates(pipeline, folder, Path(place))
        if "bursts" in PARTS:
            found |= bursts(folder)
        if "start" in PARTS:
            found |= started_again(folder)
        if "alias" in PARTS:
            found |= moved(folder, Path(place))
    return found


def rates(pipeline: object, folder: Path, place: Path) -> dict[str, float | str]:
    """Pictures a second of one caller, of both servers, and their ratios."""
    alone, ours, other = caller(pipeline), served(folder), by_mlflow(folder, place)
    return {
        "caller, pictures/s": alone,
        "got serve, pictures/s": ours,
        "MLflow's server, pictures/s": other,
        "of the caller": ours / alone,
        "times MLflow's server": ours / other,
    }


def prompts(k: int) -> str:
    """Of the k-th request."""
    return f"a photo of {k % CLIENTS + 1} cats"


def caller(pipeline: object) -> float:
    """Pictures a second of one caller."""
    batch = [prompts(k) for k in range(CLIENTS)]

    def call() -> None:
        generators = [torch.Generator().manual_seed(k) for k in range(CLIENTS)]
        pipeline(batch, generator=generators)  # type: ignore[operator]

    call()
    started = time.perf_counter()
    for _ in range(ROUNDS):
        call()
    return CLIENTS * ROUNDS / (time.perf_counter() - started)


def ask_of(port: int) -> Callable[[int], None]:
    """Asks the server at a port for the k-th picture."""

    def ask(k: int) -> None:
        status, answer = post(f"http://127.0.0.1:{port}/v1/got/draw", {"prompt": prompts(k), "seed": k})
        assert status == 200, answer

    return ask


def served(folder: Path) -> float:
    """Pictures a second of `got serve`."""
    port = free_port()
    with got_serve(str(folder), port):
        return per_second(ask_of(port), CLIENTS * ROUNDS, CLIENTS)


def bursts(folder: Path) -> dict[str, float | str]:
    """Memory before and after each burst of bad requests, and how many were answered with 5xx."""
    port = free_port()
    with got_serve(str(folder), port) as (server, _):
        for _ in range(2):
            per_second(ask_of(port), CLIENTS, CLIENTS)
        found: dict[str, float | str] = {"memory, MiB": resident(server.pid)}
        faults = 0
        for burst in range(1, BURSTS + 1):
            faults += bad_requests(f"http://127.0.0.1:{port}/v1/got/draw")
            per_second(ask_of(port), CLIENTS, CLIENTS)
            time.sleep(SETTLED)
            found[f"memory after {BAD * burst} bad requests, MiB"] = resident(server.pid)
    return {"bad requests answered with 5xx": float(faults), **found}


def started_again(folder: Path) -> dict[str, float | str]:
    """Seconds from a killed server to one at the same port that is ready."""
    port = free_port()
    with got_serve(str(folder), port) as (server, first):
        server.kill()
        server.wait()
    with got_serve(str(folder), port) as (_, seconds):
        return {"from started to ready, s": first, "from killed to ready, s": seconds}


def bad_requests(url: str) -> int:
    """So many at once; how many were answered with 5xx."""
    bodies = [b"{", b"\xff", {"prompt": 5}, {"prompt": "a", "num_inference_steps": 10**9}, b"[" * 100_000]
    bodies += [{"prompt": "a", "image": "A" * 10_000_000}, {"prompt": "a", "chain": "a (1,2) b" * 1000}]
    with ThreadPoolExecutor(BAD) as pool:
        statuses = list(pool.map(lambda k: post(url, bodies[k % len(bodies)])[0], range(BAD)))
    return sum(status >= 500 for status in statuses)


def by_mlflow(folder: Path, place: Path) -> float:
    """Pictures a second of MLflow's server, asked by as many clients."""
    entry, port, code = place / "entry", free_port(), Path(BEFORE).absolute()
    environment = {**os.environ, "PYTHONPATH": str(code)}
    subprocess.run([sys.executable, "-c", _SAVE, folder, entry], env=environment, check=True)
    url = f"http://127.0.0.1:{port}/invocations"

    def ask(k: int) -> None:
        status, answer = post(url, {"dataframe_records": [{"prompt": prompts(k), "seed": k}]})
        assert status == 200 and answer["predictions"][0]["error"] is None, answer

    with mlflow_serve(entry, port, code):
        return per_second(ask, CLIENTS * ROUNDS, CLIENTS)


def moved(folder: Path, place: Path) -> dict[str, float | str]:
    """Requests that failed while an alias moved, of how many, and seconds until the new version answered."""
    from got_core.registry.aliases import move_alias
    from got_core.registry.log import register
    from got_core.registry.standing import CHAMPION
    from got_core.registry.tracking import connect

    uri, port = f"sqlite:///{place}/mlflow/mlflow.db", free_port()
    for weights in ("w1", "w2"):
        register(folder, tracking_uri=uri, tags={"weights_hash": weights})
    client = connect(uri)
    move_alias(client, "got", CHAMPION, "1", "bench")
    url, stop = f"http://127.0.0.1:{port}/v1/got/draw", threading.Event()
    seen: list[tuple[int, str]] = []

    def ask() -> None:
        while not stop.is_set():
            status, answer = post(url, {"prompt": prompts(0), "num_inference_steps": 4, "max_new_tokens": 4})
            seen.append((status, answer.get("model", "") if status == 200 else str(answer)))

    settings = {"GOT_MLFLOW_URI": uri, "GOT_SERVE_WATCH": "0.5", "GOT_HOME": str(place / "home")}
    with got_serve(f"models:/got@{CHAMPION}", port, **settings):
        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        while len(seen) < 8:
            time.sleep(0.05)
        started = time.perf_counter()
        move_alias(client, "got", CHAMPION, "2", "bench")
        while (200, "models:/got/2") not in seen and time.perf_counter() - started < 120:
            time.sleep(0.05)
        seconds = time.perf_counter() - started
        stop.set()
        for thread in threads:
            thread.join()
    return {
        "failed while the alias moved": float(sum(status != 200 for status, _ in seen)),
        "of requests": float(len(seen)),
        "until the new version answers, s": seconds,
    }
