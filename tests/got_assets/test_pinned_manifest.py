"""A training that was broken off goes on with its data, and the graph knows that newer data waits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from got_core import recipes
from got_core.corpus.sample_tars import FOLDER as TARS

from .conftest import Graph

MODELS = ("training_manifest", "foundation_models", "pretrained_model")


@pytest.mark.slow
def test_a_new_image_waits_for_the_next_training_and_is_then_asked_for(
    load: Callable[..., Graph], monkeypatch: pytest.MonkeyPatch
) -> None:
    once = recipes.tiny().with_stage("pretrain", max_failures=0)
    monkeypatch.setitem(recipes.RECIPES, "once", lambda: dataclasses.replace(once, name="once"))
    graph = load(recipe="once", workers="0")
    graph.render()
    late = sorted(path for path in graph.raw.rglob("*.*") if path.is_file())[-1]
    kept = late.read_bytes()
    late.unlink()
    graph.make_data()
    assert graph.make(*MODELS[:2]) == [*MODELS[:2]]

    settings = graph.project.settings
    away = [Path(graph.raw), Path(settings.edits_url).parent, graph.home / "storage" / TARS]
    for folder in away:
        folder.rename(folder.with_name(f"{folder.name}-away"))
    runner = graph.run.Runner(graph.project, graph.instance)
    assert runner.bring_up_to_date(MODELS).error, "pictures are away, with their tars"
    for folder in away:
        folder.with_name(f"{folder.name}-away").rename(folder)
    begun = graph.storage.read_table("training_manifest")

    late.write_bytes(kept)
    graph.make_data()
    assert graph.make(*MODELS) == [*MODELS], "each once: newer data waits for the next call"
    newer = graph.storage.read_table("training_manifest")
    assert newer.height == begun.height + 1
    from got_core.frame_hash import content_hash

    first = graph.storage.read_json("pretrained_model.json")
    assert first["pinned"] and first["manifest_hash"] == content_hash(begun)
    assert str(graph.metadata("pretrained_model")["pinned"]) == "True"

    runner = graph.run.Runner(graph.project, graph.instance)
    staleness = graph.run.Staleness(graph.instance, runner._graph, graph.storage)
    assert staleness.need("pretrained_model") == (
        "was trained on the data that its training began with; there is newer data"
    )
    assert graph.make(*MODELS) == ["pretrained_model"]
    second = graph.storage.read_json("pretrained_model.json")
    assert not second["pinned"] and second["manifest_hash"] == content_hash(newer)
    assert graph.make(*MODELS) == []
