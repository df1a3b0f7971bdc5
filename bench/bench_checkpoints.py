"""How long a checkpoint keeps training waiting: a copy and an upload in the background, against one file.

The state has 300 MB (parameters, averages and AdamW's moments of 19 million weights), the storage takes 50 MB
a second. The plain way gathers all tensors, writes one safetensors file into a temporary folder and copies it
to the storage before training goes on. Both take turns on one worker; steps (matrix products) go on in
between, for longer than an upload takes. The median counts.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from bench.slow_storage import SlowStorage
from got_core.storage import Storage
from got_core.train.checkpoints.folders import last_checkpoint
from got_core.train.checkpoints.saving import Checkpoints
from got_core.train.checkpoints.tensors import read_whole

MEGABYTES = 300
BYTES_PER_SECOND = 50e6
TURNS = 3


def made_up_state() -> dict[str, Tensor]:
    """Parameters, averages and two moments of as many layers as it takes, and each one's number of steps."""
    side, kinds = 768, ("parameter.{}", "average.{}", "optimizer.{}.exp_avg", "optimizer.{}.exp_avg_sq")
    layers = [f"layer{k}" for k in range(int(MEGABYTES * 1e6 / (len(kinds) * side * side * 4)))]
    state = {kind.format(layer): torch.randn(side, side) for kind in kinds for layer in layers}
    return state | {f"optimizer.{layer}.step": torch.tensor(1.0) for layer in layers}


def plain(storage: Storage, state: dict[str, Tensor], step: int) -> None:
    """One file in a temporary folder, then in the storage."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.safetensors"
        save_file({name: value.cpu().contiguous() for name, value in state.items()}, path)
        storage.write_bytes(f"plain/{step}/{path.name}", path.read_bytes())


def steps_for(seconds: float) -> int:
    """Work as a training step does for a time; how many steps it was."""
    matrix, count, until = torch.randn(512, 512), 0, time.monotonic() + seconds
    while time.monotonic() < until:
        matrix @ matrix
        count += 1
    return count


def blocked(save: Callable[[], None]) -> float:
    """Seconds until training could go on."""
    started = time.perf_counter()
    save()
    return time.perf_counter() - started


def main() -> dict[str, float | str]:
    """Seconds that each keeps training waiting, their ratio, and steps during an upload to those without."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    state, waits = made_up_state(), dict[str, list[float]](plain=[], background=[])
    upload = 1.3 * sum(value.nbytes for value in state.values()) / BYTES_PER_SECOND
    speeds = []
    with tempfile.TemporaryDirectory() as folder:
        storage = SlowStorage(f"file://{folder}", bytes_per_second=BYTES_PER_SECOND)
        with Checkpoints(storage, "background") as checkpoints:
            for turn in range(1, TURNS + 1):
                waits["plain"].append(blocked(lambda turn=turn: plain(storage, state, turn)))
                alone = steps_for(upload / 3)
                save = lambda turn=turn: checkpoints.save(turn, state, {})  # noqa: E731
                waits["background"].append(blocked(save))
                speeds.append(steps_for(upload) / 3 / alone)
        found = last_checkpoint(storage, "background")
        assert found is not None and found.step == TURNS
        saved = read_whole(found)
        assert all(torch.equal(saved[name], value) for name, value in state.items())
    torch.set_num_threads(threads)
    medians = {name: statistics.median(values) for name, values in waits.items()}
    return {f"{name}_seconds": value for name, value in medians.items()} | {
        "first_background_seconds": waits["background"][0],
        "background_to_plain": medians["background"] / medians["plain"],
        "steps_during_upload_to_alone": statistics.median(speeds),
    }
