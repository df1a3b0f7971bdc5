"""The manifest of a stage as a mapped file: the same rows and numbers as the frame's, and what is refused."""

from __future__ import annotations

import itertools
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from ray import cloudpickle

from got_core.model.buckets import bucket_sizes, nearest_bucket
from got_core.recipes import tiny
from got_core.storage import Storage
from got_core.train.config import KINDS, StageConfig
from got_core.train.data.batches import JointBatches
from got_core.train.data.columns import COLUMNS, NONE, held_out_place, nearest_buckets
from got_core.train.data.manifest import MemoryManifest, TrainingManifest
from got_core.train.data.manifest_file import (
    NOTE,
    NUMBERS,
    ROWS,
    ManifestFileError,
    MappedManifest,
    in_file,
    manifest_of,
    stored_hash,
    stored_manifests,
    write_manifest,
)
from got_core.train.data.samples import TrainingData, training_data
from got_core.train.mixture import TURNS, counted, sources_of
from got_core.train.run import TrainingRun
from got_core.train.trainer import Trainer
from got_core.train.unfinished import begin_or_go_on
from tests.got_core.tiny_pipeline import tiny_pipeline

SEVERAL = "1. a circle. 2. the circle (1,1),(9,9), blue 3. the sky (0,0),(999,99), made grey 4. done."
NAMED = "make the circle blue, then the sky grey"
GROUPS = (
    "t2i", "edit", "single-turn", "multi-turn", "reasoning",
    "t2i/a", "edit/b", "single-turn/b", "multi-turn/b", "reasoning/b",
)  # fmt: skip
FRAME = pl.DataFrame(
    {
        "sample_id": [f"s-{k:03d}" for k in range(30)],
        "kind": ["t2i", "edit", "edit"] * 10,
        "chain": [SEVERAL if k % 5 < 2 else "a cat (0,0),(9,9)" for k in range(30)],
        "prompt": [(NAMED, "grün", "", "grün", "grün")[k % 5] for k in range(30)],
        "instructions": [["one", "two"][: k % 3] or None for k in range(30)],
        "target_path": ["t.png"] * 30,
        "width": pl.Series([None if k == 7 else 100 + k for k in range(30)], dtype=pl.Int32),
        "height": pl.Series([100] * 30, dtype=pl.Int32),
        "image_id": [f"i-{k // 2}" for k in range(30)],
        "source": [(None, "a", "b", "a")[k % 4] for k in range(30)],
    }
)


@pytest.fixture(params=["mapped", "memory"])
def manifest(request: pytest.FixtureRequest, tmp_path: Path) -> TrainingManifest:
    return mapped(tmp_path) if request.param == "mapped" else MemoryManifest(FRAME, batch_rows=8)


def mapped(folder: Path, frame: pl.DataFrame = FRAME) -> MappedManifest:
    storage = Storage(str(folder))
    write_manifest(storage, "manifest", frame, "hash", batch_rows=8)
    return MappedManifest(storage.download("manifest"), "hash")


def test_rows_are_those_of_the_frame(manifest: TrainingManifest) -> None:
    assert [batch.num_rows for batch in manifest.batches] == [8, 8, 8, 6]
    assert len(manifest) == 30
    assert [manifest.row(k) for k in range(30)] == FRAME.to_dicts() == [*manifest.rows()]
    assert [manifest.sample_id(k) for k in range(30)] == FRAME["sample_id"].to_list()
    assert manifest.kind(int(np.int32(29))) == "edit"
    for wrong in (-1, 30):
        with pytest.raises(IndexError, match=f"has 30 rows, and none at {wrong}"):
            manifest.row(wrong)
    again = pickle.loads(pickle.dumps(manifest))
    assert again.row(17) == FRAME.row(17, named=True)


def test_a_mapped_manifest_travels_by_name(tmp_path: Path) -> None:
    assert len(pickle.dumps(mapped(tmp_path))) < 1000


def test_numbers_follow_from_the_rows(manifest: TrainingManifest) -> None:
    columns = {name: manifest.column(name) for name in COLUMNS}
    assert {name: column.dtype.type for name, column in columns.items()} == COLUMNS
    assert not any(column.flags.writeable for column in columns.values())
    assert [KINDS[k] for k in columns["kind"]] == FRAME["kind"].to_list()
    texts = zip(FRAME["kind"], FRAME["chain"], FRAME["prompt"], strict=True)
    multi = {NAMED: "multi", "grün": "multi-reasoning"}
    wanted = [
        (multi[prompt] if chain == SEVERAL else "single") if kind == "edit" else None
        for kind, chain, prompt in texts
    ]
    assert {*multi.values(), "single"} <= {*wanted}
    assert [None if k == NONE else TURNS[k] for k in columns["turns"]] == wanted
    names = [None if k == NONE else manifest.sources[k] for k in columns["source"]]
    assert names == FRAME["source"].to_list()
    assert columns["place"].tolist() == [held_out_place(one) for one in FRAME["sample_id"]]
    assert columns["width"].tolist() == FRAME["width"].fill_null(NONE).to_list()


def test_groups_hold_the_rows_that_a_table_of_sources_names(manifest: TrainingManifest) -> None:
    table = [*sources_of(FRAME, GROUPS).iter_rows(named=True)]
    turns = {"t2i": (), "edit": (), "single-turn": ("single",), "reasoning": ("multi-reasoning",)}
    turns["multi-turn"] = ("multi", "multi-reasoning")
    for name in GROUPS:
        kind, _, source = name.partition("/")
        rows = [k for k, row in enumerate(table) if not source or row["source"] == source]
        rows = [k for k in rows if table[k]["kind"] == kind or table[k]["turns"] in turns[kind]]
        assert rows and manifest.of_group(name).tolist() == rows, name
    assert not len(manifest.of_group("t2i/none"))
    for groups in (GROUPS, ("t2i", "edit/b")):
        assert manifest.counted(groups).rows() == counted([sources_of(FRAME, groups)]).rows()
    left_out = np.arange(30) % 3 == 0
    counts = manifest.counted(GROUPS, left_out)
    assert counts.filter(kind="t2i")["rows"].sum() == 0 < counts.filter(kind="t2i").height
    assert counts["rows"].sum() == 20


def test_rows_are_found_by_any_of_their_ids(manifest: TrainingManifest) -> None:
    found = manifest.found(("image_id", "pair_id", "sample_id"), {"i-0", "s-029", "s-001", "none"})
    assert [*found] == [0, 1, 29]
    assert not [*manifest.found(("image_id",), ())]


def test_what_is_not_in_the_frame_is_no_number() -> None:
    few = MemoryManifest(FRAME.select("sample_id", "kind").with_columns(kind=pl.lit("video")))
    for name in ("kind", "turns", "source", "width", "height"):
        assert set(few.column(name).tolist()) == {NONE}, name
    assert few.counted(GROUPS).is_empty()


def test_buckets_are_the_nearest_ones_to_the_last_bit() -> None:
    sides = [*range(1, 40), 512, 640, 767, 768, 1024, 1999, 4000]
    pictures = [*itertools.product(sides, sides)]
    for resolution, multiple in ((512, 64), (64, 16), (1024, 64)):
        sizes = bucket_sizes(resolution, multiple)
        # Pictures just between two sizes, where rounding decides.
        between = [(a[0] * b[0], a[1] * b[1]) for a, b in itertools.pairwise(sizes)]
        width, height = np.array([*pictures, *sizes, *between], np.int32).T
        wanted = [nearest_bucket((int(w), int(h)), sizes) for w, h in zip(width, height, strict=True)]
        assert nearest_buckets(width, height, sizes).tolist() == wanted


# -- what is no such file ---------------------------------------------------------------------------------


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


@pytest.mark.parametrize("part", [ROWS, NUMBERS, NOTE])
def test_a_file_that_is_cut_off_or_gone_is_one_clear_error(tmp_path: Path, part: str) -> None:
    folder = mapped(tmp_path).folder
    for keep in (-3, 100, 0, None):
        mapped(tmp_path)
        if keep is None:
            (folder / part).unlink()
        else:
            cut(folder / part, keep)
        with pytest.raises(ManifestFileError, match=r"is not the manifest .*got train restart") as caught:
            MappedManifest(folder, "hash")
        assert str(folder) in str(caught.value)


def test_another_manifest_or_another_number_of_rows_is_refused(tmp_path: Path) -> None:
    folder = mapped(tmp_path).folder
    with pytest.raises(ManifestFileError, match="content hash: hash, needed: other"):
        MappedManifest(folder, "other")
    storage = Storage(str(folder))
    note = storage.read_json(NOTE)
    for change, found in (
        ({"rows": 29}, "rows of its batches"),
        ({"batch_rows": 4}, "rows of its batches"),
        ({"format": 2}, "format: 2"),
        ({"bytes": {}}, "bytes: "),
        ({"bytes": None}, "bytes: "),
    ):
        storage.write_json(NOTE, note | change)
        with pytest.raises(ManifestFileError, match=found):
            MappedManifest(folder, "hash")
    storage.write_json(NOTE, note)
    assert len(MappedManifest(folder, "hash")) == 30


@pytest.mark.parametrize("part", [ROWS, NUMBERS])
def test_damaged_bytes_end_in_an_error_or_in_rows(tmp_path: Path, part: str) -> None:
    """Whatever byte is another one: nothing else is raised, and the process goes on."""
    folder = mapped(tmp_path).folder
    whole = (folder / part).read_bytes()
    refused = 0
    for place in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        (folder / part).write_bytes(damaged)
        try:
            read = MappedManifest(folder, "hash")
            for k in range(len(read)):
                read.row(k)
            assert len([*read.found(("image_id",), {"i-0"})]) <= 30
        except ManifestFileError:
            refused += 1
    assert refused > 20


def test_starting_reads_no_text(tmp_path: Path) -> None:
    """Text that cannot be read does not keep a worker from starting; its row does."""
    frame = FRAME.with_columns(width=pl.col("width").fill_null(1), chain=pl.lit("unmistakable " * 9))
    folder = mapped(tmp_path, frame).folder
    spoilt = (folder / ROWS).read_bytes().replace(b"unmistakable", b"\xff" * 12).replace(b"s-0", b"\xff" * 3)
    (folder / ROWS).write_bytes(spoilt)
    config = StageConfig(steps=1, mixture={"t2i/a": 0.5, "multi-turn": 0.25, "edit": 0.25})
    data = TrainingData(
        MappedManifest(folder, "hash"), "", "pairs.csv", tiny().ingest, 64, geometry="bucket", held_out=0.1
    )
    assert [len(rows) for _, rows in data.groups(config.mixture | {"multi-turn": 0.0})]
    with pytest.raises(ManifestFileError, match=r"rows\.arrow is not the manifest"):
        data.manifest.row(3)


# -- a run and its file -----------------------------------------------------------------------------------


@pytest.fixture
def run(training_run: TrainingRun, tmp_path: Path) -> TrainingRun:
    return replace(training_run, storage_url=f"file://{tmp_path / 'storage'}")


def test_what_travels_to_workers_is_a_name(run: TrainingRun) -> None:
    start = {"folder": "models/start", "stage": "foundation", "weights_hash": "w"}
    begun = begin_or_go_on(run, run.recipe.stage("finetune"), start)
    name = f"models/finetune/{begun.key}/manifest"
    assert begun.run.manifest is None and begun.run.manifest_file == name
    assert stored_manifests(run.storage()) == {name: run.manifest_hash}
    sent = cloudpickle.dumps(begun.run)
    assert len(sent) < 20_000
    assert not any(text.encode() in sent for text in (*run.manifest["prompt"], *run.manifest["sample_id"]))
    assert [*manifest_of(cloudpickle.loads(sent)).rows()] == run.manifest.to_dicts()
    with pytest.raises(ValueError, match="needs a manifest, or the name of its file"):
        replace(run, manifest=None)


def test_a_file_is_written_once_and_copied_where_there_is_no_frame(run: TrainingRun) -> None:
    storage, filed = run.storage(), in_file(run, "one")
    written = (storage.download("one") / ROWS).stat().st_ino
    assert in_file(run, "one") == filed
    assert (storage.download("one") / ROWS).stat().st_ino == written
    copied = in_file(filed, "two")
    assert stored_hash(storage, "two") == run.manifest_hash
    assert [*manifest_of(copied).rows()] == run.manifest.to_dicts()
    newer = replace(run, manifest=run.manifest.head(3), manifest_hash="newer")
    assert len(manifest_of(in_file(newer, "one"))) == 3, "what is of another manifest is written again"


def test_a_remote_file_is_fetched_into_the_cache(
    run: TrainingRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    filed = in_file(replace(run, storage_url=f"memory://{tmp_path.name}"), "manifest")
    read = manifest_of(filed)
    assert isinstance(read, MappedManifest) and read.folder.is_relative_to(tmp_path / "cache")
    assert [*read.rows()] == run.manifest.to_dicts()
    assert manifest_of(filed).folder == read.folder  # type: ignore[attr-defined]


def test_the_same_samples_are_drawn_from_the_file(run: TrainingRun) -> None:
    config = StageConfig(
        steps=4, batch_size=4, lora_rank=4, held_out=0.2, mixture={"t2i": 0.5, "multi-turn": 0.1, "edit": 0.4}
    )

    def drawn(which: TrainingRun) -> list[str]:
        batches = Trainer(tiny_pipeline(), training_data(which, config), config).batches
        assert isinstance(batches, JointBatches)
        parts = [part for step in range(12) for part in batches.layout.passes(step, 0)]
        return [one.sample_id for part in parts for one in batches.reader.read(batches.order(part)).samples]

    assert drawn(in_file(run, "manifest")) == drawn(run)


def test_the_file_is_arrow_that_others_read(tmp_path: Path) -> None:
    folder = mapped(tmp_path).folder
    assert pl.read_ipc(folder / ROWS).equals(FRAME)
    with pa.memory_map(str(folder / ROWS)) as source:
        before = pa.total_allocated_bytes()
        batch = pa.ipc.open_file(source).get_batch(1)
        assert pa.total_allocated_bytes() - before < 4096, "mapped, not read"
        assert batch.num_rows == 8
        del batch
