"""Devices of these tests, and the small corpus that they train on.

Each test runs twice: tiny on a CPU, so that its code is known to run, and as it is meant on a CUDA device,
where it is marked ``gpu`` and skipped without one (``make test-gpu``).
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.got_core.conftest import training_run as training_run
from tests.got_core.ranks import join_group, leave_group


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """The CPU, or the first GPU, whose name is printed."""
    if request.param == "cuda":
        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")
        print(f"\n{torch.cuda.get_device_name()}, {torch.cuda.mem_get_info()[1] / 1e9:.0f} GB")
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    return torch.device(request.param)


@pytest.fixture
def one_worker(device: torch.device, tmp_path: Path) -> Iterator[None]:
    """A process group of this process alone, as spread training needs one."""
    backend = "nccl" if device.type == "cuda" else "gloo"
    join_group(tmp_path / "rendezvous", 0, 1, backend)
    yield
    leave_group()
