"""Training data: memory stays bounded, mixtures mean what they say, cut pictures bring their boxes along."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from got_core.chain.grammar import Chain, Text, parse
from got_core.chain.layout import fill_region
from got_core.corpus.config import IngestConfig
from got_core.model.canvases import to_tensor
from got_core.model.pipeline import GoTPipeline
from got_core.train.config import Geometry, StageConfig
from got_core.train.data.batches import JointBatches
from got_core.train.data.latents import drawing_inputs
from got_core.train.data.pictures import PictureError
from got_core.train.data.samples import TrainingData, TrainingSample, training_data
from got_core.train.layout import StepLayout
from got_core.train.run import TrainingRun
from got_core.train.trainer import Trainer
from tests.got_core.tiny_pipeline import tiny_pipeline

PICTURE = 64 * 64 * 3


def batches(data: TrainingData, size: int = 2, workers: int = 1, **options: object) -> JointBatches:
    pipeline = tiny_pipeline()
    layout = StepLayout(samples=size * workers, workers=workers, largest_batch=size)
    settings = {"layout": layout, "mixture": {"t2i": 0.5, "edit": 0.5}, "seed": 3} | options
    return JointBatches(data, pipeline.sequences, pipeline.vae, **settings)  # type: ignore[arg-type]


def drawn_samples(drawn: JointBatches, step: int) -> list[TrainingSample]:
    """The samples of a step of one pass."""
    (one,) = drawn.layout.passes(step, drawn.rank)
    return drawn.reader.read(drawn.order(one)).samples


def oblong(run: TrainingRun, geometry: Geometry) -> TrainingData:
    """The corpus' square pictures, cut to frames that are not square."""
    config = StageConfig(steps=1, geometry=geometry, bucket_multiple=16)
    data = training_data(run, config)
    data.sizes = [(64, 32)]
    data.bucket[:] = 0
    return data


def test_decoded_pictures_stay_within_their_limit_and_the_least_used_goes_first(
    training_run: TrainingRun,
) -> None:
    data = training_data(training_run)
    few = TrainingData(
        data.manifest,
        training_run.raw_url,
        training_run.edits_url,
        training_run.recipe.ingest,
        64,
        cache_bytes=3 * PICTURE,
    )
    first, second, *others = (int(k) for k in few.of_kind["t2i"])
    kept, gone = few[first].target, few[second].target
    for index in others[:4]:
        few[index]
        assert few[first].target.base is kept.base
        assert few._cache.nbytes <= 3 * PICTURE
    assert few[second].target.base is not gone.base
    np.testing.assert_array_equal(few[second].target, gone)


def test_ranks_decode_their_own_pictures_alone(training_run: TrainingRun) -> None:
    data = training_data(training_run)
    drawn_samples(batches(data, workers=4, rank=1, mixture={"t2i": 1.0}), 0)
    assert data._cache.nbytes == 2 * PICTURE


def test_batches_are_drawn_in_the_shares_of_the_mixture(training_run: TrainingRun) -> None:
    drawn = batches(training_data(training_run), 1, mixture={"t2i": 0.8, "edit": 0.2})
    kinds = [drawn_samples(drawn, k)[0].kind for k in range(600)]
    assert kinds.count("edit") / 600 == pytest.approx(0.2, abs=0.05)


def test_groups_of_sources_and_of_turns(training_run: TrainingRun) -> None:
    several = "1. a circle. 2. the circle (1,1),(9,9), blue 3. the sky (0,0),(999,99), made grey 4. done."
    manifest = training_run.manifest.with_row_index("k").with_columns(
        source=pl.when(pl.col("k") % 2 == 0).then(pl.lit("one")).otherwise(pl.lit("two")),
        chain=pl.when((pl.col("kind") == "edit") & (pl.col("k") % 3 == 0))
        .then(pl.lit(several))
        .otherwise("chain"),
    )
    data = training_data(replace(training_run, manifest=manifest.drop("k")))
    names = ("multi-turn", "single-turn", "edit", "t2i/one")
    turns, single, edits, ones = (rows for _, rows in data.groups(dict.fromkeys(names, 0.25)))
    assert len(turns)
    assert all(manifest["chain"][int(k)] == several for k in turns)
    assert sorted([*turns, *single]) == sorted(edits)
    assert len(ones)
    assert all(manifest["source"][int(k)] == "one" and manifest["kind"][int(k)] == "t2i" for k in ones)
    with pytest.raises(ValueError, match="no t2i row of the manifest has source 'three'"):
        batches(data, mixture={"t2i/three": 1.0})


def test_kinds_that_the_manifest_lacks_leave_their_share_to_the_others(training_run: TrainingRun) -> None:
    pictures = training_run.manifest.filter(pl.col("kind") == "t2i")
    data = training_data(replace(training_run, manifest=pictures))
    assert {drawn_samples(batches(data), k)[0].kind for k in range(8)} == {"t2i"}
    with pytest.raises(ValueError, match=r"no row of the mixture .*'edit'"):
        batches(data, mixture={"edit": 1.0})


ASPECTS = {
    (100, 100): (64, 64),
    (90, 100): (64, 64),
    (160, 100): (80, 48),
    (96, 150): (48, 80),
    (230, 100): (96, 48),
    (60, 130): (48, 96),
}
"""Sizes of pictures and, worked out by hand, of the nearest bucket of 64 x 64 pixels, in steps of 16."""


def test_pictures_of_several_aspects_train_in_batches_of_one_shape(tmp_path: Path) -> None:
    rows = []
    for name, size in enumerate(size for size in ASPECTS for _ in range(2)):
        Image.new("RGB", size, (200, 10 * name, 90)).save(tmp_path / f"{name}.png")
        rows.append(
            {"sample_id": str(name), "kind": "t2i", "prompt": "a wall", "chain": "a wall (0,0),(999,999)",
             "target_path": f"{name}.png", "width": size[0], "height": size[1]}
        )  # fmt: skip
    manifest = pl.DataFrame(rows)
    data = TrainingData(
        manifest, str(tmp_path), None, IngestConfig(), 64, geometry="bucket", bucket_multiple=16
    )
    expected = [ASPECTS[row["width"], row["height"]] for row in rows]
    assert [data.sizes[bucket] for bucket in data.bucket] == expected
    drawn = batches(data, 3, mixture={"t2i": 1.0})
    counts: dict[tuple[int, int], int] = dict.fromkeys(ASPECTS.values(), 0)
    for index in range(240):
        samples = drawn_samples(drawn, index)
        shapes = {(sample.target.shape[1], sample.target.shape[0]) for sample in samples}
        assert shapes == {expected[int(sample.sample_id)] for sample in samples}
        (shape,) = shapes
        counts[shape] += 1
        if index < 12:
            (batch,) = drawn.passes(index)
            assert batch["clean"].shape[-2:] == (shape[1] // 8, shape[0] // 8)
            assert {tuple(row[4:]) for row in batch["time_ids"].tolist()} == {shape[::-1]}
    # A bucket's share of the batches is its share of the pictures.
    for shape, count in counts.items():
        assert count / 240 == pytest.approx(expected.count(shape) / len(rows), abs=0.08)


@pytest.mark.parametrize("geometry", ["crop", "bucket"])
def test_cut_pictures_bring_boxes_latents_and_size_numbers_along(
    training_run: TrainingRun, geometry: Geometry
) -> None:
    data = oblong(training_run, geometry)
    drawn = batches(data, 4, mixture={"t2i": 1.0})
    samples = drawn_samples(drawn, 0)
    (batch,) = drawn.passes(0)
    assert batch["clean"].shape[-2:] == batch["spatial"].shape[-2:] == batch["reference"].shape[-2:] == (4, 8)
    pictures = to_tensor(np.stack([sample.target for sample in samples]))
    torch.testing.assert_close(batch["clean"], drawn.encoder.pictures(pictures))
    tops = batch["time_ids"][:, 2]
    assert len(tops.unique()) > 1
    assert tops.max() <= 32
    for sample, top in zip(samples, tops.tolist(), strict=True):
        assert sample.time_ids == (64, 64, top, 0, 32, 64)
        (whole,) = [row for row in data.rows if row["sample_id"] == sample.sample_id]
        assert len(sample.chain.boxes) <= whole["chain"].count("),(")
        for placed in sample.chain.boxes:
            inside = sample.target[fill_region(placed.box, 32, 64)].reshape(-1, 3).astype(int)
            # What a box shows is not the plain background of the picture's corner.
            assert np.abs(inside - sample.target[0, 0].astype(int)).max() > 10


def test_buckets_follow_from_the_manifest_and_open_no_file(training_run: TrainingRun, tmp_path: Path) -> None:
    config = StageConfig(steps=1, geometry="bucket", bucket_multiple=16)
    wide = pl.col("sample_id") == training_run.manifest["sample_id"][3]
    shaped = training_run.manifest.with_columns(width=pl.when(wide).then(128).otherwise("width"))
    (tmp_path / "other.txt").touch()  # an empty folder may be a mount that is gone
    away = replace(training_run, raw_url=str(tmp_path), edits_url=str(tmp_path / "pairs.csv"))
    data = training_data(replace(away, manifest=shaped), config)
    sizes = [data.sizes[k] for k in data.bucket]
    assert sizes[3] == (96, 48)
    assert set(sizes[:3] + sizes[4:]) == {(64, 64)}
    assert {row["kind"] for row in data.rows} == {"t2i", "edit"}
    with pytest.raises(PictureError, match="vanished"):
        data[0]


def test_a_row_without_a_size_is_named_where_there_are_buckets(training_run: TrainingRun) -> None:
    config, manifest = StageConfig(steps=1, geometry="bucket", bucket_multiple=16), training_run.manifest
    named = pl.col("sample_id") == manifest["sample_id"][5]
    unknown = manifest.with_columns(height=pl.when(~named).then("height"))
    for frame, row in ((unknown, 5), (manifest.drop("width", "height"), 0)):
        with pytest.raises(
            ValueError, match=rf"^sample {manifest['sample_id'][row]} .*does not say how wide"
        ):
            training_data(replace(training_run, manifest=frame), config)
        assert len(training_data(replace(training_run, manifest=frame))) == len(manifest)


@pytest.mark.parametrize("geometry", ["crop", "bucket"])
def test_edits_are_never_cropped(training_run: TrainingRun, geometry: Geometry) -> None:
    data, autoencoder = oblong(training_run, geometry), tiny_pipeline().vae
    whole = training_data(training_run)
    for index in (int(k) for k in data.of_kind["edit"]):
        sample = data.take(index, 0.5, 0.0)
        assert sample.source is not None
        assert sample.source.shape == sample.target.shape == (32, 64, 3)
        assert sample.chain.to_data() == data.manifest.row(index)["chain"]
        assert sample.time_ids == (32, 64, 0, 0, 32, 64)
        source = whole[index].source
        assert source is not None
        squeezed = Image.fromarray(source).resize((64, 32), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(sample.source, np.asarray(squeezed))
        # What the edit leaves alone is alike in both.
        change = np.abs(sample.source.astype(int) - sample.target).max(axis=2)
        assert np.mean(change < 12) > 0.4
        kept = drawing_inputs(autoencoder, [sample])["kept"].bool()[0, 0]
        assert change[kept.repeat_interleave(8, 0).repeat_interleave(8, 1).numpy()].max(initial=0) < 12


def test_pictures_whose_boxes_no_window_holds_are_stretched(tmp_path: Path) -> None:
    picture = Image.effect_noise((256, 64), 60).convert("RGB")
    picture.save(tmp_path / "wide.png")
    chains = (
        "a wall (0,0),(999,999)",
        "a cat (0,0),(100,999)",
        "a cat (0,0),(100,999) and a dog (900,0),(999,999)",
    )
    manifest = pl.DataFrame(
        {"sample_id": str(k), "kind": "t2i", "prompt": "pets", "chain": chain, "target_path": "wide.png"}
        for k, chain in enumerate(chains)
    )
    data = TrainingData(manifest, str(tmp_path), None, IngestConfig(), 64, geometry="crop")
    free, moved, stretched = (data.take(index, 1.0, 0.5) for index in range(3))
    pixels = np.asarray(picture)
    assert free.time_ids == (64, 256, 0, 192, 64, 64)
    # The cat ends at 25.6; a fifth of it begins at 20.48.
    assert moved.time_ids == (64, 256, 0, 20, 64, 64)
    np.testing.assert_array_equal(moved.target, pixels[:, 20:84])
    assert moved.chain.to_data() == "a cat (0,0),(88,999)"
    assert stretched.time_ids == (64, 256, 0, 0, 64, 64)
    assert stretched.chain.to_data() == chains[2]
    squeezed = picture.resize((64, 64), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(stretched.target, np.asarray(squeezed))
    again = data.take(1, 1.0, 0.5)
    assert (again.time_ids, again.chain) == (moved.time_ids, moved.chain)


@pytest.mark.parametrize("geometry", ["crop", "bucket"])
@pytest.mark.parametrize("place", [0.0, 0.4, 1.0])
def test_every_phrase_of_a_cropped_picture_keeps_its_box(
    training_run: TrainingRun, geometry: Geometry, place: float
) -> None:
    data = oblong(training_run, geometry)
    for index in (int(k) for k in data.of_kind["t2i"]):
        sample, whole = data.take(index, place, place), parse(data.manifest.row(index)["chain"])
        assert [one.phrase for one in sample.chain.boxes] == [one.phrase for one in whole.boxes]
        assert [part for part in sample.chain.parts if isinstance(part, Text)] == [
            part for part in whole.parts if isinstance(part, Text)
        ]


def test_an_edit_is_drawn_from_what_it_was_trained_on(tmp_path: Path) -> None:
    """Tensors of one edit, from its files in training and from its picture where it is drawn, to the bit."""
    source = Image.effect_noise((230, 170), 60).convert("RGB")
    for name in ("source", "target"):
        source.save(tmp_path / f"{name}.png")
    instruction, chain = "make it blue", "1. a cat (100,200),(300,400) 2. the cat, made blue. 3. done."
    row = {"sample_id": "1", "kind": "edit", "prompt": instruction, "chain": chain, "width": 230,
           "height": 170, "target_path": "target.png", "source_path": "source.png"}  # fmt: skip
    frames: dict[Geometry, tuple[int, int]] = {"bucket": (48, 80), "crop": (64, 64), "stretch": (64, 64)}
    for geometry, frame in frames.items():
        config = StageConfig(
            steps=1, geometry=geometry, bucket_multiple=16, mixture={"edit": 1.0}, bf16=False
        )
        data = TrainingData(
            pl.DataFrame([row]), str(tmp_path), str(tmp_path / "pairs.csv"), IngestConfig(), 64,
            geometry=config.geometry, bucket_multiple=config.bucket_multiple,
        )  # fmt: skip
        trainer = Trainer(tiny_pipeline(), data, config)
        trained = trainer.batches.passes(0)[0]
        seen = _drawn_from(trainer.pipeline, parse(chain), instruction, source)
        assert seen["sizes"].tolist() == trained["time_ids"].tolist() == [[*frame, 0, 0, *frame]]
        assert torch.equal(seen["reference"], trained["reference"])
        assert torch.equal(seen["spatial"], trained["spatial"])
        # Training goes on with the two tokens after the image, and is padded on the left.
        assert torch.equal(
            seen["input_ids"], trained["input_ids"][trained["attention_mask"].bool()][None, :-2]
        )
        assert torch.equal(seen["pixel_values"], trained["pixel_values"])
        assert torch.equal(seen["planned"], trained["pixel_values"])
        assert seen["size"].tolist() == [round(230 * min(frame) / 170), min(frame)]


def _drawn_from(pipeline: GoTPipeline, chain: Chain, instruction: str, source: Image.Image) -> dict:
    """What planner and U-Net are given while a pipeline plans and draws an edit, and the picture's size."""
    seen: dict[str, torch.Tensor] = {}

    def keep(pipe: GoTPipeline, index: int, t: torch.Tensor, tensors: dict[str, torch.Tensor]) -> None:
        seen.update(tensors)

    hooks = [
        pipeline.unet.register_forward_pre_hook(
            lambda part, given, named: seen.update(sizes=named["added_cond_kwargs"]["time_ids"][:1]),
            with_kwargs=True,
        ),
        pipeline.planner.network.model.register_forward_pre_hook(
            lambda part, given, named: seen.update(input_ids=named["input_ids"]), with_kwargs=True
        ),
        pipeline.planner.network.model.visual.register_forward_pre_hook(
            lambda part, given, named: seen.update(pixel_values=given[0]), with_kwargs=True
        ),
    ]
    pipeline.write_chains(instruction, source, max_new_tokens=1)
    seen["planned"] = seen.pop("pixel_values")
    (image,) = pipeline.draw(
        chain, instruction, source, num_inference_steps=1, callback_on_step_end=keep,
        callback_on_step_end_tensor_inputs=["spatial", "reference"],
    )  # fmt: skip
    for hook in hooks:
        hook.remove()
    return seen | {"size": torch.tensor(image.size)}


def test_cuts_follow_from_the_seed_and_may_be_in_the_middle(training_run: TrainingRun) -> None:
    data = oblong(training_run, "crop")
    cuts = [
        [
            sample.time_ids[2]
            for sample in drawn_samples(batches(data, mixture={"t2i": 1.0}, random_crop=random), k)
        ]
        for random in (True, False, True)
        for k in range(9)
    ]
    assert cuts[:9] == cuts[18:]
    # In the middle, but where a box would be cut away.
    assert {16} < {top for middle in cuts[9:18] for top in middle} <= {14, 15, 16}


def test_a_missing_file_and_a_takedown_change_their_own_samples_and_no_other(
    training_run: TrainingRun, tmp_path: Path
) -> None:
    shutil.copytree(training_run.raw_url, tmp_path / "raw")
    run = replace(training_run, raw_url=str(tmp_path / "raw"))
    config = StageConfig(steps=8, picture_retries=0)

    def drawn(data: TrainingData, workers: int = 1) -> list[list[str]]:
        """Sample ids of each step, whoever takes them."""
        layout = StepLayout(samples=8, workers=workers, largest_batch=8)
        ranks = [batches(data, layout=layout, mixture={"t2i": 1.0}, rank=rank) for rank in range(workers)]
        return [
            [
                sample.sample_id
                for rank in ranks
                for one in layout.passes(step, rank.rank)
                for sample in rank.reader.read(rank.order(one)).samples
            ]
            for step in range(8)
        ]

    before = drawn(training_data(run, config))
    missing, taken_down = before[0][3], before[4][5]
    path = run.manifest.filter(sample_id=missing)["target_path"][0]
    (tmp_path / "raw" / path).unlink()

    def disturbed() -> TrainingData:
        data = training_data(run, config)
        data.taken_down_from[[*data.manifest.found(["sample_id"], [taken_down])]] = 4
        return data

    after = drawn(disturbed())
    assert after == drawn(disturbed()) == drawn(disturbed(), workers=2)
    changed = {(step, k) for step in range(8) for k in range(8) if after[step][k] != before[step][k]}
    expected = {
        (step, k)
        for step in range(8)
        for k in range(8)
        if before[step][k] == missing or (step >= 4 and before[step][k] == taken_down)
    }
    assert changed == expected and (0, 3) in changed and (4, 5) in changed
    assert not any(missing in step for step in after)
    assert not any(taken_down in step for step in after[4:])
