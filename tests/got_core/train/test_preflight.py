"""Checks before training: on this machine as plain functions, and on two real Ray nodes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from got_core.storage import Storage
from got_core.train.machine import Node, free_memory, versions
from got_core.train.preflight import (
    PreflightError,
    error_of,
    faults_of,
    gpu_warning,
    look_at_this_node,
    probe_in,
    refusals,
    request_of,
)
from got_core.train.ray.preflight import check_nodes
from got_core.train.run import TrainingRun
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[3]
CLOSED = "http://127.0.0.1:9"


def found(run: TrainingRun, weights_bytes: int = 0) -> list[str]:
    """Faults of this machine, as lines."""
    request = request_of(run, weights_bytes)
    with probe_in(run, request):
        return [str(one) for one in faults_of(look_at_this_node(request), request, versions())]


@pytest.fixture
def own(training_run: TrainingRun, tmp_path: Path) -> TrainingRun:
    """The run with a storage and an MLflow of the test's own."""
    return replace(
        training_run,
        storage_url=f"file://{tmp_path}/storage",
        tracking_uri=f"sqlite:///{tmp_path}/mlflow.db",
    )


def test_a_machine_that_can_train_is_one_line_and_nothing_is_left(own: TrainingRun, tmp_path: Path) -> None:
    said: list[str] = []
    check_nodes(replace(own, progress=said.append))
    (line,) = said
    assert line.startswith("checked before training: this machine: ")
    assert " GB free at " in line and "GB of memory free" in line
    assert not [path for path in (tmp_path / "storage").rglob("*") if path.is_file()]


def test_all_faults_of_a_machine_are_one_error_with_what_to_do(own: TrainingRun, tmp_path: Path) -> None:
    away = replace(own, raw_url=str(tmp_path / "nowhere"), tracking_uri=CLOSED)
    with pytest.raises(PreflightError) as raised:
        check_nodes(away, weights_bytes=10**18)
    head, *lines = str(raised.value).splitlines()
    assert head == "4 faults before training, so nothing is trained"
    mlflow, pictures, disk, memory = (line.strip().removeprefix("this machine: ") for line in lines)
    assert mlflow.startswith(f"MLflow: {CLOSED}: ") and "GOT_MLFLOW_URI" in mlflow
    assert pictures.startswith(f"pictures (t2i): {tmp_path}/nowhere: none of the manifest's first 3 opens")
    assert "needed: at least 1e+09 GB, the size of the weights; what to do: make room" in disk
    assert memory.startswith("memory: ")
    assert all("; needed: " in line and "; what to do: " in line for line in lines)


def test_one_picture_that_opens_will_do(own: TrainingRun, tmp_path: Path) -> None:
    first = own.manifest.filter(kind="t2i")["target_path"][0]
    gone = own.manifest.with_columns(
        target_path=pl.when(pl.col("target_path") == first).then(pl.lit("gone.png")).otherwise("target_path")
    )
    assert found(replace(own, manifest=gone)) == []
    (line,) = found(replace(own, edits_url=str(tmp_path / "pairs.csv")))
    assert line.startswith(f"pictures (edit): {tmp_path}/pairs.csv: none of the manifest's first 3 opens")


def test_a_node_that_does_not_see_the_drivers_object_has_another_disk(
    own: TrainingRun, tmp_path: Path
) -> None:
    request = request_of(own)
    with probe_in(own, request):
        elsewhere = replace(request, storage_url=f"file://{tmp_path}/of-the-node")
        (fault,) = look_at_this_node(elsewhere).faults
    assert "an object that the driver wrote is not seen from here" in fault.found
    assert fault.advice == "set GOT_STORAGE to an s3:// URL, or to a folder that all nodes share"
    assert not Storage(f"file://{tmp_path}/of-the-node").list()


def test_a_storage_that_the_driver_does_not_reach_is_an_answer_after_seconds(
    own: TrainingRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    away = replace(own, storage_url="s3://bucket/got", storage_options={"endpoint_url": CLOSED})
    with pytest.raises(
        PreflightError, match=r"the driver cannot train: storage: s3://bucket/got: .*what to do"
    ):
        check_nodes(away)


@pytest.mark.parametrize(
    ("uri", "refused"),
    [
        ("sqlite:////data/mlflow.db", True),
        ("sqlite+pysqlite:////data/mlflow.db", True),
        ("file:///data/mlruns", True),
        ("file:mlruns", True),
        ("/data/mlruns", True),
        ("mlruns", True),
        ("http://mlflow:5000", False),
        ("postgresql://mlflow:secret@db/mlflow", False),
        ("databricks", False),
    ],
)
def test_tracking_on_one_machine_is_refused_for_several(own: TrainingRun, uri: str, refused: bool) -> None:
    faults = refusals(replace(own, tracking_uri=uri))
    assert [fault.what for fault in faults] == ["MLflow"] * refused
    assert [fault.what for fault in refusals(replace(own, tracking_uri=uri, storage_url="memory://got"))][
        refused:
    ] == ["storage"]


def test_versions_that_differ_are_listed_and_room_is_compared() -> None:
    wanted = versions()
    assert wanted["torch"][:1].isdigit() and "source " in wanted["got"]
    node = Node(versions=wanted | {"torch": "2.0", "peft": "none"}, disk={"/tmp": 5}, memory=7)
    request = request_of(
        TrainingRun(
            storage_url="file:///s", raw_url="/r", edits_url=None, manifest=pl.DataFrame(), manifest_hash="",
            recipe=_recipe(), tracking_uri="http://m",
        ),
        weights_bytes=6,
    )  # fmt: skip
    version, disk = faults_of(node, request, wanted)
    assert version.found == "torch 2.0, peft none"
    assert version.needed == f"those of the driver: torch {wanted['torch']}, peft {wanted['peft']}"
    assert disk.found == "5e-09 GB free at /tmp"
    assert error_of({"a": [], "b": []}) is None
    assert str(error_of({"a": [], "b": [disk]})).startswith(
        "1 fault before training, so nothing is trained\n  b: disk"
    )


def _recipe() -> Any:
    from got_core.recipes import tiny

    return tiny()


def test_a_gpu_smaller_than_planned_is_a_warning() -> None:
    node = Node(versions={}, gpus=(("A100", 80.0), ("L4", 24.0)))
    assert gpu_warning(node, 60.0) == (
        "L4 with 24 GB: the training plan takes 60 GB a GPU; see `got estimate`"
    )
    assert gpu_warning(node, 20.0) is None and gpu_warning(node, None) is None
    assert node.summary().endswith("A100 80 GB, L4 24 GB")


def test_free_memory_is_that_of_the_container_where_it_has_less(tmp_path: Path) -> None:
    info, limit = tmp_path / "meminfo", tmp_path / "memory.max"
    info.write_text("MemTotal: 2000 kB\nMemAvailable:    1000 kB\n")
    assert free_memory(info, limit) == 1_024_000
    limit.write_text("500000\n")
    assert free_memory(info, limit) == 500_000
    limit.write_text("max\n")
    assert free_memory(info, limit) == 1_024_000
    assert free_memory(tmp_path / "none", limit) is None


# -- two nodes --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a real tracking server."""
    folder = tmp_path_factory.mktemp("mlflow")
    port = free_port()
    command = ["-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/server.db"]
    with open(folder / "log", "w") as log:
        server = subprocess.Popen([sys.executable, *command], cwd=folder, stdout=log, stderr=log)
    try:
        _wait_for(f"http://127.0.0.1:{port}/health")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def _wait_for(url: str) -> None:
    until = time.monotonic() + 900
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            assert time.monotonic() < until, f"{url} does not answer"
            time.sleep(0.3)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[str]:
    """A temporary folder on another, smaller file system than the usual one."""
    folder = Path(f"/dev/shm/got-{os.getpid()}")
    if not folder.parent.is_dir():
        pytest.skip("there is no other file system")
    folder.mkdir()
    yield str(folder)
    folder.rmdir()


@pytest.mark.slow
def test_two_nodes_look_for_themselves(
    mlflow_server: str, s3_server: Any, small: str, tmp_path: Path
) -> None:
    arguments = [str(tmp_path), small, mlflow_server, f"s3://{s3_server.bucket}/got"]
    environment = {**os.environ, "AWS_ENDPOINT_URL": s3_server.url, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.got_core.train.two_nodes", *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    outcomes = json.loads(done.stdout.splitlines()[-1])
    second, third = outcomes["second"], outcomes["third"]

    fine = outcomes["fine"]
    assert fine["error"] is None and len(fine["said"]) == 1
    assert fine["said"][0].count("; node ") == 1 and f"GB free at {small}" in fine["said"][0]
    assert outcomes["cores_left"] == 2

    def lines(name: str) -> list[str]:
        return outcomes[name]["error"].splitlines()[1:]

    (sqlite,) = lines("sqlite")
    assert "cluster of 2 nodes: MLflow: sqlite:///" in sqlite and "set GOT_MLFLOW_URI" in sqlite
    (disk,) = [line for line in lines("disk") if ": disk: " in line]
    assert f"GB free at {small}; needed: at least" in disk and second in disk
    (s3,) = lines("s3")
    assert f"{second}): storage: s3://{s3_server.bucket}/got: StoreUnavailableError" in s3
    raw = lines("raw")
    assert len(raw) == 2 and all("nowhere: none of the manifest's first 1 opens" in line for line in raw)
    (version,) = lines("versions")
    assert f"{third}): versions: diffusers 0.0.1; needed: those of the driver: diffusers " in version
    (hanging,) = lines("hanging")
    assert f"{second}): answer: no answer within 30 s" in hanging
