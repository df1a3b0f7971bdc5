"""Released data sets through commands and graph: unpacked, imported, selected, and written out again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from got_core.curate.takedown import add_takedowns
from got_core.exchange.export import released_edits, released_t2i

from .conftest import Graph


def got_data(*arguments: str | Path) -> int:
    """`got data ...` on the graph that was loaded last; its exit status."""
    return import_module("got_assets.cli").main(["data", *map(str, arguments)])


def all_of(graph: Graph, asset: str) -> pl.DataFrame:
    names = graph.storage.list(f"{asset}/")
    return pl.concat(graph.storage.read_table(name.removesuffix(".parquet")) for name in names)


@pytest.fixture
def ours(load: Callable[..., Graph], tmp_path: Path) -> Graph:
    """A graph whose scene reader has annotated everything."""
    graph = load(home=str(tmp_path / "ours"))
    graph.render()
    graph.make_data()
    graph.make("training_manifest")
    return graph


def lahr_file(graph: Graph, path: Path) -> None:
    """Our chains under other names, as a released file might have them; two records go wrong."""
    chains = released_t2i(all_of(graph, "t2i_chains"), all_of(graph, "raw_images")).join(
        all_of(graph, "raw_images").select("image_id", "path"), on="image_id", maintain_order="left"
    )
    rows = [
        {"file": row["path"].rpartition("/")[2], "short": row["prompt"], "text": row["got"]}
        for row in chains.rows(named=True)
    ]
    rows[0]["text"] = "no end (1,2),(3"
    rows.append({"file": "elsewhere.png", "short": "a cat", "text": "a cat (1,2),(300,400)"})
    path.write_text("\n".join(map(json.dumps, rows)))


def omniedit_files(graph: Graph, folder: Path) -> None:
    """A local copy of our pairs with the pictures' bytes, and released chains that name them by id."""
    pairs, edits = all_of(graph, "edit_pairs"), graph.raw.parent / "edits"
    rows = [
        {
            "omni_edit_id": f"task_{k}",
            "src_img": {"bytes": (edits / row["source_path"]).read_bytes(), "path": None},
            "edited_img": {"bytes": (edits / row["target_path"]).read_bytes(), "path": None},
            "edited_prompt_list": [row["instruction"], "another wording"],
        }
        for k, row in enumerate(pairs.rows(named=True))
    ]
    pl.DataFrame(rows).write_parquet(folder / "copy.parquet")
    names = {row["pair_id"]: f"task_{k}" for k, row in enumerate(pairs.rows(named=True))}
    released = released_edits(all_of(graph, "edit_chains"), pairs).select("omni_edit_id", "got", "coord")
    named = released.with_columns(pl.col("omni_edit_id").replace_strict(names))
    named.write_ndjson(folder / "omniedit-got.jsonl")


@pytest.mark.slow
def test_released_sets_are_trained_on_without_annotation(
    load: Callable[..., Graph], ours: Graph, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lahr_file(ours, tmp_path / "lahr.jsonl")
    omniedit_files(ours, tmp_path)
    expected = all_of(ours, "t2i_chains"), all_of(ours, "edit_chains")
    assert got_data("unpack", tmp_path / "copy.parquet", "--to", tmp_path / "omni", "--licence", "MIT") == 0
    pairs = tmp_path / "omni" / "pairs.parquet"
    assert f"GOT_EDITS={pairs}" in capsys.readouterr().out

    settings = {"home": str(tmp_path / "theirs"), "raw": str(ours.raw), "edits": str(pairs)}
    theirs = replace(load(**settings), instance=dg.DagsterInstance.ephemeral())
    assert got_data("import", tmp_path / "lahr.jsonl") == 1
    assert "holds no raw_images: set GOT_RAW" in capsys.readouterr().err
    theirs.make_data()
    assert got_data("import", tmp_path / "lahr.jsonl") == 1
    assert "has no column image, prompt, got; it has file, short, text" in capsys.readouterr().err
    mapping = {"image": "file", "image_is": "name", "prompt": "short", "chain": "text"}
    (tmp_path / "map.json").write_text(json.dumps(mapping | {"default_licence": "CC-BY"}))
    assert got_data("import", tmp_path / "lahr.jsonl", "--map", tmp_path / "map.json") == 0
    said = capsys.readouterr().out
    assert "49 rows, 47 chains, 2 refused" in said and "image_missing" in said and "not_a_chain" in said
    assert got_data("refused", "lahr") == 0
    assert "'elsewhere.png' is not among those at hand" in capsys.readouterr().out

    graph = replace(load(**settings, annotator="imported"), instance=theirs.instance)
    graph.make_data()
    assert "no edit chains were imported" in graph.outcomes["edits-00000"].error
    assert got_data("import", tmp_path / "omniedit-got.jsonl", "--pairs", pairs) == 0
    graph = replace(load(**settings, annotator="imported"), instance=theirs.instance)
    graph.make_data()
    assert not [one for one in graph.outcomes.values() if one.error or one.blocked]
    assert not graph.storage.exists("captions")
    check_chains(graph, *expected)

    graph.make("training_manifest")
    manifest = graph.storage.read_table("training_manifest")
    assert manifest.height == 47 + 16
    assert set(manifest.select("kind", "source", "licence").iter_rows()) == {
        ("t2i", "lahr", "CC-BY"),
        ("edit", "omniedit", "MIT"),
    }
    assert not any(graph.make_data().values()), "a second run makes nothing"


def check_chains(graph: Graph, t2i: pl.DataFrame, edits: pl.DataFrame) -> None:
    """The same chains as were written out; the image without one is accounted for."""
    found = all_of(graph, "t2i_chains")
    lost = found.filter(pl.col("error").is_not_null())
    assert lost["reason"].to_list() == ["not_imported"] and lost["source"].to_list() == ["raw"]
    good = found.filter(pl.col("error").is_null()).sort("image_id")
    same = ["image_id", "prompt", "chain", "boxes"]
    assert good.select(same).equals(
        t2i.filter(~pl.col("image_id").is_in(lost["image_id"].implode())).sort("image_id").select(same)
    )
    same = ["pair_id", "instruction", "chain", "boxes"]
    assert (
        all_of(graph, "edit_chains").select(same).sort("pair_id").equals(edits.select(same).sort("pair_id"))
    )


@pytest.mark.slow
def test_ours_are_written_for_others(ours: Graph, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert got_data("export", tmp_path / "t2i.jsonl") == 0
    assert got_data("export", tmp_path / "edits.parquet", "--edits") == 0
    assert got_data("export", tmp_path / "boxes.json", "--coco", "--all") == 0
    manifest = ours.storage.read_table("training_manifest")
    records = pl.read_ndjson(tmp_path / "t2i.jsonl")
    assert set(records["chain_id"]) == set(manifest.filter(kind="t2i")["sample_id"])
    assert set(records["source"]) == {"raw"} and "licence" in records.columns
    assert pl.read_parquet(tmp_path / "edits.parquet").height == 16
    document = json.loads((tmp_path / "boxes.json").read_bytes())
    assert len(document["images"]) == 48
    assert len(document["annotations"]) == all_of(ours, "t2i_chains")["boxes"].sum()
    assert got_data("export", tmp_path / "t2i.txt") == 1
    assert "need one of .jsonl, .json, .parquet" in capsys.readouterr().err
    assert got_data("export", f"{tmp_path}/parts/") == 0
    assert got_data("export", f"{tmp_path}/parts/", "--edits", "--format", "jsonl") == 0
    assert got_data("export", f"{tmp_path}/boxes/", "--coco", "--shard", "images-00000") == 0
    said = capsys.readouterr()
    assert f"{records.height} records in" in said.out and "2 of 2 parts" in said.err
    parts = {path.name: path for path in (tmp_path / "parts").iterdir()}
    images = sorted(name for name in parts if name.startswith("images-"))
    assert parts.keys() == {"_parts", *images, "edits-00000.jsonl"} and len(images) == 2
    assert pl.concat(pl.read_parquet(parts[name]) for name in images).equals(records)
    assert [path.name for path in (tmp_path / "boxes").glob("*.json")] == ["images-00000.json"]
    assert pl.read_ndjson(parts["edits-00000.jsonl"]).height == 16
    assert got_data("export", f"{tmp_path}/parts/", "--shard", "images-7") == 1
    assert "no shard images-7 among the 2 of t2i_selection" in capsys.readouterr().err
    assert got_data("export", f"{tmp_path}/parts/") == 0
    assert "0 parts written now" in capsys.readouterr().out
    add_takedowns(ours.storage, [records["image_id"][0]])
    assert got_data("export", f"{tmp_path}/parts/") == 0
    assert "2 parts written now" in capsys.readouterr().out
    assert sum(pl.read_parquet(parts[name]).height for name in images) == records.height - 1
    assert got_data("export", tmp_path / "rest.jsonl") == 0
    assert set(records["image_id"]) - set(pl.read_ndjson(tmp_path / "rest.jsonl")["image_id"]) == {
        records["image_id"][0]
    }
