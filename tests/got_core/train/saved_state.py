"""What a training has saved in a folder, as whole tensors."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from got_core.storage import Storage
from got_core.train.checkpoints.folders import last_checkpoint
from got_core.train.checkpoints.tensors import read_whole


def saved_state(folder: Path) -> dict[str, Tensor]:
    """The last checkpoint that ``Trainer.save`` wrote there."""
    found = last_checkpoint(Storage(str(folder)), "checkpoints")
    assert found is not None
    return read_whole(found)
