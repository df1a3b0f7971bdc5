"""Requests to S3 for pictures on their way from raw to tar, by what they are made for.

Rendered scenes in a bucket, the storage in the same bucket, annotated by the scene reader: every asset of a
shard, then the training manifest. A real server counts. BENCH_PICTURES: how many (default 250);
BENCH_RECIPE: whose shards they are cut into (default embedded); BENCH_OTHER: a checkout of another
version, whose figure is put beside.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import s3fs

from bench.counted_s3 import counted_s3, counts

ROOT = Path(__file__).resolve().parent.parent
BUCKET = "bench"
_LINE = """
import json, sys
from dagster import DagsterInstance
import got_assets.run as run
instance = DagsterInstance.ephemeral()
runner = run.Runner(run.PROJECT, instance)
images, _ = run.assign_shards(run.PROJECT, instance)
for shard in images:
    outcome = runner.bring_up_to_date(run.IMAGE_STEPS, shard)
    assert not (outcome.error or outcome.blocked), outcome
outcome = runner.bring_up_to_date(["training_manifest"])
assert not outcome.error, outcome
rows = run.PROJECT.storage.read_table("training_manifest").height
print("\\n" + json.dumps(rows))
"""


def main() -> dict[str, float | str]:
    """Requests, and as a ratio to those of another version."""
    pictures = int(os.environ.get("BENCH_PICTURES", "250"))
    found: dict[str, float | str] = {}
    mine = _requests(ROOT, pictures)
    found["requests"] = float(mine.total())
    found["requests a picture"] = mine.total() / pictures
    found |= {f"  {name}": float(count) for name, count in mine.most_common(25)}
    if other := os.environ.get("BENCH_OTHER"):
        theirs = _requests(Path(other), pictures)
        found["requests of the other version"] = float(theirs.total())
        found |= {f"  other: {name}": float(count) for name, count in theirs.most_common(25)}
        found["ratio"] = mine.total() / theirs.total()
    return found


def _requests(checkout: Path, pictures: int) -> Counter[str]:
    """What a version of the line asks of the server."""
    with tempfile.TemporaryDirectory() as home, counted_s3() as url:
        environment = _environment(checkout, home, url)
        _upload(Path(home) / "scenes", pictures, url)
        counts(url)
        done = subprocess.run(
            [sys.executable, "-c", _LINE], cwd=checkout, env=environment, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{checkout}: the line failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
        rows = json.loads(done.stdout.strip().splitlines()[-1])
        assert rows > pictures / 2, f"only {rows} of {pictures} pictures came through"
        return counts(url)


def _environment(checkout: Path, home: str, url: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GOT_")}
    recipe = os.environ.get("BENCH_RECIPE", "embedded")
    return kept | {
        **dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "testing"),
        "AWS_DEFAULT_REGION": "us-east-1", "PYTHONPATH": str(checkout), "DAGSTER_DISABLE_TELEMETRY": "1",
        "GOT_HOME": f"{home}/home", "GOT_RECIPE": recipe, "GOT_ANNOTATOR": "scenes", "GOT_S3_ENDPOINT": url,
        "GOT_RAW": f"s3://{BUCKET}/raw", "GOT_STORAGE": f"s3://{BUCKET}/got",
    }  # fmt: skip


def _upload(folder: Path, pictures: int, url: str) -> None:
    from got_core.recipes import get_recipe
    from got_core.scenes.corpus import write_corpus

    recipe = get_recipe("tiny")
    config = replace(recipe.corpus, images=pictures, edits=0, multi_turn=0)
    write_corpus(recipe.world, config, folder / "raw", folder / "edits", folder / "truth.parquet")
    fs = s3fs.S3FileSystem(endpoint_url=url, key="testing", secret="testing")
    fs.mkdir(BUCKET)
    fs.put(f"{folder / 'raw'}/", f"{BUCKET}/raw/", recursive=True)
