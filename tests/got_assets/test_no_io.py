"""Importing the definitions opens nothing of home and storage, and no connection."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from got_core.curate.takedown_lists import add_takedowns
from got_core.storage import Storage

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import json, sys
places, opened, connected = json.loads(sys.argv[1]), [], []

def watch(event, arguments):
    if event in ("open", "os.listdir", "os.scandir", "os.mkdir", "os.rename", "os.remove"):
        if any(str(arguments[0]).startswith(place) for place in places):
            opened.append([event, str(arguments[0])])
    elif event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        connected.append([event, str(arguments[-1] if event == "socket.connect" else arguments[0])])

sys.addaudithook(watch)
from got_assets.definitions import defs
graph = defs.resolve_asset_graph()
names = sorted(key.to_user_string() for key in graph.get_all_asset_keys())
code = {node.key.to_user_string(): node.code_version for node in graph.asset_nodes}
print(json.dumps([names, code, opened, connected]))
"""


def loaded(places: list[Path], **settings: str) -> tuple[list[str], dict[str, str], list[Any], list[Any]]:
    """Assets and code versions of a fresh process, what it opened below `places`, and its connections."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "GOT_"))}
    environment = {**kept, **{f"GOT_{name.upper()}": value for name, value in settings.items()}}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps([str(place) for place in places])],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return tuple(json.loads(done.stdout))


@pytest.mark.parametrize("annotator", ["scenes", "imported"])
def test_without_credentials_and_store_the_graph_loads(tmp_path: Path, annotator: str) -> None:
    settings = {
        "home": str(tmp_path / "home"), "recipe": "tiny", "annotator": annotator,
        "raw": "s3://nobody/pictures", "storage": "s3://nobody/got", "s3_endpoint": "http://127.0.0.1:9",
    }  # fmt: skip
    names, _, opened, connected = loaded([tmp_path], **settings)
    assert {"raw_images", "t2i_chains", "training_manifest", "image_takedowns"} <= set(names)
    assert opened == [] and connected == [] and not any(tmp_path.iterdir())


def test_what_lies_in_the_storage_is_not_looked_at(tmp_path: Path) -> None:
    home, storage = tmp_path / "home", Storage(f"file://{tmp_path / 'storage'}")
    (home / "dagster").mkdir(parents=True)
    settings = {"home": str(home), "recipe": "tiny", "annotator": "scenes", "storage": storage.url}
    before = loaded([tmp_path], **settings)
    add_takedowns(storage, ["ab" * 32])
    storage.write_bytes("reviews/some.parquet", b"no table")
    storage.write_bytes("imported/set/done.json", b"no JSON")
    assert loaded([tmp_path], **settings) == before
    assert before[2:] == ([], [])
