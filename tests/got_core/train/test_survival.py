"""Stages whose data changes while they train: files, takedowns, new images.

Two workers on Ray where they have to agree; this process alone (`here`) for what one does as well.
"""

from __future__ import annotations

import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from safetensors.torch import load_file

from got_core.curate.config import CurateConfig
from got_core.curate.takedown import CurrentRemoval
from got_core.curate.takedown_lists import LIST, add_takedowns
from got_core.frame_hash import content_hash
from got_core.recipes import tiny
from got_core.storage import Storage
from got_core.train.config import StageConfig
from got_core.train.data.faults import TooManySubstitutesError
from got_core.train.run import TrainingRun, weights_hash
from got_core.train.stage import finetuning
from got_core.train.stages import train_stage
from got_core.train.takedown_file import read_taken_down
from got_core.train.unfinished import unfinished
from tests.got_core.tiny_pipeline import tiny_pipeline
from tests.got_core.train.test_pictures import held

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_kept")]

STAGE = StageConfig(
    steps=12,
    workers=2,
    batch_size=2,
    lora_rank=4,
    mixture={"t2i": 1.0},
    checkpoint_every=3,
    max_failures=0,
    picture_retries=0,
)
FAULTS = {"max_substituted": 1.0, "picture_timeout": 1.0}
"""For trainings with a picture that is held: any other may take as long as a busy machine needs."""
NOTHING = CurrentRemoval(CurateConfig(), {})


def prepared(training_run: TrainingRun, folder: Path, **changes: Any) -> tuple[TrainingRun, dict]:
    """A run on pictures and a storage of its own, and the model that it starts from."""
    shutil.copytree(training_run.raw_url, folder / "raw")
    stage = replace(STAGE, **changes)
    run = replace(
        training_run,
        raw_url=str(folder / "raw"),
        storage_url=f"file://{folder / 'storage'}",
        tracking_uri=f"sqlite:///{folder / 'mlflow.db'}",
        recipe=replace(tiny(), stages=(finetuning(stage),)),
        takedowns=NOTHING,
    )
    start = folder / "storage" / "models" / "start"
    tiny_pipeline().save_pretrained(start)
    return run, {"folder": "models/start", "stage": "pretrain", "weights_hash": weights_hash(start)}


def train(run: TrainingRun, start: dict) -> tuple[dict[str, Any], list[str]]:
    said: list[str] = []
    return train_stage(replace(run, progress=said.append), run.recipe.stages[-1], start), said


def here(run: TrainingRun) -> TrainingRun:
    """The run, trained by this process without Ray."""
    return replace(run, workers=0)


def pictures(run: TrainingRun) -> list[Path]:
    return [Path(run.raw_url) / path for path in run.manifest.filter(kind="t2i")["target_path"]]


def with_few_rows(run: TrainingRun) -> TrainingRun:
    few = pl.concat(run.manifest.filter(kind=kind).head(8) for kind in ("t2i", "edit"))
    return replace(run, manifest=few, manifest_hash=content_hash(few))


def spoil(run: TrainingRun) -> tuple[Path, Path, Path]:
    """Pictures of the run: one that is away now, one cut off, and one to be held."""
    # The nodes are looked at before: one of the first three has to open there.
    missing, broken, _, slow = pictures(run)[:4]
    missing.unlink()
    broken.write_bytes(broken.read_bytes()[:100])
    return missing, broken, slow


def first_steps(said: list[str]) -> set[int]:
    """Steps that the workers of a training began with."""
    found = [re.search(r"worker \d of \d is process .* from step (\d+)", line) for line in said]
    return {int(match[1]) for match in found if match}


def finite(run: TrainingRun, reference: dict[str, Any]) -> bool:
    files = list(run.storage().download(reference["folder"]).rglob("*.safetensors"))
    assert files
    return all(value.isfinite().all() for file in files for value in load_file(file).values())


def test_missing_broken_and_slow_pictures_are_counted_and_the_training_ends(
    training_run: TrainingRun, tmp_path: Path
) -> None:
    run, start = prepared(with_few_rows(training_run), tmp_path, **FAULTS)
    missing, broken, slow = spoil(run)
    with held(slow):
        reference, said = train(run, start)
    assert finite(run, reference) and reference["steps"] == 12
    faults = reference["substituted"]
    reasons = {Path(one["path"]).name: one["reason"] for one in faults["first"]}
    assert reasons == {missing.name: "vanished", broken.name: "truncated", slow.name: "slow"}
    # In each of 12 steps, half of the 8 pictures are drawn.
    assert 9 <= faults["samples"] <= 27
    assert len({line for line in said if "is substituted" in line}) >= 3
    kept = run.storage().read_json(f"models/finetune/{reference['config_digest']}/substituted.json")
    assert kept["steps"]["12"] == faults["samples"]
    assert kept["steps"]["0"] == 0 <= kept["steps"]["6"] <= kept["steps"]["12"]


def test_why_a_picture_cannot_be_had_does_not_matter(training_run: TrainingRun, tmp_path: Path) -> None:
    few = with_few_rows(training_run)
    run, start = prepared(few, tmp_path / "one", **FAULTS)
    *_, slow = spoil(run)
    with held(slow):
        reference, _ = train(here(run), start)
    again, start = prepared(few, tmp_path / "again", **FAULTS)
    for k in (0, 1, 3):
        pictures(again)[k].unlink()
    other, _ = train(here(again), start)
    assert {one["reason"] for one in reference["substituted"]["first"]} == {"vanished", "truncated", "slow"}
    assert {one["reason"] for one in other["substituted"]["first"]} == {"vanished"}
    assert other["weights_hash"] == reference["weights_hash"]


def test_a_takedown_meanwhile_takes_effect_at_the_next_checkpoint_and_the_step_is_kept(
    training_run: TrainingRun, tmp_path: Path
) -> None:
    run, start = prepared(training_run, tmp_path, steps=60)
    storage, rows = run.storage(), run.manifest.filter(kind="t2i")
    ids = rows["image_id"].to_list()[:40]

    def take_down() -> None:
        wait_for_steps(storage, STAGE.checkpoint_every)
        add_takedowns(storage, ids)

    with ThreadPoolExecutor(1) as pool:
        listed = pool.submit(take_down)
        reference, said = train(run, start)
        listed.result()
    assert first_steps(said) == {0}
    taken = reference["taken_down"]
    assert sorted(row["id"] for row in taken) == sorted(ids)
    (step,) = {row["from_step"] for row in taken}
    assert 0 < step < 60 and step % STAGE.checkpoint_every == 0
    assert f"step {step}: 40 samples were taken down and are left out" in said
    assert reference["substituted"]["samples"] == 0
    assert finite(run, reference)
    assert read_taken_down(storage, f"models/finetune/{reference['config_digest']}") == taken


def test_a_resumed_training_replays_its_takedowns_and_takes_in_later_ones(
    training_run: TrainingRun, tmp_path: Path
) -> None:
    run, start = prepared(training_run, tmp_path, steps=60)
    rows = run.manifest.filter(kind="t2i")
    early, late = rows["image_id"][0], rows["image_id"][1]
    add_takedowns(run.storage(), [early])
    break_off(here(run), start)
    add_takedowns(run.storage(), [late])
    reference, said = train(run, start)
    (first,) = first_steps(said)
    assert first > 0
    found = [(row["id"], row["from_step"]) for row in reference["taken_down"]]
    assert found[:2] == [(early, 0), (late, first)]

    # A file of the list that cannot be understood stops nothing, and what is known stays left out.
    other, start = prepared(training_run, tmp_path / "other", steps=6)
    other.storage().write_bytes(LIST, b"no,list\n1,2\n")
    unread, said = train(here(other), start)
    assert unread["taken_down"] == [] and any("looked at again later" in line for line in said)


def break_off(run: TrainingRun, start: dict) -> None:
    """Train until a checkpoint is there; then all pictures are gone, and the training fails."""
    folder, away = Path(run.raw_url), Path(run.raw_url).with_name("away")

    def take_away() -> None:
        wait_for_steps(run.storage(), 3 * STAGE.checkpoint_every)
        folder.rename(away)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(take_away)
        with pytest.raises(TooManySubstitutesError, match=r"max_substituted allows|nothing in its place"):
            train_stage(run, run.recipe.stages[-1], start)
        waiting.result()
    away.rename(folder)


def wait_for_steps(storage: Storage, steps: int) -> None:
    """Wait until so many steps were trained, by what is written before each checkpoint."""
    until = time.monotonic() + 900
    while done(storage) < steps:
        assert time.monotonic() < until
        time.sleep(0.02)


def done(storage: Storage) -> int:
    """The step for which a checkpoint was begun last."""
    notes = [name for name in storage.list("models/finetune/") if name.endswith("/substituted.json")]
    return max((int(step) for name in notes for step in storage.read_json(name)["steps"]), default=0)


def test_a_new_image_waits_for_the_next_training(training_run: TrainingRun, tmp_path: Path) -> None:
    run, start = prepared(training_run, tmp_path, steps=60)
    rows = run.manifest.filter(kind="t2i")
    old = run.manifest.filter(pl.col("sample_id") != rows["sample_id"][0])
    run = here(replace(run, manifest=old, manifest_hash=content_hash(old)))
    break_off(run, start)
    (begun,) = unfinished(run.storage(), "finetune")
    newer = replace(run, manifest=training_run.manifest, manifest_hash=training_run.manifest_hash)
    went_on, said = train(newer, start)
    assert min(first_steps(said)) > 0, "the steps that were done are kept"
    assert (went_on["config_digest"], went_on["manifest_hash"]) == (begun["key"], run.manifest_hash)
    assert went_on["pinned"] and any("newer data waits for the next training" in line for line in said)
    assert not unfinished(run.storage(), "finetune")
    next_one, said = train(newer, start)
    assert first_steps(said) == {0}
    assert next_one["manifest_hash"] == newer.manifest_hash and not next_one["pinned"]
    assert next_one["weights_hash"] != went_on["weights_hash"]
