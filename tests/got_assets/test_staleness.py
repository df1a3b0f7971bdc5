"""The data part of the graph on a small rendered corpus: what is made, what is not made again, what stops."""

from __future__ import annotations

import dataclasses
import io
import os
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluation,
    AssetCheckEvaluationTargetMaterializationData,
)
from PIL import Image

from got_core import recipes
from got_core.corpus.shards import read_shard

from .conftest import Graph

IMAGE_CURATION = ["t2i_selection", "t2i_gallery", "t2i_training_shards"]
EDIT_CURATION = ["edit_selection", "edit_gallery", "edit_training_shards"]
IMAGE_STEPS = ["raw_images", "captions", "entities", "boxes", "t2i_chains", *IMAGE_CURATION]
EDIT_STEPS = ["edit_pairs", "edit_descriptions", "edit_boxes", "edit_chains", *EDIT_CURATION]


@pytest.fixture
def made(graph: Graph) -> Graph:
    """The graph with all shards made once."""
    graph.render()
    graph.make_data()
    return graph


def test_everything_is_made_once(graph: Graph) -> None:
    graph.render()
    assert graph.make_data() == {
        "images-00000": IMAGE_STEPS,
        "images-00001": IMAGE_STEPS,
        "edits-00000": EDIT_STEPS,
    }
    assert graph.make("training_manifest") == ["training_manifest"]
    manifest = graph.storage.read_table("training_manifest")
    assert manifest.group_by("kind").len().sort("kind")["len"].to_list() == [16, 48]
    assert graph.metadata("boxes", "images-00000")["grounded_share"] == 1.0
    runs = graph.instance.get_runs_count()
    assert runs == 4, "one run for each shard, one for the manifest"

    assert graph.make_data() == {"images-00000": [], "images-00001": [], "edits-00000": []}
    assert graph.make("training_manifest") == []
    assert graph.instance.get_runs_count() == runs


def test_a_lost_table_is_made_again_and_nothing_below_it(made: Graph) -> None:
    made.make("training_manifest")
    before = made.storage.read_bytes("captions/images-00001.parquet")
    made.storage.delete("captions/images-00001")
    assert made.make_data() == {"images-00000": [], "images-00001": ["captions"], "edits-00000": []}
    assert made.storage.read_bytes("captions/images-00001.parquet") == before
    assert made.make("training_manifest") == []


def report_other_content(graph: Graph, asset: str, partition: str) -> None:
    """Record a materialization with another content hash, as another annotator would have given."""
    graph.instance.report_runless_asset_event(
        dg.AssetMaterialization(asset, partition=partition, tags={"dagster/data_version": "another"})
    )


def test_what_depends_on_changed_content_is_made_again_as_far_as_content_changes(made: Graph) -> None:
    report_other_content(made, "captions", "images-00001")
    # Entities come out as before, so boxes stay; the chains read captions themselves.
    assert made.make_data() == {
        "images-00000": [],
        "images-00001": ["entities", "t2i_chains"],
        "edits-00000": [],
    }


def test_the_manifest_is_made_again_when_a_shard_changed(made: Graph) -> None:
    made.make("training_manifest")
    report_other_content(made, "t2i_selection", "images-00000")
    assert made.make("training_manifest") == ["training_manifest"]
    assert made.make("training_manifest") == []


def test_the_manifest_notices_changes_among_more_partitions_than_dagster_looks_at(
    made: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dagster._core.definitions.data_version as data_version

    monkeypatch.setattr(data_version, "SKIP_PARTITION_DATA_VERSION_DEPENDENCY_THRESHOLD", 1)
    made.make("training_manifest")
    assert made.make("training_manifest") == []
    report_other_content(made, "t2i_selection", "images-00000")
    assert made.make("training_manifest") == ["training_manifest"]


def test_a_changed_recipe_part_makes_again_what_uses_it(load, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load()
    first.render()
    first.make_data()
    first.make("training_manifest")
    tiny = recipes.tiny()
    stricter = dataclasses.replace(tiny, curate=dataclasses.replace(tiny.curate, max_boxes=1))
    monkeypatch.setitem(recipes.RECIPES, "stricter", lambda: stricter)

    second = load(recipe="stricter")
    made = second.make_data()
    assert made["images-00000"] == IMAGE_CURATION
    assert made["edits-00000"] == EDIT_CURATION
    assert second.make("training_manifest") == ["training_manifest"]
    assert second.storage.read_table("training_manifest").filter(kind="t2i").height < 48


def test_a_shard_with_too_many_bad_files_stops_only_itself(graph: Graph) -> None:
    graph.render()
    graph.run.assign_shards(graph.project, graph.instance)
    paths = read_shard(graph.storage, "images-00000")["path"].to_list()
    for path in paths[:10]:
        (graph.raw / path).unlink()
    made = graph.make_data()
    assert made == {"images-00000": ["raw_images"], "images-00001": IMAGE_STEPS, "edits-00000": EDIT_STEPS}
    assert set(graph.outcomes["images-00000"].blocked) == set(IMAGE_STEPS[1:])
    assert set(graph.outcomes["images-00000"].blocked.values()) == {"raw_images"}
    assert not any(outcome.error for outcome in graph.outcomes.values())

    assert graph.make_data()["images-00000"] == [], "a blocked shard is not tried again"
    graph.make("training_manifest")
    manifest = graph.storage.read_table("training_manifest")
    assert set(manifest["shard"]) == {"images-00001", "edits-00000"}
    assert "images-00000" in graph.metadata("training_manifest")["left_out"]


def test_a_shard_that_went_bad_leaves_the_manifest(made: Graph) -> None:
    made.make("training_manifest")
    for path in read_shard(made.storage, "images-00000")["path"].to_list()[:10]:
        (made.raw / path).unlink()
    made.storage.delete("raw_images/images-00000")
    made.make_data()
    assert made.make("training_manifest") == ["training_manifest"]
    assert set(made.storage.read_table("training_manifest")["shard"]) == {"images-00001", "edits-00000"}


def test_an_error_in_one_shard_stops_only_that_shard(graph: Graph, capfd: pytest.CaptureFixture[str]) -> None:
    graph.render()
    graph.run.assign_shards(graph.project, graph.instance)
    graph.storage.write_bytes("shards/images-00000.parquet", b"not parquet")
    runner = graph.run.Runner(graph.project, graph.instance)
    broken = runner.bring_up_to_date(graph.run.IMAGE_STEPS, "images-00000")
    assert "is not a readable parquet file" in broken.error and not broken.made
    fine = runner.bring_up_to_date(graph.run.IMAGE_STEPS, "images-00001")
    assert not fine.error and fine.made == IMAGE_STEPS
    assert "delete it to have it remade" in capfd.readouterr().err


def add_twelve_bad_files(folder: Path, good: bytes) -> dict[str, str]:
    """Twelve kinds of bad file, spread evenly over the folder by name: path -> reason."""
    contents = {
        "empty_file": b"",
        "zero_filled": bytes(500),
        "not_an_image": b"<html>404 not found</html>",
        "lfs_pointer": b"version https://git-lfs.github.com/spec/v1\n",
        "truncated": good[: len(good) // 2],
        "unsupported_format": _encoded(Image.new("RGB", (64, 64), "red"), "GIF"),
        "decompression_bomb": _encoded(Image.new("1", (20000, 20000)), "PNG"),
        "too_small": _encoded(Image.new("RGB", (64, 8), "red"), "PNG"),
        "extreme_aspect": _encoded(Image.new("RGB", (640, 40), "red"), "PNG"),
        "broken_link": None,
        "outside_root": None,
        "not_a_file": None,
    }
    paths = {reason: folder / f"{index * 4:06d}-{reason}.png" for index, reason in enumerate(contents)}
    for reason, data in contents.items():
        if data is not None:
            paths[reason].write_bytes(data)
    paths["broken_link"].symlink_to("nothing.png")
    paths["outside_root"].symlink_to("/etc/hostname")
    os.mkfifo(paths["not_a_file"])
    return {f"{folder.name}/{path.name}": reason for reason, path in paths.items()}


def _encoded(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def test_twelve_kinds_of_bad_file_are_quarantined_and_the_rest_goes_on(graph: Graph) -> None:
    graph.render()
    folder = graph.raw / "set-00"
    images = sorted(folder.iterdir())
    for index in range(12):  # more good files, so that no shard is blocked
        picture = Image.open(images[index]).convert("RGB")
        picture.save(folder / f"0000{index * 4:02d}x.png", compress_level=1)
    bad = add_twelve_bad_files(folder, images[0].read_bytes())
    assert len(bad) == 12

    made = graph.make_data()
    shards = [shard for shard in made if shard.startswith("images")]
    assert all(made[shard] == IMAGE_STEPS for shard in shards), made
    tables = [graph.storage.read_table(f"raw_images/{shard}") for shard in shards]
    quarantined = {
        row["path"]: row["reason"] for t in tables for row in t.drop_nulls("error").iter_rows(named=True)
    }
    assert quarantined == bad
    figures = [graph.metadata("raw_images", shard) for shard in shards]
    assert sum(f["rows_in"] for f in figures) == 72
    assert sum(f["rows_rejected"] for f in figures) == 12
    assert sum(f["rows_out"] + f["rows_folded"] for f in figures) == 60
    captioned = sum(graph.storage.read_table(f"captions/{shard}").height for shard in shards)
    assert captioned == sum(f["rows_out"] for f in figures)
    graph.make("training_manifest")
    assert not set(graph.storage.read_table("training_manifest")["target_path"]) & set(bad)


def test_own_images_without_an_annotator_end_after_ingestion(load, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(5):
        Image.effect_noise((80, 60), 60 + index).save(folder / f"{index}.jpg")
    (folder / "bad.png").write_bytes(b"")
    graph = load(raw=str(folder))
    assert graph.run.run(graph.project, graph.instance) == 0
    said = capsys.readouterr().out
    assert "GOT_ANNOTATOR" in said and "does not guess" in said
    stored = [name for name in graph.storage.list() if name.endswith("images-00000.parquet")]
    assert stored == ["raw_images/images-00000.parquet", "shards/images-00000.parquet"]
    assert graph.storage.read_table("raw_images/images-00000")["reason"].to_list() == [
        *[None] * 5,
        "empty_file",
    ]


@pytest.mark.parametrize("annotator", ["", "scenes"])
def test_a_run_of_which_nothing_passes_says_why_and_fails(
    load, tmp_path: Path, capsys, annotator: str
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(3):
        (folder / f"{index}.png").write_bytes(b"")
    graph = load(raw=str(folder), annotator=annotator)
    runner = graph.run.Runner(graph.project, graph.instance)
    graph.run.make_data(runner)
    graph.run.report_failures(runner.outcomes)
    said = capsys.readouterr().out
    assert "images-00000 stops here: raw_images fails its check" in said and "mostly empty_file" in said
    assert graph.run.nothing_passes(runner.outcomes)
    if not annotator:
        assert graph.run.run(graph.project, graph.instance) == 1
        assert "Ingestion of" not in capsys.readouterr().out


def test_one_stopped_shard_among_others_is_no_failure(graph: Graph) -> None:
    graph.render()
    graph.run.assign_shards(graph.project, graph.instance)
    for path in read_shard(graph.storage, "images-00000")["path"].to_list()[:10]:
        (graph.raw / path).unlink()
    runner = graph.run.Runner(graph.project, graph.instance)
    graph.run.make_data(runner)
    assert runner.outcomes["images-00000"].failed.keys() == {"raw_images"}
    assert not graph.run.nothing_passes(runner.outcomes)


def spoil(graph: Graph, shard: str) -> None:
    """So many pictures away that the shard's check fails."""
    for path in read_shard(graph.storage, shard)["path"].to_list()[:10]:
        (graph.raw / path).unlink()


def cut_off(graph: Graph, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """A run of `raw_images` that dies before making anything (`asset`), or before its check (`check`)."""
    import got_core.corpus.ingest as ingest
    import got_core.curate.verdict as verdict

    def die(*_: object, **__: object) -> None:
        raise RuntimeError("cut off")

    with monkeypatch.context() as patch:
        patch.setattr(*((ingest, "ingest_images") if where == "asset" else (verdict, "shard_verdict")), die)
        runner = graph.run.Runner(graph.project, graph.instance)
        made, error = runner._materialize(["raw_images"], "images-00000", {"raw_images": "by hand"})
    assert "cut off" in error and made == ([] if where == "asset" else ["raw_images"])


def test_a_run_that_dies_early_does_not_hide_a_failed_check(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph.render()
    graph.run.assign_shards(graph.project, graph.instance)
    spoil(graph, "images-00000")
    graph.make_data()
    cut_off(graph, monkeypatch, "asset")
    assert graph.make_data()["images-00000"] == []
    assert graph.outcomes["images-00000"].failed.keys() == {"raw_images"}


@pytest.mark.parametrize("bad", [True, False])
def test_what_was_made_and_not_checked_is_checked_before_it_flows_on(
    graph: Graph, monkeypatch: pytest.MonkeyPatch, bad: bool
) -> None:
    graph.render()
    graph.run.assign_shards(graph.project, graph.instance)
    if bad:
        spoil(graph, "images-00000")
    cut_off(graph, monkeypatch, "check")
    staleness = graph.run.Staleness(graph.instance, graph.run.defs.resolve_asset_graph(), graph.storage)
    first, second = staleness.states(["raw_images", "captions"], "images-00000")
    assert (first.needed, first.why) == (True, "its check did not run") and second.blocked is None
    assert staleness.states(["captions"], "images-00000")[0].blocked == "raw_images"
    assert graph.make_data()["images-00000"] == (["raw_images"] if bad else IMAGE_STEPS)
    assert graph.make_data()["images-00000"] == []


def test_a_failed_check_of_earlier_data_does_not_count_once_new_data_was_checked(graph: Graph) -> None:
    graph.render()
    graph.run.assign_shards(graph.project, graph.instance)
    folder = graph.raw.rename(graph.raw.with_name("away"))
    graph.raw.mkdir()
    (other := graph.raw / "other.txt").touch()  # an empty folder may be a mount that is gone
    assert graph.make_data()["images-00000"] == ["raw_images"]
    other.unlink()
    graph.raw.rmdir()
    folder.rename(graph.raw)
    graph.storage.delete("raw_images/images-00000")
    assert graph.make_data()["images-00000"] == IMAGE_STEPS


@pytest.mark.parametrize("severity", dg.AssetCheckSeverity)
def test_a_failure_that_is_a_warning_stops_nothing(graph: Graph, severity: dg.AssetCheckSeverity) -> None:
    graph.render()
    graph.make_data()
    report_check(graph, "raw_images", "images-00000", severity)
    staleness = graph.run.Staleness(graph.instance, graph.run.defs.resolve_asset_graph(), graph.storage)
    stops = severity == dg.AssetCheckSeverity.ERROR
    assert bool(staleness.failed_checks("raw_images", "images-00000")) is stops


def report_check(graph: Graph, asset: str, partition: str, severity: dg.AssetCheckSeverity) -> None:
    """Record that the shard's check failed on what there is now."""
    chosen = dg.AssetRecordsFilter(dg.AssetKey(asset), asset_partitions=[partition])
    record = graph.instance.fetch_materializations(chosen, limit=1).records[0]
    target = AssetCheckEvaluationTargetMaterializationData(
        storage_id=record.storage_id, run_id=record.run_id, timestamp=record.timestamp
    )
    graph.instance.report_runless_asset_event(
        AssetCheckEvaluation(
            asset_key=dg.AssetKey(asset), check_name="few_enough_errors", passed=False, metadata={},
            severity=severity, target_materialization_data=target, partition=partition,
        )
    )  # fmt: skip


@pytest.mark.parametrize("names", [[], ["notes.txt", "1.json"]])
def test_a_folder_without_pictures_is_told_and_fails(
    load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, names: list[str]
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in names:
        (folder / name).write_text("{}")
    assert load(raw=str(folder)).run.main() == 1
    said = capsys.readouterr()
    assert f"{folder} holds nothing that is read as pictures" in said.err and "is done" not in said.out


def test_photographs_are_refused_not_guessed(load, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(3):
        Image.effect_noise((80, 60), 60 + index).convert("RGB").save(folder / f"{index}.png")
    graph = load(raw=str(folder), annotator="scenes")
    assert graph.make_data() == {"images-00000": ["raw_images", "captions"]}
    assert set(graph.storage.read_table("captions/images-00000")["reason"]) == {"not_a_scene"}
    assert set(graph.outcomes["images-00000"].blocked.values()) == {"captions"}


def test_a_missing_raw_folder_is_one_clear_error(load, tmp_path: Path) -> None:
    graph = load(raw=str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        graph.run.run(graph.project, graph.instance)
