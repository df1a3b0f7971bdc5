"""The data part of the graph with raw files, pair table and storage in buckets, against a real S3 server."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
import s3fs
from moto.server import ThreadedMotoServer

from got_core.corpus.sample_tars import read_index, read_sample
from got_core.storage import Storage

from .conftest import Graph

UNPARTITIONED = ("training_manifest", "data_statistics", "review_verdicts")
ABOUT_A_ROW = ("image_id", "pair_id", "chain_id", "item_id")
NOT_DERIVED = ("shards/", "manifests/", "takedown/", "reviews/", "review_verdicts", "taken_down")
"""Lists, archives of ids, and what people said."""


@pytest.fixture
def endpoint(s3_server: ThreadedMotoServer) -> str:
    """Address of an S3 server of the test's own."""
    return s3_server.url


@pytest.fixture
def raw(load: Callable[..., Graph], tmp_path: Path) -> Path:
    """A folder of rendered pictures, a bad file, and a pair table that states licences."""
    load(home=str(tmp_path / "rendering")).render()
    folder = tmp_path / "rendering" / "raw"
    (folder / "images" / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    pairs = pl.read_csv(folder / "edits" / "pairs.csv")
    licences = pl.Series([("CC0", "CC-BY")[row % 2] for row in range(pairs.height)])
    pairs.with_columns(licence=licences, source_name=pl.lit("drawn")).write_csv(
        folder / "edits" / "pairs.csv"
    )
    return folder


def own(graph: Graph) -> Graph:
    """The graph with a history of its own."""
    return replace(graph, instance=dg.DagsterInstance.ephemeral())


def content(storage: Storage) -> dict[str, bytes | str]:
    """Every stored thing by name: tables and tars by content; without times and tags of files."""
    found: dict[str, bytes | str] = {}
    for name in storage.list():
        if name.startswith(("leases/", "listed/")) or name.endswith("/tables.md"):
            continue  # who worked on what; an index under names of its own; pages with durations
        if name.endswith(".parquet"):
            frame = storage.read_table(name.removesuffix(".parquet"))
            kept = frame.drop("modified", "added", "etag", strict=False)
            found[name] = repr([kept.schema, kept.rows()])
        else:
            found[name] = storage.read_bytes(name)
    return found


def make_all(graph: Graph) -> None:
    graph.make_data()
    assert not any(outcome.error or outcome.blocked for outcome in graph.outcomes.values()), graph.outcomes
    graph.make(*UNPARTITIONED)


@pytest.mark.slow
def test_everything_in_buckets_gives_what_files_give(
    load: Callable[..., Graph], endpoint: str, raw: Path, tmp_path: Path
) -> None:
    (raw / "inputs.toml").write_text('[web]\nraw = "images"\nlicence = "CC-BY-SA"\n')
    local = own(
        load(
            raw=str(raw / "inputs.toml"), edits=str(raw / "edits" / "pairs.csv"), annotator="scenes",
            storage=f"file://{tmp_path / 'local'}",
        )
    )  # fmt: skip
    make_all(local)

    fs = s3fs.S3FileSystem(endpoint_url=endpoint)
    fs.mkdir("lake")
    fs.put(str(raw / "images"), "lake/raw/images", recursive=True)
    fs.put(str(raw / "edits"), "lake/raw/edits", recursive=True)
    fs.put_file(str(raw.parent / "truth" / "scenes.parquet"), "lake/raw/truth.parquet")
    fs.pipe_file("lake/raw/inputs.toml", b'[web]\nraw = "s3://lake/raw/images"\nlicence = "CC-BY-SA"\n')
    settings = {
        "raw": "s3://lake/raw/inputs.toml", "edits": "s3://lake/raw/edits/pairs.csv", "annotator": "scenes",
        "storage": "s3://lake/got/tables", "s3_endpoint": endpoint, "truth": "s3://lake/raw/truth.parquet",
    }  # fmt: skip
    remote = own(load(**settings))
    make_all(remote)
    assert isinstance(remote.storage._fs, s3fs.S3FileSystem)
    reader = dg.AssetCheckKey(dg.AssetKey("boxes"), "reads_scenes_right")
    (read, *_) = remote.instance.event_log_storage.get_asset_check_execution_history(reader, limit=1)
    assert read.status.value == "SUCCEEDED"
    assert not list(remote.home.rglob("*.parquet")), "nothing of the data stays on this machine"

    expected, found = content(local.storage), content(remote.storage)
    assert expected.keys() == found.keys()
    kinds = {name.partition("/")[0] for name in found}
    assert kinds >= {
        "raw_images", "captions", "entities", "boxes", "t2i_chains", "t2i_selection", "t2i_gallery",
        "t2i_training_shards", "edit_pairs", "edit_descriptions", "edit_boxes", "edit_chains",
        "edit_selection", "edit_gallery", "edit_training_shards", "training_shards",
        "training_manifest.parquet", "data_statistics.parquet", "data_statistics.png",
    }  # fmt: skip
    assert not [name for name in expected if expected[name] != found[name]]

    assert source_and_licence_are_everywhere(remote.storage) >= {"CC-BY-SA", "CC0", "CC-BY"}
    index = read_index(remote.storage)
    assert index.height == remote.storage.read_table("training_manifest").height == 64
    sample = read_sample(remote.storage, index.row(0, named=True))
    assert sample["sample_id"] == index["sample_id"][0] and sample["licence"] == index["licence"][0]

    assert not any(remote.make_data().values()), "a second run makes nothing"
    review_and_take_down(load, settings, remote)


def source_and_licence_are_everywhere(storage: Storage) -> set[str]:
    """Every table about pictures says where each row's come from; the licences that were seen."""
    licences: set[str] = set()
    raw = pl.concat(storage.read_table(name[:-8]) for name in storage.list("raw_images/"))
    known = {row["image_id"]: (row["source"], row["licence"]) for row in raw.iter_rows(named=True)}
    looked_at = 0
    for name in storage.list():
        if not name.endswith(".parquet") or name.startswith(NOT_DERIVED):
            continue
        frame = storage.read_table(name.removesuffix(".parquet"))
        if not set(ABOUT_A_ROW) & set(frame.columns):
            continue
        assert {"source", "licence"} <= set(frame.columns), name
        assert not frame.select("source", "licence").null_count().sum_horizontal()[0], name
        for row in frame.filter("image_id" in frame.columns).iter_rows(named=True):
            if row["image_id"] in known:
                assert (row["source"], row["licence"]) == known[row["image_id"]], name
        licences |= set(frame["licence"])
        looked_at += 1
    assert looked_at > 20
    return licences


def review_and_take_down(load: Callable[..., Graph], settings: dict[str, str], graph: Graph) -> None:
    """Verdicts and takedowns reach a storage in a bucket by the commands, and the next run heeds them."""
    manifest = graph.storage.read_table("training_manifest")
    first, second = manifest.filter(kind="t2i").rows(named=True)[:2]
    verdict = {"chain_id": first["sample_id"], "kind": "t2i", "verdict": "reject", "note": "dull"}
    path = graph.home / "verdicts.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"reviewer": "ada", "verdicts": [verdict]}))
    got = import_module("got_assets.cli").main
    assert got(["data", "review", str(path)]) == 0
    assert got(["data", "takedown", "add", second["image_id"], "--reason", "withdrawn"]) == 0

    again = replace(load(**settings), instance=graph.instance)
    again.make("training_manifest")
    make_all(again)
    rest = manifest.filter(~pl.col("sample_id").is_in([first["sample_id"], second["sample_id"]]))
    assert again.storage.read_table("training_manifest").equals(rest)
    assert read_index(again.storage)["sample_id"].sort().equals(rest["sample_id"].sort())
    for name, held in content(again.storage).items():
        if not name.startswith(("takedown/", "manifests/", "shards/")):
            assert second["image_id"].encode() not in (held if isinstance(held, bytes) else held.encode()), (
                name
            )


@pytest.mark.parametrize("when", ["before", "in a step"])
def test_an_outage_ends_the_run_with_one_sentence(
    load: Callable[..., Graph],
    s3_server: ThreadedMotoServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    when: str,
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    server, address = s3_server, s3_server.url
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    # In this process: another one would not be cut off.
    graph = load(storage=f"s3://{server.bucket}/store", s3_endpoint=address, parallel="1")
    ingest = import_module("got_core.corpus.ingest")
    whole = ingest.ingest_images

    def cut_off(*args: object, **kwargs: object) -> pl.DataFrame:
        server.stop()
        return whole(*args, **kwargs)

    if when == "before":
        graph.render()
        server.stop()
    else:
        monkeypatch.setattr(ingest, "ingest_images", cut_off)
    assert graph.run.main() == 1
    said = capfd.readouterr().err
    assert "Traceback" not in said
    assert f"the S3 store at {address} (GOT_S3_ENDPOINT) could not be used" in said and "run it again" in said
