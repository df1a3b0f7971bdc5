"""Weights that only rank 0 has read: training is bit by bit that of ranks that each have read them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from got_core.train.run import TrainingRun
from tests.got_core.ranks import side_by_side
from tests.got_core.train import two_starts
from tests.got_core.train.saved_state import saved_state

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(training_run: TrainingRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("starts")
    for name, case in two_starts.CASES.items():
        two_starts.write_start(case, folder / name / "start")
    side_by_side(two_starts.train, (training_run, folder), count=2)
    return folder


@pytest.mark.parametrize("name", two_starts.CASES)
def test_losses_and_buffers_are_those_of_weights_that_all_have_read(trained: Path, name: str) -> None:
    for rank in range(2):
        read, sent = (
            json.loads((trained / name / f"{way}-{rank}.json").read_text()) for way in ("read", "sent")
        )
        assert len(sent["losses"]) == 2 and any("inv_freq" in one for one in sent["buffers"])
        assert sent == read


@pytest.mark.parametrize("name", two_starts.CASES)
def test_checkpoints_and_finished_pipelines_are_the_same_bit_by_bit(trained: Path, name: str) -> None:
    read, sent = (saved_state(trained / name / way) for way in ("read", "sent"))
    assert read.keys() == sent.keys()
    assert all(torch.equal(sent[one], value) for one, value in read.items())
    files = [one.relative_to(trained / name / "read-pipeline") for one in _weights(trained / name)]
    assert len(files) == 4
    for file in files:
        first, second = (load_file(trained / name / f"{way}-pipeline" / file) for way in ("read", "sent"))
        assert first.keys() == second.keys()
        assert all(torch.equal(second[one], value) for one, value in first.items()), file


def _weights(home: Path) -> list[Path]:
    return sorted((home / "read-pipeline").rglob("*.safetensors"))


def test_models_that_differ_are_one_error_on_all_ranks(trained: Path) -> None:
    size, stray = (
        [(trained / f"{name}-{rank}.txt").read_text() for rank in range(2)] for name in ("size", "stray")
    )
    assert size[0] == size[1] and "worker 2 cannot take the weights that worker 1 has read: unet." in size[0]
    assert "48" in size[0] and "32" in size[0]
    assert stray[0] == stray[1] and "unet.conv_in.scale is a tensor but no buffer of Conv2d" in stray[0]


@pytest.mark.skipif(sys.platform != "linux", reason="peaks of memory are reset through /proc")
def test_a_rank_above_0_never_holds_the_whole_model(training_run: TrainingRun, tmp_path: Path) -> None:
    """Read by each, the peak would be at 1.5 times the model's size; on rank 0, which copied it, at 2.8."""
    case = two_starts.Case(two_starts.CONFIG, two_starts.WIDE, half=False)
    two_starts.write_start(case, tmp_path / "start")
    side_by_side(two_starts.start_wide, (training_run, tmp_path), count=2)
    first, second = (json.loads((tmp_path / f"memory-{rank}.json").read_text()) for rank in range(2))
    print(f"model {first['model']:,} bytes; peaks {first['peak']:,} and {second['peak']:,}")
    assert first["model"] == second["model"] > 150e6
    assert first["peak"] < 2.1 * first["model"]
    assert second["peak"] < 0.9 * second["model"]
