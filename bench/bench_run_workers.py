"""Eight run workers against one on the data part, behind an annotator that takes 0.3 s a reply.

Each worker is as on a machine of its own: its own home, Dagster instance and GOT_ANNOTATOR_CONCURRENCY (4),
on one storage. It takes whole shards of rendered scenes, from reading them to tars. Workers of one home share
the requests at once, of which one worker alone can have enough. BENCH_WORKERS, BENCH_SHARDS and
BENCH_ROWS say how many there are (default 8, 8 and 100).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from bench.bench_slots import server

ROOT = Path(__file__).resolve().parent.parent
WORKERS = int(os.environ.get("BENCH_WORKERS", "8"))
SHARDS = int(os.environ.get("BENCH_SHARDS", "8"))
ROWS = int(os.environ.get("BENCH_ROWS", "100"))
_WORKER = """
import os, sys
from dataclasses import replace
from got_core import recipes
tiny = recipes.get_recipe("tiny")
ingest = replace(tiny.ingest, image_shard_size=int(sys.argv[1]))
recipes.RECIPES["tiny"] = lambda: replace(tiny, ingest=ingest)
import dagster as dg
import got_assets.run as run
os.makedirs(os.environ["GOT_HOME"])
instance = dg.DagsterInstance.local_temp(os.environ["GOT_HOME"])
if len(sys.argv) == 2:
    images, _ = run.assign_shards(run.PROJECT, instance)
    print(" ".join(images))
else:
    instance.add_dynamic_partitions("image_shards", sys.argv[2:])
    runner = run.Runner(run.PROJECT, instance)
    for shard in sys.argv[2:]:
        outcome = runner.bring_up_to_date(run.IMAGE_STEPS, shard)
        assert not (outcome.error or outcome.blocked), (shard, outcome)
"""


def main() -> dict[str, float]:
    """Seconds of one worker and of several, to the last tar, and how busy the annotator was."""
    with server() as url:
        one, alone = _measured(1, url)
        several, together = _measured(WORKERS, url)
    return {
        "seconds, one worker": one,
        f"seconds, {WORKERS} workers": several,
        "times as fast": one / several,
        "slots busy, one worker": alone["busy"],
        f"slots busy, {WORKERS} workers": together["busy"],
    }


def _measured(workers: int, url: str) -> tuple[float, dict[str, float]]:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        _write_pictures(place)
        shards = _run(place, "assign", url, []).split()
        if len(shards) != SHARDS:
            raise RuntimeError(f"{SHARDS} shards were expected: {shards}")
        started = time.perf_counter()
        with ThreadPoolExecutor(workers) as pool:
            for done in [
                pool.submit(_run, place, f"worker-{number}", url, shards[number::workers])
                for number in range(workers)
            ]:
                done.result()
        seconds = time.perf_counter() - started
    with urllib.request.urlopen(url.removesuffix("/v1") + "/figures") as response:
        return seconds, json.load(response)


def _run(place: Path, name: str, url: str, shards: list[str]) -> str:
    """The last line of a worker, which begins by finding shards where it is given none."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GOT_")}
    own = {
        "PYTHONPATH": str(ROOT), "DAGSTER_DISABLE_TELEMETRY": "1", "XDG_CACHE_HOME": f"{place}/{name}/cache",
        "OMP_NUM_THREADS": "1", "GOT_HOME": f"{place}/{name}/home", "GOT_STORAGE": f"file://{place}/storage",
        "GOT_RECIPE": "tiny", "GOT_RAW": f"{place}/raw", "GOT_ANNOTATOR": "openai", "GOT_ANNOTATOR_URL": url,
        "GOT_ANNOTATOR_VISION_MODEL": "eyes", "GOT_ANNOTATOR_BOX_UNIT": "thousandths",
        "GOT_ANNOTATOR_CONCURRENCY": "4",
    }  # fmt: skip
    command = [sys.executable, "-c", _WORKER, str(ROWS), *shards]
    done = subprocess.run(command, cwd=ROOT, env=kept | own, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return (done.stdout.strip().splitlines() or [""])[-1]


def _write_pictures(place: Path) -> None:
    from got_core.recipes import get_recipe
    from got_core.scenes.corpus import write_corpus

    recipe = get_recipe("tiny")
    config = replace(recipe.corpus, images=SHARDS * ROWS, edits=0, multi_turn=0)
    write_corpus(recipe.world, config, place / "raw", place / "edits", place / "truth.parquet")
