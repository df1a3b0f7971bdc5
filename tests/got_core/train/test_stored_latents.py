"""Training from stored latents: what it learns from is what pictures with the same cut give."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from PIL import Image

from got_core.frame_hash import content_hash
from got_core.storage import Storage
from got_core.train.config import StageConfig
from got_core.train.data.faults import TooManySubstitutesError
from got_core.train.data.manifest_file import in_file
from got_core.train.data.pictures import PictureError
from got_core.train.data.samples import training_data
from got_core.train.data.sources.latents import places_are_of_latents, with_latents
from got_core.train.encoding.autoencoder import autoencoder_hash, load_autoencoder
from got_core.train.encoding.making import make_latents
from got_core.train.latents.key import LatentsMissingError, latent_key
from got_core.train.latents.parts import read_index, remove
from got_core.train.preflight import request_of
from got_core.train.run import Reference, TrainingRun
from got_core.train.stage import finetuning
from got_core.train.stages import train_stage
from got_core.train.trainer import Trainer
from tests.got_core.tiny_pipeline import sees_its_conditions, tiny_pipeline

STAGE = StageConfig(
    steps=6,
    batch_size=3,
    lora_rank=4,
    mixture={"t2i": 0.5, "edit": 0.5},
    bf16=False,
    random_crop=False,
    latents="float32",
)


def started(run: TrainingRun, folder: Path, config: StageConfig = STAGE) -> tuple[TrainingRun, Reference]:
    """A run of one stage in a storage of its own, and the model that it starts from."""
    recipe = replace(run.recipe, stages=(finetuning(config),))
    run = replace(run, storage_url=f"file://{folder / 'storage'}", recipe=recipe)
    sees_its_conditions(tiny_pipeline()).save_pretrained(folder / "storage" / "models" / "start")
    return run, {"folder": "models/start", "stage": "pretrain", "weights_hash": "w"}


def placed(run: TrainingRun, start: Reference) -> TrainingRun:
    """The run with its latents looked up, as a stage does before it trains."""
    config = run.recipe.stages[0].config
    vae = load_autoencoder(run.storage().download(start["folder"]), start["stage"])
    key = latent_key(run.recipe.model, config, autoencoder_hash(vae))
    return with_latents(run, config, key, "places", "finetune")


def trainer_of(run: TrainingRun, config: StageConfig) -> Trainer:
    return Trainer(sees_its_conditions(tiny_pipeline()), training_data(run, config), config)


def losses(run: TrainingRun, config: StageConfig) -> list[dict[str, float]]:
    trained, found = trainer_of(run, config), []
    trained.run(config.steps, lambda step, values: found.append(values))
    trained.batches.close()  # type: ignore[attr-defined]
    return found


def oblong(run: TrainingRun, folder: Path) -> TrainingRun:
    """The same rows with pictures that have to be cut."""
    raw = folder / "raw"
    for path in run.manifest.filter(pl.col("kind") == "t2i")["target_path"]:  # type: ignore[union-attr]
        (raw / path).parent.mkdir(parents=True, exist_ok=True)
        Image.open(Path(run.raw_url) / path).resize((120, 70)).save(raw / path)
    wide = pl.col("kind") == "t2i"
    manifest = run.manifest.with_columns(  # type: ignore[union-attr]
        width=pl.when(wide).then(120).otherwise("width").cast(pl.Int32),
        height=pl.when(wide).then(70).otherwise("height").cast(pl.Int32),
    )
    return replace(run, raw_url=str(raw), manifest=manifest, manifest_hash=content_hash(manifest))


@pytest.mark.parametrize("geometry", ["stretch", "crop", "bucket"])
def test_losses_are_those_of_pictures_with_the_same_cut(
    training_run: TrainingRun, tmp_path: Path, geometry: Any
) -> None:
    config = replace(STAGE, geometry=geometry, bucket_multiple=16)
    pictures = oblong(training_run, tmp_path)
    wanted = losses(pictures, replace(config, latents=None))
    for number_format, tolerance in (("float32", 2e-6), ("float16", 2e-3)):
        stage = replace(config, latents=number_format)  # type: ignore[arg-type]
        run, start = started(pictures, tmp_path / number_format, stage)
        make_latents(run, start)
        # Nothing but latents is read.
        found = losses(replace(placed(run, start), raw_url="/nowhere"), stage)
        for mine, other in zip(found, wanted, strict=True):
            assert mine == pytest.approx(other, rel=tolerance), number_format


def test_decoder_processes_read_the_same_latents(training_run: TrainingRun, tmp_path: Path) -> None:
    run, start = started(training_run, tmp_path)
    make_latents(run, start)
    run = placed(in_file(run, "manifest"), start)
    assert losses(run, replace(STAGE, decoders=2, steps=3)) == losses(run, replace(STAGE, steps=3))


def test_a_step_goes_on_while_a_takedown_rewrites_what_it_reads(
    training_run: TrainingRun, tmp_path: Path
) -> None:
    run, start = started(training_run, tmp_path)
    make_latents(run, start)
    data = training_data(placed(run, start), STAGE)
    before = [data.take(place) for place in range(len(data))]
    victim = before[3].sample_id
    remove(run.storage(), {victim})
    for place, sample in enumerate(before):
        if sample.sample_id == victim:
            with pytest.raises(PictureError, match="no_latents"):
                data.take(place)
            continue
        again = data.take(place)
        assert again.latents is not None and sample.latents is not None
        assert torch.equal(torch.tensor(again.latents.clean), torch.tensor(sample.latents.clean))


def test_rows_without_latents_are_substituted_up_to_a_share_and_named(
    training_run: TrainingRun, tmp_path: Path
) -> None:
    said: list[str] = []
    run, start = started(replace(training_run, progress=said.append), tmp_path)
    manifest = run.manifest
    assert manifest is not None
    broken = manifest.filter(pl.col("kind") == "t2i").row(0, named=True)
    raw = tmp_path / "raw"
    for path in manifest.filter(pl.col("kind") == "t2i")["target_path"]:
        (raw / path).parent.mkdir(parents=True, exist_ok=True)
        (raw / path).write_bytes((Path(run.raw_url) / path).read_bytes())
    (raw / broken["target_path"]).write_bytes(b"no picture")
    run = replace(run, raw_url=str(raw))
    made = make_latents(run, start)
    (found,) = made["latents"].values()
    assert (found["listed"], found["samples"]) == (1, manifest.height - 1)
    data = training_data(placed(run, start), STAGE)
    with pytest.raises(PictureError, match=re.escape(broken["target_path"])):
        data.take(manifest["sample_id"].to_list().index(broken["sample_id"]))
    assert any("1 of" in line and "are substituted" in line for line in said)
    gone = manifest["sample_id"].to_list()[5:9]
    remove(run.storage(), gone)
    with pytest.raises(LatentsMissingError, match=r"4 of \d+ samples have no latents.*materialize latent_sh"):
        placed(run, start)
    lenient = replace(STAGE, max_substituted=0.2)
    run = replace(run, recipe=replace(run.recipe, stages=(finetuning(lenient),)))
    trained = trainer_of(placed(run, start), lenient)
    trained.run(6, lambda step, values: None)
    assert {one["sample_id"] for one in trained.data.faults.listed} <= {*gone, broken["sample_id"]}
    strict = replace(lenient, max_substituted=0.0)
    with pytest.raises(TooManySubstitutesError):
        trainer_of(placed(run, start), strict).run(60, lambda step, values: None)


def test_rows_that_changed_since_are_not_trained_on(training_run: TrainingRun, tmp_path: Path) -> None:
    run, start = started(training_run, tmp_path)
    make_latents(run, start)
    manifest = run.manifest
    assert manifest is not None
    changed = manifest.with_columns(chain=pl.lit("a thing (1,2),(300,400)"))
    run = replace(run, manifest=changed, manifest_hash=content_hash(changed))
    with pytest.raises(PictureError, match="another picture or chain"):
        training_data(placed(run, start), STAGE).take(0)
    make_latents(run, start)
    assert training_data(placed(run, start), STAGE).take(0).chain.to_data() == "a thing (1,2),(300,400)"


def test_latents_of_another_kind_are_refused_and_what_differs_is_named(
    training_run: TrainingRun, tmp_path: Path
) -> None:
    run, start = started(training_run, tmp_path)
    with pytest.raises(LatentsMissingError, match="none at all are stored"):
        placed(run, start)
    make_latents(run, start)
    placed(run, start)
    other = tiny_pipeline()
    with torch.no_grad():
        other.vae.encoder.bias.add_(0.01)
    other.save_pretrained(tmp_path / "storage" / "models" / "other")
    with pytest.raises(
        LatentsMissingError, match=r"has autoencoder '[0-9a-f]{20}' \(the stage: '[0-9a-f]{20}'\)"
    ):
        placed(run, start | {"folder": "models/other"})
    halved = finetuning(replace(STAGE, latents="float16", geometry="crop", random_crop=False))
    run = replace(run, recipe=replace(run.recipe, stages=(halved,)))
    with pytest.raises(
        LatentsMissingError, match=r"format 'float32'.*geometry 'stretch' \(the stage: 'crop'\)"
    ):
        placed(run, start)


def test_a_copy_of_the_autoencoder_in_more_bits_is_the_same() -> None:
    vae = tiny_pipeline().vae
    narrow = autoencoder_hash(vae.to(torch.bfloat16))
    assert autoencoder_hash(vae.to(torch.float32)) == narrow != autoencoder_hash(tiny_pipeline(seed=1).vae)


def test_random_cuts_cannot_be_read_from_latents() -> None:
    with pytest.raises(ValueError, match=r"hold one cut of each picture.*set random_crop to False"):
        StageConfig(steps=1, latents="float16", geometry="bucket")
    StageConfig(steps=1, latents="float16", geometry="stretch")
    StageConfig(steps=1, latents="float16", geometry="bucket", random_crop=False)
    with pytest.raises(ValueError, match="latents is one of"):
        StageConfig(steps=1, latents="float8")  # type: ignore[arg-type]
    plain, stored = StageConfig(steps=1), StageConfig(steps=1, latents="float16")
    assert plain.identity() != stored.identity(), "it changes what is trained"


def test_what_must_go_by_now_is_not_made(training_run: TrainingRun, tmp_path: Path) -> None:
    manifest = training_run.manifest
    assert manifest is not None
    gone = manifest["image_id"][0]

    class List:
        def version(self, storage: Storage) -> str:
            return "1"

        def items(self, storage: Storage) -> frozenset[str]:
            return frozenset({gone})

    run, start = started(replace(training_run, takedowns=List()), tmp_path)
    made = make_latents(run, start)
    index = read_index(run.storage(), made["stages"]["finetune"])
    assert gone not in index["image_id"].to_list()
    assert index.height == manifest.filter(pl.col("image_id") != gone).height


@pytest.mark.slow
def test_ray_workers_make_the_same_latents(
    training_run: TrainingRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from got_core.train.encoding import making

    here, start = started(training_run, tmp_path / "here")
    made = make_latents(here, start)
    monkeypatch.setattr(making, "IN_PROCESS", 0)
    said: list[str] = []
    there, start = started(replace(training_run, progress=said.append), tmp_path / "there")
    assert make_latents(there, start) == made
    assert any(re.match(r"latents: \d+ of \d+ samples, \d+ of \d+ shards", line) for line in said)
    names = here.storage().list("latent_shards/")
    assert names == there.storage().list("latent_shards/"), "the same bytes, by their names"


def test_nodes_are_not_asked_for_pictures(training_run: TrainingRun, tmp_path: Path) -> None:
    run, start = started(training_run, tmp_path)
    make_latents(run, start)
    assert request_of(run).pictures["t2i"]
    run = placed(run, start)
    assert places_are_of_latents(run) and request_of(run).pictures == {}


@pytest.mark.slow
def test_a_stage_on_ray_needs_no_picture(training_run: TrainingRun, tmp_path: Path) -> None:
    config = replace(STAGE, steps=2, sample_every=0, checkpoint_every=1, held_out=0.2)
    tracked = replace(training_run, tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    run, start = started(tracked, tmp_path, config)
    stage = run.recipe.stages[0]
    with pytest.raises(LatentsMissingError, match="none at all are stored"):
        train_stage(run, stage, start)
    make_latents(run, start)
    model = train_stage(replace(run, raw_url="/nowhere"), stage, start)
    assert model["steps"] == 2 and model["substituted"]["samples"] == 0
    assert model["metrics"]["held_out/loss"] > 0
