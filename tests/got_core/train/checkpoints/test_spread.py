"""Two processes with spread tensors: each writes its part, any number reads it, numbers are everybody's."""

from __future__ import annotations

from pathlib import Path

import torch

from got_core.storage import Storage
from got_core.train.checkpoints.folders import last_checkpoint
from got_core.train.checkpoints.saving import Checkpoints
from got_core.train.checkpoints.tensors import read_whole
from tests.got_core.ranks import side_by_side
from tests.got_core.train.checkpoints import spread


def test_one_and_two_ranks_read_what_the_other_wrote(tmp_path: Path) -> None:
    storage = Storage(f"file://{tmp_path / 'storage'}")
    alone = spread.Training(spread=False, seed=3, steps=3)
    with Checkpoints(storage, "one") as checkpoints:
        checkpoints.save(3, alone.state(), {})
    side_by_side(spread.work, (tmp_path,), count=2)
    found = last_checkpoint(storage, "two")
    assert found is not None
    same = spread.Training(spread=False, seed=0, steps=2)
    whole = read_whole(found)
    for name, value in same.state().items():
        torch.testing.assert_close(whole[name], value.detach(), rtol=1e-4, atol=1e-6)
    alone.load(found)
    for name, value in alone.state().items():
        assert torch.equal(value, whole[name]), name
    shards = [name for name in storage.list(found.name) if name.endswith(".safetensors")]
    assert {name.rpartition("/")[2][:11] for name in shards} == {"shard-00001", "shard-00002"}
