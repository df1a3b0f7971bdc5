"""The whole data part behind a slow model server: pictures to tars, against another version of the line.

Rendered scenes as a team's own pictures, in shards; the server of `bench_slots` has 64 slots and takes 0.3 s
a reply. BENCH_SHARDS and BENCH_ROWS say how much there is (default 6 shards of 100);
BENCH_OTHER: a checkout of another version, which does the same afterwards; GOT_PARALLEL: shards at once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

from bench.bench_slots import server

ROOT = Path(__file__).resolve().parent.parent
SHARDS = int(os.environ.get("BENCH_SHARDS", "6"))
ROWS = int(os.environ.get("BENCH_ROWS", "100"))
_LINE = """
import os, sys
from dataclasses import replace
from got_core import recipes
tiny = recipes.get_recipe("tiny")
ingest = replace(tiny.ingest, image_shard_size=int(sys.argv[1]))
recipes.RECIPES["tiny"] = lambda: replace(tiny, ingest=ingest)
import dagster as dg
import got_assets.run as run
if not hasattr(run, "Workers"):  # a version that takes one shard after another
    os.makedirs(os.environ["GOT_HOME"])
    instance = dg.DagsterInstance.local_temp(os.environ["GOT_HOME"])
    runner = run.Runner(run.PROJECT, instance)
    images, _ = run.assign_shards(run.PROJECT, instance)
    for shard in images:
        runner.bring_up_to_date(run.IMAGE_STEPS, shard)
else:
    from got_assets.home import prepare_dagster_home
    from got_assets.pools import shards_at_once
    prepare_dagster_home(run.PROJECT)
    with dg.DagsterInstance.get() as instance:
        runner = run.Runner(run.PROJECT, instance)
        images, _ = run.assign_shards(run.PROJECT, instance)
        with run.Workers(instance.get_ref, shards_at_once(run.PROJECT.settings)) as workers:
            run.bring_shards_up_to_date(runner, workers, {run.IMAGE_STEPS[:1]: images}, {})
            run.annotate(runner, workers, images, [])
for shard, outcome in runner.outcomes.items():
    assert not (outcome.error or outcome.blocked), (shard, outcome)
print(len(images))
"""


def main() -> dict[str, float | str]:
    """Seconds, busy slots and requests of this version, and of the other one."""
    with server() as url:
        mine = _measured(ROOT, url)
        print(mine, flush=True)
        other = os.environ.get("BENCH_OTHER")
        theirs = _measured(Path(other), url) if other else {}
    ratios = {
        f"{name}, ratio": theirs[name] / mine[name] for name in ("seconds", "requests a picture") if theirs
    }
    return {**mine, **{f"other: {name}": value for name, value in theirs.items()}, **ratios}


def _measured(checkout: Path, url: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as home:
        _write_pictures(Path(home))
        command = [sys.executable, "-c", _LINE, str(ROWS)]
        started = time.perf_counter()
        done = subprocess.run(
            command, cwd=checkout, env=_environment(checkout, home, url), capture_output=True, text=True
        )
        seconds = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(f"{checkout}: the line failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    with urllib.request.urlopen(url.removesuffix("/v1") + "/figures") as response:
        found = json.load(response)
    pictures = SHARDS * ROWS
    requests = found["requests"] / pictures
    return {"seconds": seconds, "slots busy": found["busy"], "requests a picture": requests,
            "seconds of annotation": found["seconds"]}  # fmt: skip


def _environment(checkout: Path, home: str, url: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GOT_")}
    parallel = {"GOT_PARALLEL": os.environ["GOT_PARALLEL"]} if "GOT_PARALLEL" in os.environ else {}
    return kept | parallel | {
        "PYTHONPATH": str(checkout), "DAGSTER_DISABLE_TELEMETRY": "1", "XDG_CACHE_HOME": f"{home}/cache",
        "GOT_HOME": f"{home}/home", "GOT_RECIPE": "tiny", "GOT_RAW": f"{home}/raw", "GOT_ANNOTATOR": "openai",
        "GOT_ANNOTATOR_URL": url, "GOT_ANNOTATOR_VISION_MODEL": "eyes",
        "GOT_ANNOTATOR_BOX_UNIT": "thousandths", "GOT_ANNOTATOR_CONCURRENCY": "64",
    }  # fmt: skip


def _write_pictures(home: Path) -> None:
    from got_core.recipes import get_recipe
    from got_core.scenes.corpus import write_corpus

    recipe = get_recipe("tiny")
    config = replace(recipe.corpus, images=SHARDS * ROWS, edits=0, multi_turn=0)
    write_corpus(recipe.world, config, home / "raw", home / "edits", home / "truth.parquet")
