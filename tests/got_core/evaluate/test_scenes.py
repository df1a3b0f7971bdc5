"""`geneval/scenes`: detector, self-test, and a run with a pipeline of the real classes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from got_core.chain.boxes import Box
from got_core.chain.grammar import Boxed, Chain, Text
from got_core.evaluate import scenes
from got_core.evaluate.config import EvaluateConfig
from got_core.evaluate.geneval import TASKS, IncompleteRunError, evaluate_image
from got_core.evaluate.samples import _encode, draw_missing, read_samples, sample_key
from got_core.evaluate.scenes import (
    DetectorError,
    detect,
    detector_ceiling,
    detector_self_test,
    known_scenes,
    run_geneval_scenes,
    sampler_arguments,
    score_stored,
)
from got_core.scenes.prompts import benchmark_prompts
from got_core.scenes.render import render
from got_core.scenes.world import FULL, NARROW, Scene
from got_core.storage import Storage
from tests.got_core.tiny_pipeline import tiny_pipeline

SMALL = EvaluateConfig(images_per_task=3, batch_size=7, self_test=12, bootstrap=50)


@pytest.fixture(scope="module")
def pipeline():
    return tiny_pipeline()


@pytest.fixture
def storage(tmp_path) -> Storage:
    return Storage(f"file://{tmp_path}")


@pytest.mark.parametrize("world", [NARROW, FULL])
def test_detector_agrees_with_known_scenes(world) -> None:
    assert detector_self_test(world, 60) >= 0.98
    assert detector_ceiling(world, 60) >= 0.97


def test_a_picture_that_is_no_scene_has_no_objects() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    assert not any(d.score > 0.3 for d in detect(Image.fromarray(noise)))


def test_a_broken_detector_is_refused(monkeypatch, pipeline, storage) -> None:
    monkeypatch.setattr(scenes, "read_scene", lambda image, **_: [])
    with pytest.raises(DetectorError, match="nothing was scored"):
        run_geneval_scenes(pipeline, NARROW, SMALL, storage, "run")
    assert storage.list("run") == []


def test_run_is_complete_and_resumes(pipeline, storage) -> None:
    steps: list[tuple[int, int]] = []
    first = run_geneval_scenes(
        pipeline,
        NARROW,
        SMALL,
        storage,
        "run",
        lambda done, total: steps.append((done, total)),
        weights_hash="w",
    )
    assert steps == [(0, 18), (7, 18), (14, 18), (18, 18)]
    assert first.samples.height == 18
    assert first.samples["task"].to_list() == [t for t in TASKS for _ in range(3)]
    assert first.scores["complete"]
    assert first.scores == storage.read_json("run/scores.json")
    assert storage.read_json("run/protocol.json")["digest"] == first.scores["protocol_digest"]
    assert storage.read_bytes("run/grid.png") == first.grid_png

    kept = storage.read_bytes("run/00003.png")
    storage.delete("run/00011.png")
    storage.write_bytes("run/00012.png", b"\x89PNG half a pict")
    steps.clear()
    again = run_geneval_scenes(
        pipeline,
        NARROW,
        SMALL,
        storage,
        "run",
        lambda done, total: steps.append((done, total)),
        weights_hash="w",
    )
    assert steps == [(16, 18), (18, 18)]
    assert storage.read_bytes("run/00003.png") == kept
    assert again.scores == first.scores
    # A picture has its own generator: drawn in another batch it is the same up to rounding.
    rows = benchmark_prompts(NARROW, 3, SMALL.seed)
    keys = [sample_key(row, {}, "w") for row in rows]
    redrawn = dict(read_samples(storage, "run", keys))[11]
    assert redrawn.chain.to_data() == first.samples["chain"][11]


def test_pictures_of_other_weights_are_drawn_again(pipeline, storage) -> None:
    rows = benchmark_prompts(NARROW, 1, SMALL.seed)
    options = {"sampler": {"num_inference_steps": 1}}
    assert draw_missing(pipeline, rows, storage, "run", weights_hash="a", **options) == 6
    assert draw_missing(pipeline, rows, storage, "run", weights_hash="a", **options) == 0
    assert draw_missing(pipeline, rows, storage, "run", weights_hash="b", **options) == 6


def test_batches_do_not_change_a_picture(pipeline, storage) -> None:
    rows = benchmark_prompts(NARROW, 1, SMALL.seed)
    for size in (1, 6):
        draw_missing(pipeline, rows, storage, f"by{size}", sampler={}, batch_size=size)
    keys = [sample_key(row, {}, None) for row in rows]
    singly, together = (dict(read_samples(storage, f"by{size}", keys)) for size in (1, 6))
    for index in range(6):
        a, b = (np.asarray(one[index].image, dtype=int) for one in (singly, together))
        assert np.abs(a - b).max() <= 2
    assert np.abs(np.asarray(singly[0].image, dtype=int) - np.asarray(singly[1].image)).max() > 20


def test_missing_pictures_are_an_error_or_marked(pipeline, storage) -> None:
    rows = benchmark_prompts(NARROW, 3, SMALL.seed)
    draw_missing(pipeline, rows[:17], storage, "run", sampler={})
    with pytest.raises(IncompleteRunError, match="color_attr lacks 1"):
        score_stored(NARROW, SMALL, storage, "run")
    partial = score_stored(NARROW, SMALL, storage, "run", partial=True)
    assert not partial.scores["complete"]
    assert (partial.scores["found"], partial.scores["expected"]) == (17, 18)


def chain_of(scene: Scene) -> Chain:
    parts: list[Text | Boxed] = []
    for item in scene.objects:
        parts += [
            Text(f" a {item.color} {item.shape} "),
            Boxed(Box.from_pixels(item.box, scene.size, scene.size)),
        ]
    return Chain((*parts, Text(" on a grey background")))


def test_planned_wrong_and_drawn_wrong_are_told_apart(storage) -> None:
    """Pictures and chains with known faults are put where a run would have put its own."""
    config = EvaluateConfig(images_per_task=1, self_test=12, bootstrap=50)
    rows = benchmark_prompts(NARROW, 1, config.seed)
    right: dict[str, Scene] = {}
    for seed in range(400):
        for scene, _ in known_scenes(NARROW, 6, seed):
            seen = detect(render(scene))
            for row in rows:
                if row["tag"] not in right and evaluate_image(seen, row).correct:
                    right[row["tag"]] = scene
        if {"single_object", "counting", "colors"} <= set(right):
            break
    blank = Image.new("RGB", (64, 64), (150, 150, 150))
    empty = Chain((Text("nothing at all"),))
    made = {
        "single_object": (render(right["single_object"]), chain_of(right["single_object"])),
        "counting": (blank, chain_of(right["counting"])),
        "colors": (render(right["colors"]), empty),
    }
    for index, row in enumerate(rows):
        picture, chain = made.get(row["tag"], (blank, empty))
        record = {"key": sample_key(row, sampler_arguments(config), None), "chain": chain.to_model()}
        storage.write_bytes(f"run/{index:05d}.png", _encode(picture, record))
    result = score_stored(NARROW, config, storage, "run")
    verdicts = {r["task"]: r for r in result.samples.iter_rows(named=True)}
    assert (verdicts["single_object"]["correct"], verdicts["single_object"]["failure"]) == (True, None)
    assert verdicts["single_object"]["plan_iou"] > 0.9
    assert (verdicts["counting"]["correct"], verdicts["counting"]["failure"]) == (False, "drawn_wrong")
    assert verdicts["counting"]["plan_iou"] == 0
    # Right by luck, from a plan that was wrong: it counts as right, and the plan as wrong.
    assert (verdicts["colors"]["correct"], verdicts["colors"]["plan_correct"]) == (True, False)
    assert verdicts["position"]["failure"] == "planned_wrong"
    assert (result.scores["drawn_wrong"], result.scores["planned_wrong"]) == (1, 3)
    assert result.scores["overall"] == pytest.approx(2 / 6)
    assert json.loads(verdicts["single_object"]["found"])


def test_the_sampler_is_part_of_the_protocol_only_where_it_is_forced() -> None:
    assert sampler_arguments(EvaluateConfig()) == {}
    assert sampler_arguments(EvaluateConfig(text_scale=2.0)) == {"text_scale": 2.0}


def test_autoencoder_redraw_keeps_size_and_order(pipeline) -> None:
    pictures = [render(scene) for scene, _ in known_scenes(NARROW, 3)]
    vae = tiny_pipeline().vae
    stacked = np.stack([np.asarray(p) for p in pictures])
    vae.fit_projection(torch.from_numpy(stacked / 127.5 - 1).permute(0, 3, 1, 2).float())
    back = scenes.autoencoder_redraw(vae)(pictures)
    for before, after in zip(pictures, back, strict=True):
        assert after.size == before.size
        assert np.abs(np.asarray(after, dtype=int) - np.asarray(before)).mean() < 12
