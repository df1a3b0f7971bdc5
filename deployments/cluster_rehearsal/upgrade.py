"""An upgrade tried: a home that an earlier commit has made, and this version's `got run` on it.

Usage: ``python -m deployments.cluster_rehearsal.upgrade FOLDER [COMMIT]``. Needs the repository's history.
What is made again is printed with its reason; the earlier version's first model has to draw.

Belongs here: the two runs and what is looked at between them. Not here: servers, of which it needs none.
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

from deployments.cluster_rehearsal.cluster import FOREIGN, ROOT
from got_core.storage import Storage

COMMIT = "99a7483"
RECIPE = "tiny"
_MADE = re.compile(r"  (?:(?P<shard>[a-z]+-\d+): )?(?P<assets>[a-z0-9_, ]+) \((?P<why>[^)]+)\)$")


def main(folder: Path, commit: str = COMMIT) -> None:
    """Both runs, and what was found; raises AssertionError, naming it, where something is otherwise."""
    before, home = folder / "before", folder / "home"
    check_out(commit, before)
    run(before, ["-m", "got_assets.run"], home)
    ingested = _shards(home)
    output = run(ROOT, ["-m", "got_assets.cli", "run"], home)
    print(f"\nMade again after {commit}:")
    for shard, assets, why in made_again(output):
        print(f"  {shard or '-'}: {assets}: {why}")
    assert _shards(home) == ingested, f"files are listed again: {_shards(home)}, and there were {ingested}"
    print(f"\nThe model of {commit}: {predicted(home, folder)}")


def check_out(commit: str, folder: Path) -> None:
    """The files of a commit."""
    packed = subprocess.run(["git", "-C", str(ROOT), "archive", commit], check=True, capture_output=True)
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as tar:
        tar.extractall(folder, filter="data")


def run(source: Path, command: list[str], home: Path) -> str:
    """What a version says while it works on a home. Raises RuntimeError with the end of it where it fails."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=source, env=environment(source, home), capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        said = (done.stdout + done.stderr)[-4000:]
        raise RuntimeError(f"{command} in {source} ended with {done.returncode}:\n{said}")
    return done.stdout


def environment(source: Path, home: Path) -> Mapping[str, str]:
    """Nothing of the user's settings; this version of the libraries with that of the project."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return kept | {
        "PYTHONPATH": str(source),
        "GOT_HOME": str(home),
        "GOT_RECIPE": RECIPE,
        "GOT_WORKERS": "1",
        "OMP_NUM_THREADS": "1",
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def made_again(output: str) -> list[tuple[str, str, str]]:
    """Shard, assets and reason of every line that says what is made."""
    found = (_MADE.match(line) for line in output.splitlines())
    return [(one["shard"] or "", one["assets"], one["why"]) for one in found if one]


def _shards(home: Path) -> list[str]:
    """Lists of files that belong together: a file that is ingested anew is in a new one."""
    found = Storage(f"file://{home / 'storage'}").list("shards/")
    return [name for name in found if name.endswith(".parquet")]


def predicted(home: Path, folder: Path) -> str:
    """What this version draws with the first registered model. Raises AssertionError where it does not."""
    uri = f"sqlite:///{home / 'mlflow' / 'mlflow.db'}"
    source = str(next((home / "raw" / "images").rglob("*.png")))
    done = subprocess.run(
        [sys.executable, "-m", "deployments.rehearsal.predict", uri, "models:/got/1", source],
        cwd=folder, env=environment(ROOT, home), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, f"it does not load: {done.stderr[-4000:]}"
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["sizes"] and not answer["errors"], f"it answers {answer}"
    return f"it draws pictures of {answer['sizes']} pixels"


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), *sys.argv[2:])
