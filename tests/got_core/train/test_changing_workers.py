"""Two workers, then one, then two: the same samples and noise, and losses that differ in the last digits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest

from got_core.train.config import Sharding
from got_core.train.run import TrainingRun
from tests.got_core.ranks import side_by_side
from tests.got_core.train import changing_workers
from tests.got_core.train.changing_workers import CHANGING, CONFIG

pytestmark = pytest.mark.slow

SHARDINGS = get_args(Sharding)


@pytest.fixture(scope="module")
def trained(training_run: TrainingRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("changing")
    side_by_side(changing_workers.train, (training_run, folder), count=2)
    return folder


def steps(folder: Path) -> dict[int, dict[str, Any]]:
    """By step, its loss over all workers and what all samples were, by their numbers."""
    found: dict[int, dict[str, Any]] = {}
    for path in sorted(folder.glob("steps-*.jsonl")):
        for line in path.read_text().splitlines():
            one = json.loads(line)
            known = found.setdefault(one["step"], {"loss": one["loss"], "samples": {}})
            assert known["loss"] == one["loss"], "the mean over all workers"
            assert not known["samples"].keys() & one["samples"].keys(), "a sample on two workers"
            known["samples"] |= one["samples"]
    return found


@pytest.mark.parametrize("sharding", SHARDINGS)
def test_samples_and_noise_are_exactly_the_same(trained: Path, sharding: Sharding) -> None:
    undisturbed, changing = (steps(trained / f"{sharding}-{name}") for name in ("undisturbed", "changing"))
    assert set(undisturbed) == set(changing) == set(range(1, CONFIG.steps + 1))
    for step, expected in undisturbed.items():
        # Number, row, wording, cut, learning or not, conditions dropped, noise, its offset, time.
        assert changing[step]["samples"] == expected["samples"], step
        first = (step - 1) * CONFIG.samples_per_step
        numbers = sorted(int(number) for number in expected["samples"])
        assert numbers == list(range(first, first + CONFIG.samples_per_step))
    every = [sample for one in undisturbed.values() for sample in one["samples"].values()]
    assert {len(sample) for sample in every} == {8}
    # No two samples have the same noise, and not all have the same cut.
    assert len({sample[5] for sample in every}) == len(every)


@pytest.mark.parametrize("sharding", SHARDINGS)
def test_losses_differ_in_the_last_digits(trained: Path, sharding: Sharding) -> None:
    undisturbed, changing = (steps(trained / f"{sharding}-{name}") for name in ("undisturbed", "changing"))
    apart = {step: abs(changing[step]["loss"] / one["loss"] - 1) for step, one in undisturbed.items()}
    switches = [until + 1 for _, until in CHANGING[:-1]]
    print(sharding, "after a switch", [apart[k] for k in switches], "at the end", apart[CONFIG.steps])
    assert all(apart[step] <= 1e-5 for step in switches)
    assert apart[CONFIG.steps] <= 1e-3 and max(apart.values()) <= 1e-3
    # One worker takes passes of another size, so this is no comparison of equal bits.
    assert any(apart.values())


def test_ranks_drop_out_other_values(training_run: TrainingRun, tmp_path: Path) -> None:
    side_by_side(changing_workers.dropout_masks, (training_run, tmp_path), count=2)
    first, second = (json.loads((tmp_path / f"mask-{rank}.json").read_text()) for rank in (0, 1))
    for mask in (first, second):
        assert 0.3 < sum(mask) / len(mask) < 0.7
    assert first != second
