"""Batches are the same, bit for bit, however many processes read them and wherever pictures lie."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from got_core.train.config import StageConfig
from got_core.train.data import loading
from got_core.train.data.faults import TooManySubstitutesError
from got_core.train.data.loading import DecoderError
from got_core.train.data.passes import PassOrder, PassReader, ReadPass
from got_core.train.data.samples import training_data
from got_core.train.objective import JointObjective
from got_core.train.run import TrainingRun
from tests.got_core.tiny_pipeline import tiny_pipeline
from tests.got_core.train.tar_runs import nowhere, own_pictures, t2i_rows, with_tars

CONFIG = StageConfig(
    steps=8,
    batch_size=3,
    global_batch=12,
    draws_per_step=2,
    geometry="crop",
    mixture={"t2i": 0.6, "edit": 0.4},
    picture_retries=0,
)
STEPS = 4


@contextmanager
def batches(run: TrainingRun, config: StageConfig = CONFIG, **options: Any) -> Iterator[Any]:
    made = JointObjective().batches(training_data(run, config), tiny_pipeline(), config, **options)
    try:
        yield made
    finally:
        made.close()  # type: ignore[attr-defined]


def steps(made: Any, numbers: range) -> list[list[dict[str, Any]]]:
    return [made.passes(step) for step in numbers]


def assert_same(left: list[list[dict[str, Any]]], right: list[list[dict[str, Any]]]) -> None:
    assert [len(step) for step in left] == [len(step) for step in right]
    for mine, other in zip(left, right, strict=True):
        for one, two in zip(mine, other, strict=True):
            assert one.keys() == two.keys()
            for name, value in one.items():
                same = (
                    torch.equal(value, two[name]) if isinstance(value, torch.Tensor) else value == two[name]
                )
                assert same, name


def decoder_pids() -> list[int]:
    servers = [one for one in psutil.Process().children() if "forkserver" in " ".join(one.cmdline())]
    return [child.pid for server in servers for child in server.children()]


@pytest.mark.slow
@pytest.mark.parametrize("decoders", [1, 2])
def test_batches_are_the_same_for_any_number_of_decoders_from_files_and_from_tars(
    training_run: TrainingRun, tmp_path: Path, decoders: int
) -> None:
    tars = nowhere(with_tars(training_run, f"file://{tmp_path / 'storage'}"), tmp_path)
    with batches(training_run) as made:
        expected = steps(made, range(STEPS))
    assert len({one["reference"].shape[0] for step in expected for one in step}) == 1
    with batches(tars) as made:
        assert_same(steps(made, range(STEPS)), expected)
    ahead = replace(CONFIG, decoders=decoders, prefetch=3)
    for run in (training_run, tars):
        with batches(run, ahead) as made:
            assert_same(steps(made, range(STEPS)), expected)
            pids = decoder_pids()
            assert len(pids) == decoders
            # Training that goes on elsewhere, and goes on again: the processes stay.
            assert_same(steps(made, range(1, 3)), expected[1:3])
            assert decoder_pids() == pids
            assert made.decoder_seconds > 0
        assert decoder_pids() == []


@pytest.mark.slow
def test_ranks_share_the_draws_of_one(training_run: TrainingRun) -> None:
    with batches(training_run) as made:
        alone = {int(k) for step in steps(made, range(2)) for one in step for k in one["index"]}
    found: list[int] = []
    for rank in range(2):
        ahead = replace(CONFIG, decoders=1, workers=2)
        with batches(training_run, ahead, rank=rank, ranks=2) as made:
            found += [int(k) for step in steps(made, range(2)) for one in step for k in one["index"]]
    assert sorted(found) == sorted(alone) == list(range(24))


@pytest.mark.slow
def test_faults_are_counted_in_order_whoever_meets_them(training_run: TrainingRun, tmp_path: Path) -> None:
    run = own_pictures(training_run, tmp_path)
    for path in t2i_rows(run)["target_path"].to_list()[::4]:
        (Path(run.raw_url) / path).unlink(missing_ok=True)
    found, taken = [], []
    for decoders in (0, 2):
        said: list[str] = []
        config = replace(CONFIG, decoders=decoders, max_substituted=1.0)
        with batches(replace(run, progress=said.append), config) as made:
            taken.append(steps(made, range(3)))
            faults = made.data.faults
            found.append((faults.substituted, faults.listed, said, made.last_ids))
    assert_same(*taken)
    assert found[0] == found[1]
    assert found[0][0] > 2


@pytest.mark.slow
def test_a_takedown_throws_away_what_was_read_ahead(training_run: TrainingRun) -> None:
    ids = []
    with batches(training_run) as made:
        for step in range(3):
            made.passes(step)
            ids.append(list(made.last_ids))
    later = ids[2][5]
    row = training_run.manifest["sample_id"].to_list().index(later)  # type: ignore[index]
    found = []
    for decoders in (0, 2):
        # More is ready ahead than a step has passes.
        with batches(training_run, replace(CONFIG, decoders=decoders, prefetch=4)) as made:
            made.passes(0)
            time.sleep(3 * (decoders > 0))
            made.data.leave_out([row], 1)
            assert made.data.changes == 1
            made.data.leave_out([row], 1)
            assert made.data.changes == 1, "nothing new, nothing thrown away"
            made.passes(1)
            made.passes(2)
            found.append(list(made.last_ids))
            assert made.data.faults.substituted == 0
    assert later not in found[0]
    assert found[0] == found[1]
    assert sum(mine != other for mine, other in zip(found[0], ids[2], strict=True)) == 1


@pytest.mark.slow
def test_an_error_is_raised_when_its_pass_is_due_and_names_its_sample(
    training_run: TrainingRun, tmp_path: Path
) -> None:
    with batches(training_run) as made:
        made.passes(0)
        first = set(made.last_ids)
        made.passes(1)
        broken = next(one for one in made.last_ids if one not in first)
    run = own_pictures(training_run, tmp_path)
    assert run.manifest is not None
    (row,) = run.manifest.filter(sample_id=broken).to_dicts()
    for decoders in (0, 1):
        config = replace(CONFIG, decoders=decoders, max_substituted=0.0)
        folder = Path(run.raw_url) if row["kind"] == "t2i" else Path(str(run.edits_url)).parent
        (folder / row["target_path"]).write_bytes(b"")
        with batches(run, config) as made:
            made.passes(0)
            with pytest.raises(TooManySubstitutesError, match=row["target_path"]):
                made.passes(1)


@pytest.mark.slow
def test_a_killed_decoder_is_one_clear_error_and_the_step_can_be_had_again(training_run: TrainingRun) -> None:
    with batches(training_run) as made:
        expected = steps(made, range(2))
    with batches(training_run, replace(CONFIG, decoders=2)) as made:
        assert_same(steps(made, range(1)), expected[:1])
        os.kill(decoder_pids()[0], signal.SIGKILL)
        with pytest.raises(DecoderError, match=r"passes of step \d.* 2 decoder processes: .*goes on"):
            for step in range(1, 8):
                made.passes(step)
        assert decoder_pids() == []
        assert_same(steps(made, range(1, 2)), expected[1:])


@dataclass
class SlowReader:
    """A pass takes its time."""

    reader: PassReader
    seconds: float

    @property
    def data(self) -> Any:
        return self.reader.data

    def share(self) -> None:
        self.reader.share()

    def read(self, order: PassOrder) -> ReadPass:
        time.sleep(self.seconds)
        return self.reader.read(order)


@pytest.mark.slow
def test_a_decoder_killed_before_its_first_answer_is_noticed(
    training_run: TrainingRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    with batches(training_run, replace(CONFIG, decoders=2)) as made:
        # Nobody would wait for this answer, or for the limit on waiting.
        made._loader._reader = SlowReader(made._loader._reader, 1e6)
        monkeypatch.setattr(made._loader, "_timeout", 1e6)
        made._loader._begin(0)
        os.kill(decoder_pids()[0], signal.SIGKILL)
        with pytest.raises(DecoderError, match=r"passes of step 0 .*exited unexpectedly"):
            made.passes(0)
        assert decoder_pids() == []


@pytest.mark.slow
def test_slow_decoders_are_waited_for_up_to_a_limit(
    training_run: TrainingRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "_LOOK", 0.2)
    with batches(training_run) as made:
        expected = steps(made, range(1))
    with batches(training_run, replace(CONFIG, decoders=1)) as made:
        reader = made._loader._reader
        made._loader._reader = SlowReader(reader, 1.0)
        assert_same(steps(made, range(1)), expected)
        made._loader.close()
        made._loader._reader = SlowReader(reader, 1e6)
        monkeypatch.setattr(made._loader, "_timeout", 1.0)
        with pytest.raises(DecoderError, match=r"passes of step 0 .*timed out"):
            made.passes(0)


def test_numbers_that_cannot_be_are_refused() -> None:
    for wrong in ({"decoders": -1}, {"prefetch": 0}):
        with pytest.raises(ValueError, match="decoders is not negative and prefetch at least 1"):
            replace(CONFIG, **wrong)  # type: ignore[arg-type]
    assert CONFIG.identity() == replace(CONFIG, decoders=4, prefetch=9).identity()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_passes_in_pinned_memory_are_those_of_the_processor(training_run: TrainingRun) -> None:
    with batches(training_run) as made:
        expected = steps(made, range(2))
    with batches(training_run, replace(CONFIG, decoders=1)) as made:
        made.device = torch.device("cuda")
        made._loader._pin = True
        for step in range(2):
            for found, wanted in zip(made._loader.step(step), expected[step], strict=True):
                assert found.targets.is_pinned()
                moved = made._on_device(found.language)
                assert all(value.is_cuda for value in moved.values())
                assert all(torch.equal(value.cpu(), wanted[name]) for name, value in moved.items())
