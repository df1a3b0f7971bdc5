"""Rows read from tars: the same pictures, each row's faults its own, few requests, takedowns honoured."""

from __future__ import annotations

import hashlib
import pickle
import tarfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from got_core.corpus.decode import ImageError
from got_core.corpus.members import Member
from got_core.corpus.sample_tars import read_index
from got_core.curate.training_shards import remove
from got_core.train.config import StageConfig
from got_core.train.data.manifest import MemoryManifest
from got_core.train.data.manifest_file import manifest_of
from got_core.train.data.pictures import PictureError
from got_core.train.data.samples import TrainingData, training_data
from got_core.train.data.sources.places import TarPlaces, find_places, places_of, with_places
from got_core.train.data.sources.protocol import Pictures
from got_core.train.run import TrainingRun
from tests.got_core.train.tar_runs import nowhere, own_pictures, with_tars
from tests.got_core.train.test_pictures import held

CONFIG = StageConfig(steps=1, picture_retries=0)


@pytest.fixture
def packed(training_run: TrainingRun, tmp_path: Path) -> TrainingRun:
    """All rows in tars, and no raw picture."""
    return nowhere(with_tars(training_run, f"file://{tmp_path / 'storage'}"), tmp_path)


def read(data: TrainingData, rows: Sequence[int]) -> list[Any]:
    return data.source.read(rows)


def pixels(found: Any) -> list[np.ndarray]:
    assert isinstance(found, Pictures), found
    return [np.asarray(one) for one in (found.target, found.source) if one is not None]


def some(data: TrainingData, count: int = 6) -> list[int]:
    """Rows of both kinds."""
    return [int(row) for kind in ("t2i", "edit") for row in data.of_kind[kind][:count]]


def test_tars_and_files_hold_the_same_pictures(training_run: TrainingRun, packed: TrainingRun) -> None:
    files, tars = training_data(training_run, CONFIG), training_data(packed, CONFIG)
    rows = some(files)
    for mine, other in zip(read(tars, rows), read(files, rows), strict=True):
        for one, two in zip(pixels(mine), pixels(other), strict=True):
            np.testing.assert_array_equal(one, two)
    again = pickle.loads(pickle.dumps(tars))
    np.testing.assert_array_equal(again[rows[0]].target, files[rows[0]].target)
    assert len(read(tars, [])) == 0


def test_rows_that_are_in_no_tar_are_read_as_files_and_counted(
    training_run: TrainingRun, tmp_path: Path
) -> None:
    said: list[str] = []
    run = with_tars(training_run, f"file://{tmp_path / 'storage'}", rows=5)
    run = replace(run, progress=said.append)
    placed = with_places(run, "models/stage/places")
    assert run.manifest is not None
    rows, in_tars = run.manifest.height, 5 * run.manifest["shard"].n_unique()
    assert said == [
        f"{rows - in_tars:,} of {rows:,} samples are in no training tar; their pictures are read "
        "from raw files and tars given as input"
    ]
    places = places_of(placed, manifest_of(placed))
    assert places is not None and places.packed == in_tars and len(places) == rows
    assert pickle.loads(pickle.dumps(places)).of(_first(places)) == places.of(_first(places))
    assert len(pickle.dumps(places)) < 1000, "only the name of the file travels"
    assert all(isinstance(one, Pictures) for one in read(training_data(placed, CONFIG), range(rows)))
    away = training_data(nowhere(placed, tmp_path), CONFIG)
    found = read(away, range(rows))
    assert [isinstance(one, Pictures) for one in found] == [places.has(row) for row in range(rows)]
    assert {one.reason for one in found if isinstance(one, PictureError)} == {"vanished"}


def _first(places: TarPlaces) -> int:
    return next(row for row in range(len(places)) if places.has(row))


def test_without_tars_there_are_no_places(training_run: TrainingRun, tmp_path: Path) -> None:
    run = replace(training_run, storage_url=f"file://{tmp_path / 'empty'}")
    assert with_places(run, "models/stage/places").places is None
    assert not run.storage().list()
    assert find_places(run.storage(), manifest_of(run)) is None


def test_a_tar_of_other_pictures_than_the_manifests_is_not_read(
    training_run: TrainingRun, packed: TrainingRun
) -> None:
    assert packed.manifest is not None
    frame = packed.manifest.with_columns(
        image_id=pl.when(pl.col("sample_id") == packed.manifest["sample_id"][0])
        .then(pl.lit("0" * 64))
        .otherwise("image_id"),
        source_id=pl.when(pl.col("kind") == "edit").then(pl.lit("1" * 64)),
    )
    places = find_places(packed.storage(), MemoryManifest(frame))
    assert places is not None
    kinds = frame["kind"].to_list()
    assert [places.has(row) for row in range(len(places))] == [
        kind == "t2i" and row > 0 for row, kind in enumerate(kinds)
    ]
    unknown = find_places(packed.storage(), MemoryManifest(frame.drop("image_id")))
    assert unknown is None


def test_a_tar_that_a_takedown_rewrites_in_mid_run_is_found_again(
    training_run: TrainingRun, packed: TrainingRun, tmp_path: Path
) -> None:
    raw = replace(packed, raw_url=training_run.raw_url, edits_url=training_run.edits_url)
    data, with_raw = training_data(packed, CONFIG), training_data(raw, CONFIG)
    rows = some(data, 8)
    before = [pixels(one) for one in read(data, rows)]
    gone = rows[3]
    taken_down = data.manifest.row(gone)["image_id"]
    assert remove(packed.storage(), [taken_down]).samples
    hit = {row for row in rows if data.manifest.row(row)["image_id"] == taken_down}
    for row, found, kept in zip(rows, read(data, rows), before, strict=True):
        if row in hit:
            assert isinstance(found, PictureError) and found.reason == "vanished"
        else:
            np.testing.assert_array_equal(pixels(found)[0], kept[0])
    # Until the takedown is looked at, it is read from its file, where there is one.
    assert isinstance(read(with_raw, [gone])[0], Pictures)


def test_a_broken_tar_is_the_fault_of_the_rows_that_it_breaks(packed: TrainingRun) -> None:
    data = training_data(packed, CONFIG)
    index = read_index(packed.storage()).filter(kind="t2i").sort("tar", "offset")
    names = {data.sample_id(row): row for row in range(len(data))}
    wrong, cut, fine = (names[index["sample_id"][k]] for k in (0, 2, 1))
    path = Path(packed.storage_url.removeprefix("file://")) / index["tar"][0]
    content = bytearray(path.read_bytes())
    start, end = int(index["offset"][0]), int(index["offset"][0] + index["size"][0])
    content[start:end] = bytes(end - start)
    last = int(index["offset"][2])
    path.write_bytes(content[: last + 100])
    first, second, third = read(data, [wrong, fine, cut])
    assert isinstance(second, Pictures)
    for found in (first, third):
        assert isinstance(found, PictureError) and found.reason == "bad_archive"
        assert str(path.name) in str(found)
    with pytest.raises(ImageError, match="bad_archive"):
        training_data(packed)[wrong]  # without patience, the reader's own error
    path.unlink()
    assert all(isinstance(one, PictureError) for one in read(data, [wrong, fine]))


def test_a_slow_tar_holds_up_its_own_rows_alone(packed: TrainingRun) -> None:
    data = training_data(packed, replace(CONFIG, picture_timeout=1.0))
    index = read_index(packed.storage()).filter(kind="t2i").sort("tar", "offset")
    names = {data.sample_id(row): row for row in range(len(data))}
    slow, quick = index.filter(tar=index["tar"][0]), index.filter(tar=index["tar"][-1])
    rows = [names[one] for one in [*slow["sample_id"][:2], *quick["sample_id"][:2]]]
    with held(Path(packed.storage_url.removeprefix("file://")) / index["tar"][0]):
        found = read(data, rows)
    assert [getattr(one, "reason", None) for one in found] == ["slow", "slow", None, None]
    assert all(isinstance(one, Pictures) for one in read(data, rows))


def test_a_row_of_s3_takes_one_request(
    training_run: TrainingRun, s3_server: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from got_core.s3_filesystem import S3

    run = replace(training_run, storage_options={"endpoint_url": s3_server.url})
    run = with_tars(run, f"s3://{s3_server.bucket}/got")
    files = run.storage()
    files.upload(Path(training_run.raw_url), "raw")
    data = training_data(nowhere(run, tmp_path), CONFIG)
    remote = {"raw_url": f"s3://{s3_server.bucket}/got/raw", "raw_options": run.storage_options}
    raw = training_data(replace(run, storage_url=training_run.storage_url, **remote), CONFIG)
    calls: list[str] = []
    real = S3._call_s3

    async def counted(self: S3, method: str, *args: Any, **kwargs: Any) -> Any:
        calls.append(method)
        return await real(self, method, *args, **kwargs)

    monkeypatch.setattr(S3, "_call_s3", counted)
    rows = some(data, 4)
    assert all(isinstance(one, Pictures) for one in read(data, rows))
    assert Counter(calls) == {"get_object": len(rows)}
    calls.clear()
    pictures = [row for row in rows if data.manifest.kind(row) == "t2i"]
    assert all(isinstance(one, Pictures) for one in read(raw, pictures))
    assert Counter(calls) == {"get_object": len(pictures)}
    path = data.manifest.row(pictures[0])["target_path"]
    files.write_bytes(f"raw/{path}", b"")
    (found,) = read(raw, pictures[:1])
    assert isinstance(found, PictureError) and found.reason == "empty_file"


def test_pictures_of_a_pass_are_read_at_the_same_time_and_a_slow_one_alone_is_lost(
    training_run: TrainingRun, tmp_path: Path
) -> None:
    run = own_pictures(training_run, tmp_path)
    data = training_data(run, replace(CONFIG, picture_timeout=1.0))
    rows = [int(row) for row in data.of_kind["t2i"][:40]]
    with held(Path(run.raw_url) / data.manifest.row(rows[2])["target_path"]):
        found = read(data, rows)
    assert [getattr(one, "reason", None) for one in found] == [None, None, "slow", *[None] * 37]


def as_members(run: TrainingRun, folder: Path) -> TrainingRun:
    """The run with its text-to-image pictures in tars, and none as a file."""
    assert run.manifest is not None
    folder.mkdir()
    raw, paths = Path(run.raw_url), {}
    for number, part in enumerate(run.manifest.filter(kind="t2i").iter_slices(20)):
        with tarfile.open(folder / f"{number}.tar", "w") as tar:
            for name in part["target_path"]:
                tar.add(raw / name, name)
        with tarfile.open(folder / f"{number}.tar") as tar:
            for one in tar:
                image_id = hashlib.sha256((raw / one.name).read_bytes()).hexdigest()
                member = Member(f"{number}.tar", one.name, one.offset_data, one.size, image_id)
                paths[one.name] = member.path
    members = pl.col("target_path").replace(paths)
    frame = run.manifest.with_columns(target_path=pl.when(kind="t2i").then(members).otherwise("target_path"))
    return replace(run, manifest=frame, raw_url=str(folder / "*.tar"))


def test_members_of_input_tars_give_the_pictures_of_the_files(
    training_run: TrainingRun, tmp_path: Path
) -> None:
    inside = as_members(training_run, tmp_path / "tars")
    files, tars = training_data(training_run, CONFIG), training_data(inside, CONFIG)
    rows = [*range(len(files))]
    for mine, other in zip(read(pickle.loads(pickle.dumps(tars)), rows), read(files, rows), strict=True):
        np.testing.assert_array_equal(pixels(mine)[0], pixels(other)[0])
    assert find_places(inside.storage(), manifest_of(inside)) is None


def test_a_changed_input_tar_is_the_fault_of_its_rows_by_name(
    training_run: TrainingRun, tmp_path: Path
) -> None:
    inside = as_members(training_run, tmp_path / "tars")
    data = training_data(inside, CONFIG)
    rows = [int(row) for row in data.of_kind["t2i"]]
    member = Member.of(data.manifest.row(rows[0])["target_path"])
    assert member is not None
    with (tmp_path / "tars" / member.archive).open("r+b") as file:
        file.seek(member.offset + 100)
        file.write(b"other")
    bad, *others = read(data, rows)
    assert isinstance(bad, PictureError) and (bad.path, bad.reason) == (member.origin, "changed")
    assert all(isinstance(one, Pictures) for one in others)
