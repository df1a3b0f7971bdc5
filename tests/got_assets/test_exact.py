"""A candidate scored by the exact benchmarks on scenes: real Dagster and MLflow, a tiny model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import dagster as dg
import pytest

from got_core.evaluate.config import SCENE_ASSETS, EvaluateConfig
from got_core.recipes import RECIPES, Recipe, tiny
from got_core.registry.config import PromotionConfig
from got_core.registry.results import read_results
from got_core.registry.tracking import connect

from .conftest import Graph
from .test_published import materialize, write_models

pytestmark = [pytest.mark.filterwarnings("ignore")]

SCORED = ("scene_edits", "scene_imagenhub", "scene_emu_edit", "scene_reason_edit")
NAMES = [SCENE_ASSETS[one] for one in SCORED]


def scored_exactly() -> Recipe:
    evaluate = EvaluateConfig(
        benchmarks=tuple(NAMES),
        edit_images=6,
        stage_images=0,
        reason_images=6,
        bootstrap=20,
        num_inference_steps=1,
        max_new_tokens=4,
    )
    return replace(
        tiny(), name="exact", evaluate=evaluate, promotion=PromotionConfig(primary="imagenhub/scenes/overall")
    )


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch, load: Callable[..., Graph]) -> Graph:
    monkeypatch.setitem(RECIPES, "exact", scored_exactly)
    return load(recipe="exact")


def test_what_shares_pictures_is_drawn_one_after_another(exact: Graph) -> None:
    graph = exact.run.defs.resolve_asset_graph()
    parents = {
        one: {key.to_user_string() for key in graph.get(dg.AssetKey(one)).parent_keys} for one in SCORED
    }
    assert parents == {
        "scene_edits": {"finetuned_model"},
        "scene_imagenhub": {"finetuned_model", "scene_edits"},
        "scene_emu_edit": {"finetuned_model", "scene_imagenhub"},
        "scene_reason_edit": {"finetuned_model"},
    }


@pytest.mark.slow
def test_a_candidate_is_scored_reported_registered_and_promoted(exact: Graph) -> None:
    weights = write_models(exact, seed=0)
    done = materialize(exact, *SCORED, "benchmark_report", "registered_model", "promoted_model")
    assert done.success, [event.message for event in done.all_events if event.is_failure]
    storage = exact.storage
    pictures = [name for name in storage.list() if name.endswith(".png") and weights[:12] in name]
    drawn = [name for name in pictures if name.rpartition("/")[2][:5].isdecimal()]
    assert len(drawn) == 6 + 1 + 6, "six edits, one of an absent object, six that need reasoning"
    page = storage.read_bytes("benchmark_report.html").decode()
    assert all(name in page for name in NAMES) and "over-editing" in page
    for key in SCORED[1:]:
        document = storage.read_json(f"{key}.json")
        assert storage.read_json(f"{document['prefix']}/scores.json") == document["scores"]
    client = connect(exact.run.PROJECT.settings.tracking_uri)
    version = client.get_model_version_by_alias("got", "champion")
    held = read_results(client, version)
    assert [*held] == sorted(NAMES) or set(held) == set(NAMES)
    for name in NAMES[1:]:
        outcomes = held[name].outcomes
        assert outcomes is not None and outcomes["value"].null_count() == 0
