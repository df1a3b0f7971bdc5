"""A candidate scored by published benchmarks, registered by their names and compared by them.

Real Dagster and MLflow, a tiny model, data of our own and tiny networks in the published formats.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from got_core.evaluate.config import EvaluateConfig
from got_core.model.formats.weights import weights_hash
from got_core.recipes import RECIPES, Recipe, tiny
from got_core.registry.config import PromotionConfig
from got_core.registry.results import read_results
from got_core.registry.tracking import connect
from tests.got_core.evaluate.published.downloads import write_data, write_networks
from tests.got_core.tiny_pipeline import tiny_pipeline

from .conftest import Graph

pytestmark = [pytest.mark.filterwarnings("ignore")]

BENCHMARKS = ("geneval", "emu_edit/base")


def scored_by_published() -> Recipe:
    """The recipe `tiny`, scored as `paper` is."""
    evaluate = EvaluateConfig(benchmarks=BENCHMARKS, num_inference_steps=1, max_new_tokens=4)
    return replace(
        tiny(), name="published", evaluate=evaluate, promotion=PromotionConfig(primary="geneval/overall")
    )


@pytest.fixture
def published(
    monkeypatch: pytest.MonkeyPatch, load: Callable[..., Graph], tmp_path: Path
) -> Callable[..., Graph]:
    monkeypatch.setitem(RECIPES, "published", scored_by_published)
    return lambda **settings: load(recipe="published", **settings)


def write_models(graph: Graph, seed: int) -> str:
    """What training would have left: references of three models, the last one's pipeline; its weights."""
    folder = graph.home / f"pipeline-{seed}"
    tiny_pipeline(seed=seed).save_pretrained(folder)
    graph.storage.upload(folder, f"models/finetune/{seed:012d}/pipeline")
    weights = weights_hash(folder)
    for asset, stage in (("foundation_models", "foundation"), ("pretrained_model", "pretrain")):
        graph.storage.write_json(f"{asset}.json", reference(stage, "0" * 64, f"models/{stage}/0"))
    last = reference("finetune", weights, f"models/finetune/{seed:012d}/pipeline")
    graph.storage.write_json("finetuned_model.json", last)
    return weights


def reference(stage: str, weights: str, folder: str) -> dict[str, Any]:
    steps = 0 if stage == "foundation" else 2
    return {
        "folder": folder, "stage": stage, "weights_hash": weights, "manifest_hash": "m", "config_digest": "c",
        "mlflow_run_id": "r", "steps": steps, "metrics": {},
    }  # fmt: skip


def materialize(graph: Graph, *assets: str) -> dg.ExecuteInProcessResult:
    job = graph.run.defs.resolve_implicit_global_asset_job_def()
    keys = [dg.AssetKey(asset) for asset in assets]
    return job.execute_in_process(asset_selection=keys, instance=graph.instance, raise_on_error=False)


SCORED = ("published_geneval", "emu_edit_base", "benchmark_report", "registered_model", "promoted_model")


@pytest.mark.slow
def test_a_candidate_is_drawn_judged_registered_and_compared(
    published: Callable[..., Graph], tmp_path: Path
) -> None:
    place = write_networks(write_data(tmp_path / "place"))
    graph = published(benchmarks=str(place), workers="0")
    weights = write_models(graph, 0)
    assert materialize(graph, *SCORED).success
    pictures = [name for name in graph.storage.list("published/geneval/") if name.endswith(".png")]
    drawn = {name: graph.storage.modified(name) for name in pictures if "/pictures-" in name}
    assert len(drawn) == 24, "four pictures of each of six prompts"
    shown = graph.metadata("published_geneval")
    assert shown["judged"] == "24 / 24" and shown["protocol"].startswith("geneval/prompts-")
    assert "| single_object |" in shown["scores"] and "planned wrong" in shown["scores"]
    page = graph.storage.read_bytes("benchmark_report.html").decode()
    assert "<h2>geneval/prompts-" in page and "<h2>emu_edit/" in page
    assert "<caption>All figures</caption>" in page and page.count("data:image/png;base64") == 2
    client = connect(graph.project.settings.tracking_uri)
    version = client.get_model_version_by_alias("got", "champion")
    assert str(version.version) == "1"
    held = read_results(client, version)
    assert set(held) == set(BENCHMARKS)
    outcomes = held["emu_edit/base"].outcomes
    assert outcomes is not None and set(outcomes["task"]) == {"clip_dir", "clip_t"}
    metrics = client.get_run(version.run_id).data.metrics
    assert {"geneval/overall", "geneval/counting", "emu_edit/base/clip_dir"} <= set(metrics)

    # Nothing is drawn or judged twice.
    judged = {name: graph.storage.modified(name) for name in graph.storage.list("published/geneval/judged/")}
    assert judged and materialize(graph, "published_geneval").success
    assert {name: graph.storage.modified(name) for name in drawn} == drawn
    assert {name: graph.storage.modified(name) for name in judged} == judged

    other = write_models(graph, 1)
    assert other != weights and materialize(graph, *SCORED).success
    decision = graph.storage.read_json("promoted_model.json")
    assert (decision["challenger"], decision["scored_again"]) == ("2", [])
    assert [row["benchmark"] for row in decision["benchmarks"]] == [*BENCHMARKS]
    compared = {(row["benchmark"], row["task"]) for row in decision["tasks"]}
    assert {("geneval", "position"), ("emu_edit/base", "clip_t")} <= compared

    # A champion whose results are of another list is drawn and judged again first.
    path = place / "geneval/evaluation_metadata.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[1:], lines[0]]) + "\n")
    failed = materialize(graph, "promoted_model")
    assert failed.success
    reason = graph.storage.read_json("promoted_model.json")["reason"]
    assert "its result of geneval was made under protocol" in reason and "run that benchmark" in reason
    assert materialize(graph, "published_geneval", "registered_model", "promoted_model").success
    assert graph.storage.read_json("promoted_model.json")["scored_again"] == ["geneval"]


def test_only_what_the_recipe_names_is_in_the_graph(published: Callable[..., Graph]) -> None:
    graph = published()
    assets = {node.key.to_user_string(): node for node in graph.run.defs.resolve_asset_graph().asset_nodes}
    assert {"published_geneval", "emu_edit_base"} <= set(assets) and "geneval" not in assets
    for name in ("benchmark_report", "registered_model"):
        parents = {key.to_user_string() for key in assets[name].parent_keys}
        assert {"published_geneval", "emu_edit_base"} <= parents
    assert {"published_geneval", "emu_edit_base"} <= set(graph.run.RETRAIN_ASSETS)


@pytest.mark.parametrize("setting", ["not set", "empty"])
def test_missing_downloads_are_told_before_anything_is_done(
    published: Callable[..., Graph], tmp_path: Path, setting: str
) -> None:
    (tmp_path / "place").mkdir()
    graph = published(**({} if setting == "not set" else {"benchmarks": str(tmp_path / "place")}))
    with pytest.raises(FileNotFoundError) as raised:
        graph.run.run(graph.project, graph.instance)
    message = str(raised.value)
    assert message.startswith("the model of recipe 'published' is to be scored by geneval, emu_edit/base")
    assert "got score fetch-list" in message and "EvaluateConfig.benchmarks" in message
    if setting == "empty":
        for path in ("geneval/evaluation_metadata.jsonl", "emu_edit_test_set", "networks/dino-vits16"):
            assert f"{tmp_path / 'place' / path} is missing" in message
    assert not graph.home.exists() or not list(graph.home.rglob("*.parquet"))
    done = materialize(graph, "training_plan")
    assert not done.success and "is to be scored by" in str(done.failure_data_for_node("training_plan"))


def test_photographs_are_not_scored_on_scenes(load: Callable[..., Graph], tmp_path: Path) -> None:
    settings = {"raw": str(tmp_path / "raw"), "annotator": "openai", "annotator_url": "http://127.0.0.1:9/v1"}
    graph = load(**settings, annotator_vision_model="Qwen/Qwen2.5-VL-72B-Instruct")
    with pytest.raises(ValueError, match=r"'tiny' scores its models by geneval/scenes, edits/scenes"):
        graph.run.run(graph.project, graph.instance)
    done = materialize(graph, "training_plan")
    assert not done.success and "set GOT_RECIPE to a recipe of photographs" in str(
        done.failure_data_for_node("training_plan")
    )
    from got_assets.ablation import ablate

    with pytest.raises(ValueError, match="the ablation scores its runs by geneval/scenes, rendered scenes"):
        ablate(graph.project, graph.instance)


def test_outcomes_of_every_published_benchmark_fit_the_registry() -> None:
    from got_core.evaluate.config import PUBLISHED_ASSETS
    from got_core.evaluate.published.benchmark import OUTCOMES
    from got_core.evaluate.published.registry import PUBLISHED_NAMES
    from got_core.registry.results import OUTCOMES as KEPT

    assert set(PUBLISHED_NAMES) <= set(PUBLISHED_ASSETS.values())
    assert tuple(KEPT) == OUTCOMES
    assert pl.DataFrame(schema=KEPT).columns == list(OUTCOMES)
