"""Removing: killed and repeated, on stores with and without bulk delete, and what cannot be deleted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from got_core.retention.config import DAY
from got_core.retention.listing import Entry, entries
from got_core.retention.plan import Look, Unit, make_plan
from got_core.retention.removal import remove_units
from got_core.storage import Storage
from tests.faults.stores import HAS_DURABLE_STORE, MISSING, DurableStore

from .homes import Home, random_home, sha

ROOT = Path(__file__).resolve().parents[3]
SLOWLY = """
import sys, time
from got_core.retention import removal
from got_core.retention.plan import Look, make_plan
from got_core.storage import Storage
removal.BATCH = 1
storage = Storage(sys.argv[1])
plan = make_plan(storage, Look(tracking_uri=sys.argv[2], now=time.time() + 400 * 86400, assets=["captions"]))
deleting = removal._deleting(storage)
def slow(names):
    print(*names, flush=True)
    time.sleep(0.02)
    return deleting(names)
removal._deleting = lambda storage: slow
removal.remove_units(storage, plan.going)
"""


def in_a_year(home: Home) -> Look:
    return Look(tracking_uri=home.uri, assets=["captions"], now=time.time() + 400 * DAY)


def test_killed_in_the_middle_and_done_again(storage: Storage, tmp_path: Path) -> None:
    home = Home(storage, f"sqlite:///{tmp_path / 'mlflow.db'}")
    random_home(home, 1)
    whole = len(home.may_go)
    for number in (3, 30):
        process = subprocess.Popen(
            [sys.executable, "-c", SLOWLY, storage.url, home.uri],
            cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout
        for _ in range(number):
            assert process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        left = home.names()
        assert home.needed <= left
        for name in left & home.may_go:  # what is left of a model no longer counts as whole
            folder = "/".join(name.split("/")[:3])
            if name.startswith("models/") and f"{folder}/metrics.json" in home.may_go - left:
                assert f"{folder}/metrics.json" not in left
    assert len(left) < len(home.needed) + whole
    plan = make_plan(storage, in_a_year(home))
    remove_units(storage, plan.going)
    assert home.names() == home.needed


def test_what_marks_a_thing_as_whole_goes_first(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    from got_core.retention import removal

    names = ["m/pipeline/unet/w.safetensors", "m/pipeline/model_index.json", "m/metrics.json"]
    seen: list[str] = []
    monkeypatch.setattr(removal, "BATCH", 1)
    monkeypatch.setattr(removal, "_deleting", lambda _: lambda batch: seen.extend(batch) or {})
    remove_units(storage, [Unit("models", "m", [Entry(name, 1, 0.0) for name in names])])
    assert seen == names[::-1]


def test_a_file_that_cannot_be_deleted_is_named(storage: Storage) -> None:
    storage.write_bytes("m/folder.bin/file", b"12")
    storage.write_bytes("m/file", b"123")
    unit = Unit(
        "models", "m", [Entry("m/folder.bin", 2, 0.0), Entry("m/file", 3, 0.0), Entry("m/gone", 5, 0.0)]
    )
    freed = remove_units(storage, [unit])
    assert [*freed.faults] == ["m/folder.bin"] and freed.files == 2
    assert storage.list() == ["m/folder.bin/file"]


@pytest.mark.slow
def test_on_s3_pages_are_listed_once_and_deleted_in_bulk(
    s3_server: Any, tmp_path: Path, fault_proxy: Callable[..., Any]
) -> None:
    proxy = fault_proxy(s3_server.url)
    home = Home(
        Storage(f"s3://{s3_server.bucket}/project", endpoint_url=proxy.url),
        f"sqlite:///{tmp_path / 'mlflow.db'}",
    )
    random_home(home, 2)
    beside = Storage(f"s3://{s3_server.bucket}", endpoint_url=s3_server.url)
    beside.write_bytes("project-2/models/finetune/0123456789ab/metrics.json", b"{}")
    weights = f"models/finetune/{sha('many')[:12]}/pipeline"
    for number in range(1100):
        home.put(f"{weights}/{number:05d}.bin", needed=False)
    home.put(f"{weights}.files.json", needed=False)
    plan = make_plan(home.storage, in_a_year(home))
    assert {file.name for unit in plan.going for file in unit.files} == home.may_go
    before = len(proxy.seen)
    freed = remove_units(home.storage, plan.going)
    assert len(proxy.seen) - before <= 4
    assert (freed.files, freed.faults) == (len(home.may_go), {})
    assert home.names() == home.needed
    assert beside.exists("project-2/models/finetune/0123456789ab/metrics.json")


@pytest.mark.skipif(not HAS_DURABLE_STORE, reason=MISSING)
def test_a_store_without_bulk_delete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with DurableStore(tmp_path / "store") as store:
        s3fs.S3FileSystem(endpoint_url=store.url, skip_instance_cache=True).mkdir("bucket")
        storage = Storage("s3://bucket/a", endpoint_url=store.url)
        for number in range(5):
            storage.write_bytes(f"m/{number}", b"1")
        found = sorted(entries(storage))
        assert [one.name for one in found] == [f"m/{number}" for number in range(5)]
        freed = remove_units(storage, [Unit("models", "m", found[:4])])
        assert (freed.files, freed.size, freed.faults) == (4, 4, {})
        assert [one.name for one in entries(storage)] == ["m/4"]
