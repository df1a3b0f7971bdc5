"""What each of two processes does in the tests of spread checkpoints; a module, so that it can be spawned."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from got_core.storage import Storage
from got_core.train import parallel
from got_core.train.checkpoints.folders import Checkpoint, last_checkpoint
from got_core.train.checkpoints.saving import Checkpoints
from got_core.train.checkpoints.tensors import check_finite, read_whole, targets, training_tensors
from got_core.train.optim import MovingAverage, Optimizers
from tests.got_core.ranks import join_group, leave_group

CPU = torch.device("cpu")


class Training:
    """A model with a weight that is shorter than there are ranks, after a step or before one."""

    def __init__(self, *, spread: bool, seed: int, steps: int) -> None:
        torch.manual_seed(seed)
        self.model = nn.Sequential(nn.Linear(12, 7), nn.Linear(7, 1), nn.Linear(1, 5))
        if spread:
            fully_shard(self.model, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
        self.trained = dict(self.model.named_parameters())
        self.optimizer = Optimizers([(self.model.parameters(), 1e-2)], weight_decay=0.1)
        self.average = MovingAverage(self.model.parameters(), 0.9)
        for _ in range(steps):
            self.model(torch.ones(4, 12)).square().mean().backward()
            self.optimizer.step(1.0)
            self.average.update()

    def state(self) -> dict[str, torch.Tensor]:
        return training_tensors(self.trained, self.average, self.optimizer)

    def load(self, found: Checkpoint) -> None:
        files = found.files()
        index = found.index(files)
        into = targets(index, found.url, self.trained, self.average, self.optimizer)
        found.read(into, files, index)


class Watched(Storage):
    """A storage that keeps in mind what was read."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.names: list[str] = []

    def read_bytes(self, name: str) -> bytes:
        self.names.append(name)
        return super().read_bytes(name)


def work(rank: int, folder: Path) -> None:
    """Save what two ranks hold, read it again, read what one rank held; look at norms and NaN."""
    torch.set_num_threads(1)
    join_group(folder / "rendezvous", rank, 2)
    storage = Watched(f"file://{folder / 'storage'}")
    first = Training(spread=True, seed=0, steps=2)
    with Checkpoints(storage, "two", rank=rank, ranks=2) as checkpoints:
        checkpoints.save(2, first.state(), {})
        checkpoints.wait_for_all()
    again = Training(spread=True, seed=1, steps=0)
    found = Checkpoints(storage, "two", rank=rank, ranks=2).last()
    assert found is not None
    again.load(found)
    _same(first, again)
    _only_its_own_files(storage, rank)
    single = last_checkpoint(storage, "one")
    assert single is not None
    again.load(single)
    whole = read_whole(single)
    for name, value in again.state().items():
        assert torch.equal(parallel.whole(value), whole[name]), name
    _reductions_are_global(first, rank)
    leave_group()


def _same(first: Training, again: Training) -> None:
    for name, value in first.state().items():
        other = again.state()[name]
        assert type(other) is type(value), name
        assert torch.equal(parallel.local(other.detach()), parallel.local(value.detach())), name


def _only_its_own_files(storage: Watched, rank: int) -> None:
    read = {name.rpartition("/")[2][:23] for name in storage.names if name.endswith(".safetensors")}
    numbers, own = "shard-00001-model-00001", f"shard-{rank + 1:05d}-model-0000{2 if rank == 0 else 1}"
    assert {numbers, own} <= read
    other = "shard-00002-model-00002" if rank == 0 else "shard-00001-model-00002"
    assert other not in read, read


def _reductions_are_global(training: Training, rank: int) -> None:
    weight = training.trained["0.weight"].detach()
    everything = parallel.whole(weight).norm()
    # What a number looks like that is one rank's part, and what clipping finds.
    assert not torch.isclose(torch.tensor(weight.norm().item()), everything)
    for value in training.trained.values():
        value.grad = value.detach().clone()
    norm = torch.nn.utils.clip_grad_norm_(training.trained.values(), 1e9)
    norms = [parallel.whole(value.detach()).norm() for value in training.trained.values()]
    assert torch.isclose(parallel.whole(norm), torch.stack(norms).norm())
    check_finite(training.state(), 2, 2, CPU)
    if rank == 1:  # in its part alone
        parallel.local(training.average.values[0])[0, 0] = torch.nan
    try:
        check_finite(training.state(), 9, 2, CPU)
    except FloatingPointError as error:
        assert str(error).startswith("step 9: average.0.weight holds NaN"), error
    else:
        raise AssertionError(f"rank {rank} did not hear of the other's NaN")
