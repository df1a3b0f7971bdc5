"""Latents of shards: what is stored, stopped and gone on with, made again, and taken down."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.numpy import load_file

from got_core.chain.grammar import parse
from got_core.corpus.schemas import check_schema
from got_core.curate.config import CurateConfig
from got_core.curate.takedown import add_takedowns, take_down
from got_core.storage import Storage
from got_core.train.config import StageConfig
from got_core.train.data.latents import drawing_inputs
from got_core.train.data.pictures import PictureError
from got_core.train.data.samples import TrainingData, training_data
from got_core.train.encoding import shards
from got_core.train.encoding.autoencoder import autoencoder_hash
from got_core.train.encoding.shards import LatentsUnfinishedError, shown, write_shard
from got_core.train.latents.blocks import LatentOverflowError
from got_core.train.latents.key import LatentKey, latent_key, write_key
from got_core.train.latents.parts import (
    FOLDER,
    LATENT_INDEX,
    indexes,
    read_index,
    read_latents,
    remove,
)
from got_core.train.run import TrainingRun
from tests.got_core.tiny_pipeline import TINY, tiny_pipeline

CONFIG = StageConfig(steps=1, latents="float16")
SHARD = "images-00000"


def key_of(vae: torch.nn.Module, **changes: Any) -> LatentKey:
    return latent_key(TINY, replace(CONFIG, **changes), autoencoder_hash(vae))


def rows_of(run: TrainingRun, count: int = 6) -> pl.DataFrame:
    """As many of each kind."""
    return pl.concat([run.manifest.filter(pl.col("kind") == kind).head(count) for kind in ("t2i", "edit")])


def data_of(run: TrainingRun, rows: pl.DataFrame, config: StageConfig = CONFIG) -> TrainingData:
    return training_data(replace(run, manifest=rows), replace(config, latents=None, picture_retries=0))


@pytest.fixture(scope="module")
def vae() -> torch.nn.Module:
    return tiny_pipeline().vae


def files(storage: Storage) -> dict[str, bytes]:
    names = [name for name in storage.list(f"{FOLDER}/") if name.endswith(".safetensors")]
    return {name: storage.read_bytes(name) for name in names}


@pytest.mark.parametrize("scheme", ["file", "memory"])
@pytest.mark.parametrize("number_format", ["float16", "float32"])
def test_what_is_stored_is_what_a_step_would_encode(
    training_run: TrainingRun, vae: torch.nn.Module, tmp_path: Path, number_format: Any, scheme: str
) -> None:
    storage = Storage(f"{scheme}://{tmp_path}/{number_format}")
    key, rows = key_of(vae, latents=number_format), rows_of(training_run)
    data = data_of(training_run, rows)
    made = write_shard(storage, key, SHARD, data, vae, samples_per_part=5)
    assert (made.samples, made.new, made.listed, made.unavailable) == (12, 12, 0, ())
    index = check_schema(read_index(storage, key.folder), LATENT_INDEX, "index")
    assert sorted(index["sample_id"]) == sorted(rows["sample_id"]) and len(files(storage)) == 3
    assert made.bytes == index["size"].sum()
    tolerance = {"float16": 2**-11, "float32": 1e-6}[number_format]
    places = {data.sample_id(place): place for place in range(len(data))}
    for row in reversed(index.to_dicts()):
        found, sample = read_latents(storage, row), data.take(places[row["sample_id"]])
        wanted = drawing_inputs(vae, [sample])
        names = ("clean", "spatial") if sample.source is None else ("clean", "spatial", "reference")
        for name in names:
            stored = torch.tensor(np.asarray(getattr(found, name), dtype=np.float32))
            torch.testing.assert_close(stored, wanted[name][0], rtol=tolerance, atol=1e-5)
        assert parse(found.chain).boxes == sample.chain.boxes and found.chain == sample.chain.to_model()
        assert (found.time_ids, found.size) == (sample.time_ids, sample.target.shape[:2])
        if sample.source is None:
            assert found.reference is None and found.source is None
        else:
            assert found.source is not None
            np.testing.assert_array_equal(found.source, shown(sample.source, TINY.language_model.image_size))


def test_any_reader_of_safetensors_opens_a_part(
    training_run: TrainingRun, vae: torch.nn.Module, storage: Storage, tmp_path: Path
) -> None:
    key = key_of(vae)
    write_shard(storage, key, SHARD, data_of(training_run, rows_of(training_run, 2)), vae)
    ((name, data),) = files(storage).items()
    (tmp_path / "part.safetensors").write_bytes(data)
    tensors = load_file(tmp_path / "part.safetensors")
    index = read_index(storage, key.folder)
    assert {one.rpartition(".")[0] for one in tensors} == set(index["sample_id"])
    assert index["file"].unique().to_list() == [name]
    assert all(offset % 8 == 0 for offset in index["offset"])
    edit = index.filter(pl.col("kind") == "edit").row(0, named=True)
    found = read_latents(storage, edit)
    for part in ("clean", "reference", "spatial"):
        stored = tensors[f"{edit['sample_id']}.{part}"]
        assert stored.dtype == np.float16
        np.testing.assert_array_equal(stored, getattr(found, part))


def test_cuts_are_from_the_middle_and_in_the_shape_of_the_bucket(
    training_run: TrainingRun, vae: torch.nn.Module, storage: Storage
) -> None:
    changes: dict[str, Any] = {"geometry": "bucket", "bucket_multiple": 16, "random_crop": False}
    key, rows = key_of(vae, **changes), rows_of(training_run, 3).with_columns(width=100, height=60)
    data = data_of(training_run, rows, replace(CONFIG, **changes))
    write_shard(storage, key, SHARD, data, vae)
    assert set(read_index(storage, key.folder).select("width", "height").iter_rows()) == {(80, 48)}
    for row in read_index(storage, key.folder).to_dicts():
        assert read_latents(storage, row).clean.shape[1:] == (6, 10)


def test_a_stopped_writing_goes_on_and_leaves_nothing_half_written(
    training_run: TrainingRun, vae: torch.nn.Module, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, rows = key_of(vae), rows_of(training_run)
    encoded, real = [], shards.drawing_inputs

    def stops(*given: Any) -> Any:
        if len(encoded) == 2:
            raise KeyboardInterrupt
        encoded.append(len(given[1]))
        return real(*given)

    monkeypatch.setattr(shards, "drawing_inputs", stops)
    with pytest.raises(KeyboardInterrupt):
        write_shard(storage, key, SHARD, data_of(training_run, rows), vae, samples_per_part=4)
    first = files(storage)
    assert len(first) == 1, "the part that was whole"
    folder = Path(storage.url.removeprefix("file://")) / key.folder / SHARD
    (folder / ".latents-x.partial").write_bytes(b"of a writer that was killed")
    (folder / "00007-0123456789abcdef.safetensors").write_bytes(b"written, and its index not")
    monkeypatch.setattr(shards, "drawing_inputs", real)
    made = write_shard(storage, key, SHARD, data_of(training_run, rows), vae, samples_per_part=4)
    assert (made.samples, made.new) == (12, 8)
    assert first.items() <= files(storage).items() and len(files(storage)) == 3
    assert {path.suffix for path in folder.iterdir()} == {".parquet", ".safetensors"}
    again = write_shard(storage, key, SHARD, data_of(training_run, rows), vae, samples_per_part=4)
    assert (again.samples, again.new) == (12, 0)


def test_changed_rows_alone_are_made_again_and_new_ones_make_new_parts(
    training_run: TrainingRun, vae: torch.nn.Module, storage: Storage
) -> None:
    key, rows = key_of(vae), rows_of(training_run)
    write_shard(storage, key, SHARD, data_of(training_run, rows.head(8)), vae, samples_per_part=4)
    before = {row["sample_id"]: row for row in read_index(storage, key.folder).to_dicts()}
    changed = sorted(rows.head(8)["sample_id"])[0]
    corrected = rows.with_columns(
        chain=pl.when(pl.col("sample_id") == changed)
        .then(pl.lit("a thing (1,2),(300,400)"))
        .otherwise("chain")
    )
    made = write_shard(storage, key, SHARD, data_of(training_run, corrected), vae, samples_per_part=4)
    assert (made.samples, made.new) == (12, 5), "one changed, four new"
    after = {row["sample_id"]: row for row in read_index(storage, key.folder).to_dicts()}
    assert read_latents(storage, after[changed]).chain.startswith("a thing")
    kept = [one for one in before if after[one]["file"] == before[one]["file"]]
    assert len(kept) == 4, "the other part was left alone"
    fewer = write_shard(storage, key, SHARD, data_of(training_run, rows.tail(2)), vae)
    assert fewer.samples == 12, "rows stay for a training that goes on with an older manifest"


def test_pictures_that_cannot_be_read_are_listed_and_those_that_may_come_back_are_not(
    training_run: TrainingRun, vae: torch.nn.Module, storage: Storage, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    raw = tmp_path / "raw"
    shutil.copytree(training_run.raw_url, raw)
    run, rows = replace(training_run, raw_url=str(raw)), rows_of(training_run)
    broken, away = rows["target_path"][0], rows["target_path"][1]
    (raw / broken).write_bytes(b"no picture")
    data, key = data_of(run, rows), key_of(vae)
    real = data.take

    def take(place: int) -> Any:
        if data.manifest.row(place)["target_path"] == away:
            raise PictureError(away, "unavailable", "the store is down")
        return real(place)

    monkeypatch.setattr(data, "take", take)
    made = write_shard(storage, key, SHARD, data, vae)
    assert (made.samples, made.listed) == (10, 1) and away in made.unavailable[0]
    index = read_index(storage, key.folder)
    (listed,) = index.filter(pl.col("file").is_null()).to_dicts()
    assert broken in listed["error"] and listed["reason"] and listed["sample_id"] == rows["sample_id"][0]
    with pytest.raises(ValueError, match="has no latents"):
        read_latents(storage, listed)
    assert rows["sample_id"][1] not in index["sample_id"].to_list(), "no verdict on it"
    made = write_shard(storage, key, SHARD, data_of(run, rows), vae)
    assert (made.samples, made.new, made.listed, made.unavailable) == (11, 1, 1, ())


def test_a_store_that_is_away_ends_the_writing_with_one_error(
    training_run: TrainingRun,
    vae: torch.nn.Module,
    storage: Storage,
    s3_server: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shards, "MOST_UNAVAILABLE", 3)
    options = {"endpoint_url": s3_server.url, "config_kwargs": {"retries": {"max_attempts": 1}}}
    run = replace(training_run, raw_url=f"s3://{s3_server.bucket}/raw", raw_options=options)
    data = data_of(run, rows_of(training_run))
    s3_server.stop()
    with pytest.raises(LatentsUnfinishedError, match=r"4 pictures cannot be had for now.*could not be used"):
        write_shard(storage, key_of(vae), SHARD, data, vae)
    assert not files(storage)


def test_numbers_that_a_format_cannot_hold_are_an_error(
    training_run: TrainingRun, vae: torch.nn.Module, storage: Storage
) -> None:
    loud = tiny_pipeline().vae
    with torch.no_grad():
        loud.encoder.weight.mul_(1e7)
    rows = rows_of(training_run, 1)
    with pytest.raises(LatentOverflowError, match="are not finite as float16: set the stage's latents"):
        write_shard(storage, key_of(loud), SHARD, data_of(training_run, rows), loud)
    key = key_of(loud, latents="float32")
    assert write_shard(storage, key, SHARD, data_of(training_run, rows), loud).samples == 2


def test_half_precision_is_closer_than_bfloat16(training_run: TrainingRun, vae: torch.nn.Module) -> None:
    data = data_of(training_run, rows_of(training_run))
    clean = torch.cat([drawing_inputs(vae, [data.take(k)])["clean"] for k in range(12)])
    errors = {
        kind: (clean.to(kind).float() - clean).std() / clean.std() for kind in (torch.half, torch.bfloat16)
    }
    assert errors[torch.half] < 3e-4 < 1e-3 < errors[torch.bfloat16] < 3e-3


def test_a_takedown_removes_latents_of_every_key(
    training_run: TrainingRun, vae: torch.nn.Module, storage: Storage
) -> None:
    rows = rows_of(training_run)
    keys = [key_of(vae), key_of(vae, latents="float32")]
    for key in keys:
        write_key(storage, key)
        write_shard(storage, key, SHARD, data_of(training_run, rows), vae, samples_per_part=4)
    before = {row["sample_id"]: row for row in read_index(storage, keys[0].folder).to_dicts()}
    gone, pair = rows.row(0, named=True), rows.row(-1, named=True)
    add_takedowns(storage, [gone["image_id"], pair["source_id"]])
    removed = take_down(storage, CurateConfig()).removed
    assert removed[f"{FOLDER}/{SHARD}"] == 4, "two samples of two keys"
    for key in keys:
        index = read_index(storage, key.folder)
        assert not {gone["sample_id"], pair["sample_id"]} & set(index["sample_id"]) and index.height == 10
        for row in index.to_dicts():
            read_latents(storage, row)
    everything = b"".join(files(storage).values())
    assert gone["sample_id"].encode() not in everything and pair["sample_id"].encode() not in everything
    after = {row["sample_id"]: row for row in read_index(storage, keys[0].folder).to_dicts()}
    untouched = [one for one, row in after.items() if row["file"] == before[one]["file"]]
    assert len(untouched) == 4, "a part that held none of them was left alone"
    assert not take_down(storage, CurateConfig()).removed


def test_a_removal_that_was_stopped_is_finished_and_a_lost_file_stops_none(
    training_run: TrainingRun, vae: torch.nn.Module, storage: Storage
) -> None:
    key, rows = key_of(vae), rows_of(training_run)
    write_shard(storage, key, SHARD, data_of(training_run, rows), vae, samples_per_part=4)
    first, second, third = indexes(storage, key.folder)
    index = storage.read_table(first)
    victim = index["sample_id"][0]
    storage.write_table(first, index.filter(pl.col("sample_id") != victim))
    (lost,) = storage.read_table(third)["file"].unique()
    storage.delete(lost)
    assert remove(storage, {"nothing"}).rewritten == [first, third]
    assert victim.encode() not in b"".join(files(storage).values())
    assert storage.read_table(third).height == 0 and storage.read_table(second).height == 4
    made = write_shard(storage, key, SHARD, data_of(training_run, rows), vae, samples_per_part=4)
    assert (made.samples, made.new) == (12, 5)
