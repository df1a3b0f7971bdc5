"""Files of a checkpoint: who writes what, who can read it, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint import HuggingFaceStorageReader
from torch.distributed.checkpoint.api import CheckpointException

from got_core.storage import Storage
from got_core.train.checkpoints import parts
from got_core.train.checkpoints.folders import Checkpoint
from got_core.train.checkpoints.parts import CheckpointError, plan_part, write_part
from got_core.train.checkpoints.tensors import read_whole, targets, training_tensors
from got_core.train.optim import MovingAverage, Optimizers
from tests.got_core.ranks import join_group, leave_group


def trained_model(seed: int = 0, width: int = 64) -> tuple[dict[str, Tensor], MovingAverage, Optimizers]:
    """A small model after one step of AdamW and Muon."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(16, width), nn.Linear(width, 8, dtype=torch.bfloat16))
    optimizer = Optimizers([(model.parameters(), 1e-2)], weight_decay=0.1, orthogonal=[model[0].weight])
    average = MovingAverage(model.parameters(), 0.9)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step(1.0)
    average.update()
    return dict(model.named_parameters()), average, optimizer


def write(state: dict[str, Tensor], storage: Storage, ranks: int) -> Checkpoint:
    """The state that all of some ranks hold, as they would write it."""
    found = Checkpoint(storage, "c", 7, 1)
    for rank in range(ranks):
        files = write_part(
            plan_part(state, rank, ranks),
            {name: value.detach() for name, value in state.items()},
            lambda name, data: storage.write_bytes(f"{found.name}/{name}", data),
        )
        storage.write_json(found.note_name(rank, ranks), {"files": files})
    storage.write_json(f"{found.name}/run.json", {"note": {}, "milestone": False})
    return found


@pytest.mark.parametrize("ranks", [1, 2, 3, 40])
def test_what_all_ranks_hold_is_divided_and_read_as_it_was(storage: Storage, ranks: int) -> None:
    state = training_tensors(*trained_model())
    found = write(state, storage, ranks)
    again = read_whole(found)
    assert list(sorted(again)) == sorted(state)
    for name, value in state.items():
        assert torch.equal(again[name], value) and again[name].dtype == value.dtype, name
    files = found.files()
    assert sum(len(file["tensors"]) for file in files.values()) == len(state)
    sizes = [sum(one["size"] for name, one in files.items() if name.startswith(f"shard-{rank + 1:05d}"))
             for rank in range(ranks)]  # fmt: skip
    assert ranks > 3 or max(sizes) < 1.6 * sum(sizes) / ranks, sizes


def test_large_states_are_several_files(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "FILE_BYTES", 5000)
    state = training_tensors(*trained_model())
    found = write(state, storage, 2)
    sizes = [file["size"] for file in found.files().values()]
    assert len(sizes) > 4
    largest = max(value.nbytes for value in state.values())
    assert max(sizes) < 5000 + largest
    assert all(torch.equal(value, state[name]) for name, value in read_whole(found).items())


def test_every_file_is_safetensors_or_json_and_torch_reads_them(storage: Storage) -> None:
    state = training_tensors(*trained_model())
    found = write(state, storage, 2)
    folder = storage.download(found.name)
    for path in folder.rglob("*"):
        if path.suffix == ".json":
            json.loads(path.read_text())
        else:
            assert path.suffix == ".safetensors", path
            with safe_open(path, framework="pt") as file:
                assert file.keys()
    again = {name: torch.zeros_like(value) for name, value in state.items()}
    with pytest.warns(UserWarning, match="torch.distributed is disabled"):
        dcp.load(again, storage_reader=HuggingFaceStorageReader(str(folder)))
    assert all(torch.equal(again[name], value) for name, value in state.items())


def test_torch_casts_without_a_word_and_the_training_refuses(storage: Storage) -> None:
    trained, average, optimizer = trained_model()
    found = write(training_tensors(trained, average, optimizer), storage, 1)
    folder, name = storage.download(found.name), "parameter.0.weight"
    narrow = {name: torch.zeros(64, 16, dtype=torch.bfloat16)}
    with pytest.warns(UserWarning, match="torch.distributed is disabled"):
        dcp.load(narrow, storage_reader=HuggingFaceStorageReader(str(folder)))
    assert torch.equal(narrow[name], trained["0.weight"].bfloat16())
    trained["0.weight"] = nn.Parameter(trained["0.weight"].detach().bfloat16())
    before = trained["0.bias"].detach().clone().fill_(3)
    trained["0.bias"].data.fill_(3)
    with pytest.raises(CheckpointError, match=rf"step-00000007-00000001: '{name}' is torch.float32 of shape"):
        targets(found.index(found.files()), f"checkpoint {found.url}", trained, average, optimizer)
    assert torch.equal(trained["0.bias"], before)


def test_errors_are_ordinary_and_name_checkpoint_and_tensor(storage: Storage) -> None:
    trained, average, optimizer = trained_model()
    found = write(training_tensors(trained, average, optimizer), storage, 1)
    with pytest.raises(CheckpointException), pytest.warns(UserWarning):
        dcp.load(
            {"nobody": torch.zeros(1)},
            storage_reader=HuggingFaceStorageReader(str(storage.download(found.name))),
        )
    assert not issubclass(CheckpointException, Exception)
    assert issubclass(CheckpointError, Exception)
    index = found.index(found.files())

    def refusal(**changes: Tensor | None) -> str:
        other = {k: v for k, v in (trained | changes).items() if v is not None}
        averages = MovingAverage(other.values(), 0.9)
        with pytest.raises(CheckpointError, match="step-00000007") as caught:
            targets(index, f"checkpoint {found.url}", other, averages, optimizer)
        return str(caught.value)

    more = nn.Parameter(torch.zeros(1))
    assert "lacks 'average.head.weight' (of 2 tensors" in refusal(**{"head.weight": more})
    assert "has 'average.1.bias'" in refusal(**{"1.bias": None})
    wide = nn.Parameter(torch.zeros(65, 16))
    assert "'parameter.0.weight' is torch.float32 of shape (64, 16)" in refusal(**{"0.weight": wide})


def test_a_damaged_or_missing_file_is_named(storage: Storage) -> None:
    found = write(training_tensors(*trained_model()), storage, 2)
    file = next(name for name in found.files() if name.startswith("shard-00002"))
    path = storage.download(found.name) / file
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(
        CheckpointError, match=rf"step-00000007-00000001: {file}, which holds '\w+\.\d.*not the"
    ):
        read_whole(found)
    path.unlink()
    with pytest.raises(CheckpointError, match="is not there; delete the checkpoint"):
        read_whole(found)


def test_a_checkpoint_without_a_piece_of_a_tensor_is_refused(storage: Storage) -> None:
    found = write({"parameter.a": torch.zeros(4, 4)}, storage, 1)
    name = found.note_name(0, 1)
    note = storage.read_json(name)
    (file,) = note["files"].values()
    file["tensors"]["parameter.a"] = {"dtype": "float32", "offsets": [2, 0], "shape": [2, 4]}
    storage.write_json(name, note)
    with pytest.raises(CheckpointError, match=r"pieces of 'parameter\.a'"):
        found.index(found.files())


def test_a_whole_tensor_among_spread_ones_has_no_owner(tmp_path: Path) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    join_group(tmp_path / "r", 0, 1)
    try:
        spread = distribute_tensor(torch.zeros(4, 4), init_device_mesh("cpu", (1,)), [Shard(0)])
        state = {"parameter.a": spread, "optimizer.a.step": torch.tensor(1.0)}
        assert plan_part(state, 0, 1).names == ["parameter.a", "optimizer.a.step"]
        with pytest.raises(TypeError, match=r"optimizer\.a\.scale is whole while other tensors are spread"):
            plan_part(state | {"optimizer.a.scale": torch.zeros(4)}, 0, 1)
    finally:
        leave_group()
