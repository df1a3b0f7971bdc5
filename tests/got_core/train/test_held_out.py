"""The held-out loss: on rows that are never drawn, the same on any number of workers, without a trace."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from got_core.recipes import tiny
from got_core.train.config import StageConfig
from got_core.train.data.batches import JointBatches
from got_core.train.data.columns import held_out_place
from got_core.train.data.samples import training_data
from got_core.train.held_out import HeldOut
from got_core.train.run import TrainingRun
from got_core.train.stage import finetuning, pretraining
from got_core.train.trainer import Trainer
from tests.got_core.ranks import side_by_side
from tests.got_core.tiny_pipeline import tiny_pipeline
from tests.got_core.train import two_held_out
from tests.got_core.train.two_held_out import CONFIG


def trainer(run: TrainingRun, config: StageConfig = CONFIG) -> Trainer:
    return Trainer(tiny_pipeline(), training_data(run, config), config)


def test_the_split_follows_from_the_id_alone(training_run: TrainingRun) -> None:
    data, all_rows = training_data(training_run, CONFIG), training_data(training_run)
    for kind in ("t2i", "edit"):
        train, held = data.of_kind[kind], data.held_out_rows({kind: 1.0})
        assert len(train) and len(held)
        assert sorted([*train, *held]) == sorted(all_rows.of_kind[kind])
        assert {data.sample_id(k) for k in held} == {
            one
            for one in map(data.sample_id, all_rows.of_kind[kind].tolist())
            if held_out_place(one) < CONFIG.held_out
        }
    places = [held_out_place(f"sample-{k}") for k in range(4000)]
    assert np.mean(np.array(places) < 0.25) == pytest.approx(0.25, abs=0.03)
    assert held_out_place("images/000001.png") == held_out_place("images/000001.png")


def test_a_share_of_rows_is_drawn_and_a_smaller_one_is_part_of_a_larger(training_run: TrainingRun) -> None:
    def drawn(share: float) -> tuple[set[int], int]:
        config = replace(CONFIG, row_share=share)
        data = training_data(training_run, config)
        held = {int(k) for kind in ("t2i", "edit") for k in data.held_out_rows({kind: 1.0})}
        ((group, rows),) = data.groups({"t2i": 1.0})
        assert set(rows) == set(data.of_kind["t2i"]) and group.rows == len(rows) and not held & set(rows)
        return {*map(int, rows)}, len(held)

    (every, held), (half, same), (some, _) = drawn(1.0), drawn(0.5), drawn(0.2)
    assert some < half < every and held == same > 0
    assert 0.3 < len(half) / len(every) < 0.7
    with pytest.raises(ValueError, match="row_share is a share of the rows above 0, at most 1, got 0"):
        replace(CONFIG, row_share=0.0)


def test_held_out_rows_are_never_drawn(training_run: TrainingRun) -> None:
    joint = trainer(training_run)
    held = {
        joint.data.sample_id(k) for kind in ("t2i", "edit") for k in joint.data.held_out_rows({kind: 1.0})
    }
    batches = joint.batches
    assert isinstance(batches, JointBatches)
    parts = [part for step in range(60) for part in batches.layout.passes(step, 0)]
    drawn = {one.sample_id for part in parts for one in batches.reader.read(batches.order(part)).samples}
    assert len(drawn) > 20 and not drawn & held
    rng = np.random.default_rng(0)
    assert not {one.sample_id for one in joint.data.draw(rng, "t2i", 30)} & held


def test_measuring_leaves_no_trace_and_repeats(training_run: TrainingRun) -> None:
    measured, plain = (trainer(training_run, replace(CONFIG, ema_decay=0.9, lora_dropout=0.1)) for _ in "ab")
    losses = []
    held_out = HeldOut(measured, print)
    for step in range(1, 5):
        plain.run(step, lambda step, losses: None)
        losses.append(held_out.losses())
        assert held_out.losses() == losses[-1]
        measured.run(step, lambda step, losses: None)
    assert set(losses[0]) == {"held_out/loss", "held_out/text", "held_out/diffusion"}
    assert losses[0] != losses[-1]
    for name, value in plain.trained().items():
        assert torch.equal(value, measured.trained()[name]), name
    for mine, other in zip(plain.average.values, measured.average.values, strict=True):
        assert torch.equal(mine, other)


def test_without_a_row_there_is_a_line_and_no_loss(training_run: TrainingRun) -> None:
    said: list[str] = []
    held_out = HeldOut(trainer(training_run, replace(CONFIG, held_out=1e-9)), said.append)
    assert held_out.losses() == {}
    assert said == ["no row of the mixture is among the held-out share of 1e-09: no held-out loss"]
    said.clear()
    assert HeldOut(trainer(training_run, replace(CONFIG, held_out=0.0)), said.append).losses() == {}
    assert said == []


def test_few_rows_are_the_same_ones_and_named(training_run: TrainingRun) -> None:
    few, all_rows = (
        HeldOut(trainer(training_run, replace(CONFIG, held_out_samples=n)), print) for n in (2, 99)
    )
    assert few.rows != all_rows.rows
    assert few.losses() != all_rows.losses()
    other = replace(training_run, manifest=training_run.manifest.sort(pl.col("sample_id"), descending=True))
    assert HeldOut(trainer(other, replace(CONFIG, held_out_samples=2)), print).losses() == few.losses()


def test_stages_hold_out_the_same_rows() -> None:
    stages = tiny().stages
    with pytest.raises(ValueError, match="held_out differs between the stages"):
        replace(tiny(), stages=(stages[0], finetuning(replace(stages[1].config, held_out=0.1))))
    replace(tiny(), stages=(pretraining(CONFIG), finetuning(CONFIG)))
    with pytest.raises(ValueError, match="held_out is a share"):
        replace(CONFIG, held_out=1.0)
    assert CONFIG.identity() != replace(CONFIG, held_out=0.1).identity()
    assert CONFIG.identity() == replace(CONFIG, held_out_samples=3, held_out_every=9).identity()


@pytest.mark.slow
def test_two_workers_measure_what_one_does(training_run: TrainingRun, tmp_path: Path) -> None:
    alone = HeldOut(trainer(training_run), print).losses()
    side_by_side(two_held_out.measure, (training_run, tmp_path), count=2)
    for sharding in ("ddp", "fsdp"):
        first, second = (json.loads((tmp_path / f"{sharding}-{rank}.json").read_text()) for rank in (0, 1))
        assert first == second
        assert first["start"] == pytest.approx(alone, rel=1e-5)
        assert first["same_weights"], "measuring does not change what is trained"
        assert first["end"] != first["start"]
