"""Which checkpoints count, and which are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from got_core.storage import Storage
from got_core.train.checkpoints.folders import (
    Checkpoint,
    checkpoints_in,
    last_checkpoint,
    remove_finished,
    remove_old,
    remove_unfinished,
)

ROOT = "models/finetune/k/checkpoints"


@pytest.fixture(params=["file", "memory", "s3"])
def any_storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """An empty storage of each kind."""
    if request.param == "s3":
        server: Any = request.getfixturevalue("s3_server")
        return Storage(f"s3://{server.bucket}/got", endpoint_url=server.url)
    return Storage({"file": f"file://{tmp_path}/got", "memory": f"memory://{uuid4().hex}"}[request.param])


def put(storage: Storage, step: int, attempt: int = 1, ranks: int = 2, there: int | None = None,
        milestone: bool = False) -> Checkpoint:  # fmt: skip
    """A checkpoint of which some ranks have written their part."""
    found = Checkpoint(storage, ROOT, step, attempt)
    for rank in range(ranks if there is None else there):
        file = f"shard-{rank + 1:05d}-model-00001-of-00001.safetensors"
        storage.write_bytes(f"{found.name}/{file}", b"x")
        if rank == 0:
            storage.write_json(f"{found.name}/run.json", {"milestone": milestone})
        storage.write_json(found.note_name(rank, ranks), {"files": {file: {"tensors": {}}}})
    return found


def steps(storage: Storage) -> list[int]:
    return [found.step for found in checkpoints_in(storage, ROOT)]


def test_a_checkpoint_counts_once_all_ranks_are_done(any_storage: Storage) -> None:
    assert last_checkpoint(any_storage, ROOT) is None
    whole = put(any_storage, 10)
    put(any_storage, 20, ranks=3, there=2)
    any_storage.write_bytes(f"{ROOT}/step-00000030-00000001/shard-00001-model.safetensors", b"x")
    assert last_checkpoint(any_storage, ROOT) == whole
    assert steps(any_storage) == [10, 20, 30]
    remove_unfinished(any_storage, ROOT)
    assert steps(any_storage) == [10]
    assert last_checkpoint(any_storage, ROOT) == whole


def test_parts_of_two_attempts_never_make_one_checkpoint(storage: Storage) -> None:
    put(storage, 10, attempt=1, ranks=2, there=1)
    other = Checkpoint(storage, ROOT, 10, 2)
    storage.write_json(other.note_name(1, 2), {"files": {}})
    assert last_checkpoint(storage, ROOT) is None
    mixed = put(storage, 12, ranks=2)
    storage.write_json(mixed.note_name(0, 1), {"files": {}})
    assert not mixed.is_complete()


def test_notes_without_their_files_do_not_count(storage: Storage) -> None:
    put(storage, 10)
    found = put(storage, 20)
    storage.delete(f"{found.name}/shard-00002-model-00001-of-00001.safetensors")
    last = last_checkpoint(storage, ROOT)
    assert last is not None and last.step == 10


def test_the_last_two_and_milestones_are_kept_until_the_stage_ends(any_storage: Storage) -> None:
    for step in range(10, 70, 10):
        put(any_storage, step, milestone=step == 20)
        put(any_storage, step + 5, there=1)
    remove_old(any_storage, ROOT)
    assert steps(any_storage) == [15, 20, 25, 35, 45, 50, 55, 60, 65]
    remove_unfinished(any_storage, ROOT)
    assert steps(any_storage) == [20, 50, 60]
    remove_finished(any_storage, ROOT)
    assert steps(any_storage) == [20]


def test_a_broken_write_on_a_disk_is_deleted_too(storage: Storage, tmp_path: Path) -> None:
    folder = tmp_path / "storage" / ROOT / "step-00000010-00000001"
    folder.mkdir(parents=True)
    (folder / ".shard-00001.safetensors.0123.partial").write_bytes(b"x")
    remove_unfinished(storage, ROOT)
    assert not folder.exists()
