"""A takedown through the graph: the list makes the manifest stale, and the asset says what was removed."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest

from got_core.curate.config import CurateConfig
from got_core.curate.copies import TABLE
from got_core.curate.takedown import take_down
from got_core.curate.takedown_lists import COPIES_PAGE
from tests.got_core.curate.test_copies import five_pictures

from .conftest import Graph


def test_what_is_put_on_the_list_is_gone_after_the_next_run(
    load: Callable[..., Graph], capsys: pytest.CaptureFixture[str]
) -> None:
    graph = load()
    graph.render()
    graph.make_data()
    assert graph.make("training_manifest") == ["training_manifest"]
    before = graph.storage.read_table("training_manifest")
    image = before.filter(before["kind"] == "t2i")["image_id"][0]
    shown = graph.metadata("t2i_selection", "images-00000")
    assert "| failed_annotation |" in shown["rules"] and "examples" in shown
    command = import_module("got_assets.defs.curate.takedown").main
    assert command(["add", "picture.png"]) == 1
    assert command(["models", image]) == 0
    assert "no registered model version was trained on any of them" in capsys.readouterr().out
    assert command(["add", image, "--reason", "withdrawn"]) == 0
    again = load()
    assert again.make("training_manifest") == ["training_manifest"]
    after = again.storage.read_table("training_manifest")
    assert after["sample_id"].to_list() == before.filter(before["image_id"] != image)["sample_id"].to_list()
    assert image not in again.storage.read_table("raw_images/images-00000")["image_id"]
    archived = [name for name in again.storage.list("manifests/") if name.endswith(".parquet")]
    assert len(archived) == 2, "the manifest of before can still be asked"
    assert again.make("training_manifest") == []
    module = import_module("got_assets.defs.curate.takedown")
    result = dg.materialize(
        [module.taken_down],
        instance=again.instance,
        resources={"project": again.project, "io_manager": _io(again)},
    )
    assert result.success
    table = again.storage.read_table("taken_down")
    assert set(table["request"]) == {image} and set(table["kind"]) == {"image", "chain"}


def _io(graph: Graph) -> dg.IOManager:
    from got_assets.io import StorageIOManager

    return StorageIOManager(graph.storage)


def test_the_command_lists_and_judges_copies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus = five_pictures(tmp_path)
    command = import_module("got_assets.defs.curate.takedown").main
    project = SimpleNamespace(storage=corpus.storage)

    def said(*arguments: str, status: int = 0) -> str:
        assert command(arguments, project) == status
        captured = capsys.readouterr()
        return captured.out + captured.err

    assert "matches nothing that is stored" in said("add", "f" * 64)
    assert "found; the next run removes it" in said("add", corpus.ids["original"])
    assert "no picture waits" in said("copies")
    take_down(corpus.storage, CurateConfig(), corpus.readers)
    listed = said("copies")
    assert corpus.ids["jpeg"] in listed and "jpeg.png" in listed and COPIES_PAGE in listed
    assert "(removed: 2 image(s); 1 copies wait to be judged)" in said("list")
    assert "not among the copies" in said("confirm", "f" * 64, status=1)
    assert "the next run removes them" in said("confirm", corpus.ids["jpeg"])
    assert "no picture waits" in said("copies")
    assert corpus.storage.read_table(TABLE).height == 1, "the next run takes it off"
