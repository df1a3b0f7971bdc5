"""The weights that come with the package: whole, small, of the recipes' model, and of use by themselves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from got_core.evaluate.benchmarks import GENEVAL, SCENE_EDITS, Benchmark
from got_core.evaluate.config import EvaluateConfig
from got_core.evaluate.runner import run_benchmark
from got_core.model.build import build_scheduler, pipeline_settings
from got_core.model.formats.foundation_folder import PACKAGED, FoundationFolder, chosen_folder
from got_core.model.formats.published import load_foundation_folders
from got_core.model.pipeline import GoTPipeline
from got_core.recipes import embedded, embedded_long
from got_core.storage import Storage

MODEL = embedded().model
MOST_BYTES = 16_000_000


@pytest.fixture(scope="module")
def pipeline() -> GoTPipeline:
    own = FoundationFolder(PACKAGED)
    pipeline = load_foundation_folders(own.drawing, own.language, **pipeline_settings(MODEL))
    pipeline.register_modules(scheduler=build_scheduler(MODEL.scheduler))
    return pipeline


def test_they_are_whole_small_and_of_both_recipes() -> None:
    own = FoundationFolder(PACKAGED)
    own.check()
    assert sum(file.stat().st_size for file in PACKAGED.rglob("*") if file.is_file()) <= MOST_BYTES
    for recipe in (embedded(), embedded_long()):
        found = chosen_folder(None, recipe.model)
        assert found is not None and found.path == PACKAGED
    assert own.manifest["recipe"] == "embedded-long"
    trained = own.manifest["foundation"]
    assert {name: getattr(embedded().foundation, name) for name in trained if name.endswith("_steps")} == {
        name: value for name, value in trained.items() if name.endswith("_steps")
    }, "make foundation would train others"


@pytest.mark.parametrize(
    ("benchmark", "config", "bar"),
    [
        (GENEVAL, EvaluateConfig(images_per_task=4, num_inference_steps=4), 0.8),
        (SCENE_EDITS, replace(embedded().evaluate, edit_images=24, num_inference_steps=4), 0.6),
    ],
)
def test_they_plan_and_draw_scenes_and_edits(
    benchmark: Benchmark, config: EvaluateConfig, bar: float, pipeline: GoTPipeline, tmp_path: object
) -> None:
    suite = benchmark.suite(embedded().world, config)
    scores = run_benchmark(
        suite, pipeline, Storage(f"file://{tmp_path}"), "scores", lambda done, total: None, weights_hash="w"
    ).scores
    assert scores["overall"] >= bar and scores["plan_overall"] >= bar
