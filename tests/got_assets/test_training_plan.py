"""The plan as an asset: a page of tables, a price that can be changed for a run, and mixtures that are known
to be there before annotation is paid for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from got_core.chain.grammar import parse

from .conftest import Graph


def test_the_plan_needs_no_data_and_shows_its_tables(graph: Graph) -> None:
    assert graph.make("training_plan") == ["training_plan"]
    assert graph.make("training_plan") == []
    shown = graph.metadata("training_plan")
    assert shown["mixtures"] == "not resolved yet: nothing is ingested"
    stored = graph.storage.read_json("training_plan.json")
    assert shown["parameters"] == sum(part["parameters"] for part in stored["parts"]) > 100_000
    assert "| U-Net |" in shown["parts"] and "| pretrain" in shown["memory"]
    assert "| finetune |" in shown["hours_and_cost"] and "training pass, edit" in shown["runs"]
    assert "| communication | " in shown["hours_and_cost"] and "Measured" not in shown["hours_and_cost"]
    assert shown["gpu_hours_favourable"] < shown["gpu_hours"] < shown["gpu_hours_unfavourable"]
    job = graph.run.defs.resolve_implicit_global_asset_job_def()
    dearer = job.execute_in_process(
        asset_selection=[dg.AssetKey("training_plan")],
        instance=graph.instance,
        run_config={"ops": {"training_plan": {"config": {"gpu": "H100", "price_per_hour": 200.0}}}},
    )
    assert dearer.success
    assert graph.metadata("training_plan")["cost"] > 50 * shown["cost"] > 0
    assert graph.storage.read_json("training_plan.json")["assumptions"]["gpu"]["name"] == "H100"


def test_what_the_data_says_takes_the_place_of_assumptions(load: Callable[..., Graph]) -> None:
    graph = load()
    graph.render()
    graph.make_data()
    graph.make("training_plan")
    chains = graph.storage.read_json("training_plan.json")["assumptions"]
    assert chains["measured"].startswith("boxes of annotated chains (t2i, edit); files of ")
    graph.make("training_manifest")
    job = graph.run.defs.resolve_implicit_global_asset_job_def()
    selection = [dg.AssetKey("training_plan")]
    assert job.execute_in_process(asset_selection=selection, instance=graph.instance).success
    manifest = graph.storage.read_table("training_manifest")
    found = graph.storage.read_json("training_plan.json")
    assumed = found["assumptions"]
    boxes = [len(parse(chain).boxes) for chain in manifest.filter(kind="t2i")["chain"]]
    for name in ("expected", "favourable", "unfavourable"):
        shares = assumed[name]["t2i_boxes"]["shares"]
        assert sum(k * share for k, share in enumerate(shares)) == pytest.approx(sum(boxes) / len(boxes))
    assert assumed["rows"] == manifest.height
    tables = [name for name in graph.storage.list("raw_images/") if name.endswith(".parquet")]
    images = pl.concat(graph.storage.read_table(name.removesuffix(".parquet")) for name in tables)
    size = images["bytes"].sum() / (images["width"].cast(pl.Int64) * images["height"]).sum()
    assert assumed["expected"]["bytes_per_pixel"] == pytest.approx(size)
    assert not {"t2i_boxes", "bytes_per_pixel"} & {one["name"] for one in found["sensitivity"]}


def with_mixture(load: Callable[..., Graph], folder: Path, source: str) -> Graph:
    path = folder / "mixture.toml"
    path.write_text(f'[finetune]\n"t2i/{source}" = 0.7\nedit = 0.3\n')
    return load(mixture=str(path))


def test_mixtures_are_resolved_once_pictures_are_ingested_and_again_when_there_are_others(
    load: Callable[..., Graph], tmp_path: Path
) -> None:
    graph = with_mixture(load, tmp_path, "scenes")
    assert graph.make("training_plan") == ["training_plan"]
    graph.render()
    graph.run.assign_shards(graph.project, graph.instance)
    graph.make("raw_images", partition="images-00000")
    source = graph.storage.read_table("raw_images/images-00000")["source"][0]
    graph = with_mixture(load, tmp_path, source)
    assert graph.make("training_plan") == ["training_plan"]
    assert graph.make("training_plan") == []
    assert f"| finetune | t2i/{source} | 24 | 0.700 | 1.000 |" in graph.metadata("training_plan")["mixtures"]
    graph.make("raw_images", partition="images-00001")
    graph.make("edit_pairs", partition="edits-00000")
    assert graph.make("training_plan") == ["training_plan"]
    assert f"| finetune | t2i/{source} | 48 | 0.700 | 0.700 |" in graph.metadata("training_plan")["mixtures"]
    assert graph.make("training_plan") == []


def test_an_unknown_source_ends_a_run_before_anything_is_annotated(
    load: Callable[..., Graph], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = with_mixture(load, tmp_path, "lahr")
    assert graph.run.run(graph.project, graph.instance) == 1
    said = capsys.readouterr()
    assert "models FAILED: ValueError: stage finetune: mixture group 't2i/lahr': no t2i row of" in said.out
    assert "What is ingested has t2i rows of " in said.out
    there = {name.partition("/")[0] for name in graph.storage.list()}
    assert {"raw_images", "edit_pairs"} <= there
    assert not {"captions", "edit_descriptions", "t2i_chains", "training_manifest.parquet"} & there


def test_the_manifest_shows_what_stages_draw_and_refuses_what_they_cannot(
    load: Callable[..., Graph], tmp_path: Path
) -> None:
    graph = load()
    graph.render()
    graph.make_data()
    assert graph.make("training_manifest") == ["training_manifest"]
    shown = graph.metadata("training_manifest")["mixtures"]
    assert "| pretrain | t2i | " in shown and "| finetune | edit | " in shown
    graph = with_mixture(load, tmp_path, "lahr")
    runner = graph.run.Runner(graph.project, graph.instance)
    error = runner.bring_up_to_date(["training_manifest"]).error
    assert "stage finetune: mixture group 't2i/lahr': no t2i row of the manifest has source 'lahr'" in error
