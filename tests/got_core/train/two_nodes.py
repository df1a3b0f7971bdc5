"""Two real Ray nodes on this machine, and what the checks before training find on them; prints JSON.

Run by ``test_preflight``: python -m tests.got_core.train.two_nodes FOLDER SMALL TRACKING_URI S3_URL
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import ray
from PIL import Image
from ray.cluster_utils import Cluster

from got_core.recipes import tiny
from got_core.train.ray.preflight import check_nodes
from got_core.train.run import TrainingRun

CLOSED = "http://127.0.0.1:9"


def training_run(folder: Path, tracking_uri: str, address: str) -> TrainingRun:
    """A run over one picture."""
    (folder / "raw").mkdir()
    Image.new("RGB", (64, 64), (200, 30, 90)).save(folder / "raw" / "a.png")
    row = {"sample_id": "1", "kind": "t2i", "target_path": "a.png", "chain": "a wall", "source": "walls"}
    return TrainingRun(
        storage_url=f"file://{folder / 'storage'}",
        raw_url=str(folder / "raw"),
        edits_url=None,
        manifest=pl.DataFrame([row]),
        manifest_hash="0",
        recipe=tiny(),
        tracking_uri=tracking_uri,
        ray_address=address,
    )


def outcome(run: TrainingRun, **options: Any) -> dict[str, Any]:
    """What is reported, and the error."""
    said: list[str] = []
    try:
        check_nodes(replace(run, progress=said.append), **options)
    except ValueError as error:
        return {"said": said, "error": str(error)}
    return {"said": said, "error": None}


def strange_package(folder: Path) -> str:
    """A folder that makes another version of a package the installed one."""
    info = folder / "strange" / "diffusers-0.0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: diffusers\nVersion: 0.0.1\n")
    return str(info.parent)


def walk(folder: Path, small: str, tracking_uri: str, s3_url: str) -> dict[str, Any]:
    """Every outcome by name."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    found: dict[str, Any] = {}
    try:
        second = cluster.add_node(num_cpus=1, env_vars={"TMPDIR": small, "AWS_ENDPOINT_URL": CLOSED})
        run = training_run(folder, tracking_uri, cluster.address)
        ray.init(address=cluster.address, log_to_driver=False)
        found["second"] = second.node_id[:8]
        found["fine"] = outcome(run)
        found["cores_left"] = ray.available_resources()["CPU"]
        found["sqlite"] = outcome(replace(run, tracking_uri=f"sqlite:///{folder}/mlflow.db"))
        free = [shutil.disk_usage(one).free for one in (tempfile.gettempdir(), small)]
        found["disk"] = outcome(run, weights_bytes=sum(free) // 2)
        found["s3"] = outcome(replace(run, storage_url=s3_url))
        found["raw"] = outcome(replace(run, raw_url=str(folder / "nowhere")))
        strange = f"{strange_package(folder)}:{os.getcwd()}"
        third = cluster.add_node(num_cpus=1, env_vars={"PYTHONPATH": strange})
        found["third"] = third.node_id[:8]
        found["versions"] = outcome(run)
        cluster.remove_node(third)
        raylet = second.all_processes["raylet"][0].process.pid
        os.kill(raylet, signal.SIGSTOP)
        found["hanging"] = outcome(run, seconds=30.0)
        os.kill(raylet, signal.SIGCONT)
    finally:
        ray.shutdown()
        cluster.shutdown()
    return found


if __name__ == "__main__":
    print(json.dumps(walk(Path(sys.argv[1]), *sys.argv[2:])))
