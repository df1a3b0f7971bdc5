"""`geneval/scenes`: detector, self-test, and a run with a pipeline of the real classes."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from got_core.chain.boxes import Box
from got_core.chain.grammar import Boxed, Chain, Text, parse
from got_core.evaluate import detector, samples
from got_core.evaluate.config import EvaluateConfig
from got_core.evaluate.detector import (
    DetectorError,
    autoencoder_redraw,
    detect,
    detector_ceiling,
    detector_self_test,
    known_scenes,
)
from got_core.evaluate.drawers.local import LocalDrawer
from got_core.evaluate.runner import run_benchmark, score_stored
from got_core.evaluate.samples import Request, _encode, read_samples
from got_core.evaluate.scenes import GenEvalScenes
from got_core.evaluate.scores import IncompleteRunError
from got_core.evaluate.suite import REPAIR_SLACK, sampler_arguments
from got_core.model.config import GuidanceReuse, GuidanceScales
from got_core.model.guidance import branches
from got_core.planning.check import Requirements, check_plan
from got_core.planning.geneval import TASKS, evaluate_image
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
    monkeypatch.setattr(detector, "read_scene", lambda image, **_: [])
    with pytest.raises(DetectorError, match="nothing was scored"):
        run_benchmark(GenEvalScenes(NARROW, SMALL), pipeline, storage, "run")
    assert storage.list("run") == []


def test_run_is_complete_and_resumes(pipeline, storage) -> None:
    steps: list[tuple[int, int]] = []
    first = run_benchmark(
        GenEvalScenes(NARROW, SMALL),
        pipeline,
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
    again = run_benchmark(
        GenEvalScenes(NARROW, SMALL),
        pipeline,
        storage,
        "run",
        lambda done, total: steps.append((done, total)),
        weights_hash="w",
    )
    assert steps == [(16, 18), (18, 18)]
    assert storage.read_bytes("run/00003.png") == kept
    assert again.scores == first.scores
    # A picture has its own generator: drawn in another batch it is the same up to rounding.
    redrawn = read_samples(storage, requests_of(SMALL), sampler={}, weights_hash="w")[11]
    assert redrawn.chain.to_data() == first.samples["chain"][11]


def requests_of(config: EvaluateConfig, prefix: str = "run") -> dict[int, Request]:
    return GenEvalScenes(NARROW, config).requests(prefix)


ONE_EACH = EvaluateConfig(images_per_task=1, self_test=12, bootstrap=50)


def test_pictures_of_other_weights_are_drawn_again(pipeline, storage) -> None:
    options = {"sampler": {"num_inference_steps": 1}}
    for weights, drawn in (("a", 6), ("a", 0), ("b", 6)):
        requests = requests_of(ONE_EACH)
        assert LocalDrawer(pipeline).draw(requests, storage, weights_hash=weights, **options) == drawn


def test_each_prompt_is_planned_once(pipeline, storage, monkeypatch) -> None:
    planned: list[str] = []
    write = pipeline.write_chains
    monkeypatch.setattr(
        pipeline,
        "write_chains",
        lambda prompts, *rest, **more: planned.extend(prompts) or write(prompts, *rest, **more),
    )
    requests = {k: Request(f"run/{k}.png", f"prompt {k % 2}", k) for k in range(5)}
    LocalDrawer(pipeline).draw(requests, storage, sampler={"num_inference_steps": 1}, batch_size=2)
    assert planned == ["prompt 0", "prompt 1"]


def test_a_plan_that_was_not_written_whole_is_wrong(pipeline, storage, monkeypatch) -> None:
    """The row asks for what the chain's readable part holds; the rest of the text was cut off."""
    rows, requests = GenEvalScenes(NARROW, ONE_EACH).rows, requests_of(ONE_EACH)
    index = next(k for k, row in enumerate(rows) if row["tag"] == "single_object")
    shape = rows[index]["include"][0]["class"]
    text = f"a {shape} <|box_start|>(100,100),(400,400)<|box_end|> (red) and a blue"
    verdicts = []
    for written in (text, f"{text} <|box_start|>(9"):
        monkeypatch.setattr(pipeline, "write_chains", lambda prompts, *_, text=written, **__: [text])
        weights = str(len(written))
        options = {"sampler": sampler_arguments(ONE_EACH), "weights_hash": weights}
        LocalDrawer(pipeline).draw({index: requests[index]}, storage, **options)
        suite = GenEvalScenes(NARROW, ONE_EACH)
        result = score_stored(suite, storage, "run", weights_hash=weights, partial=True)
        row = result.samples.row(0, named=True)
        verdicts.append((row["plan_correct"], row["plan_faults"], row["chain"]))
    chain = f"a {shape} (100,100),(400,400) and a blue"
    assert verdicts == [(True, [], chain), (False, ["malformed"], f"{chain} ")]


def test_batches_do_not_change_a_picture(pipeline, storage) -> None:
    drawn = []
    for size in (1, 6):
        requests = requests_of(ONE_EACH, f"by{size}")
        LocalDrawer(pipeline).draw(requests, storage, sampler={}, batch_size=size)
        drawn.append(read_samples(storage, requests, sampler={}))
    singly, together = drawn
    for index in range(6):
        a, b = (np.asarray(one[index].image, dtype=int) for one in (singly, together))
        assert np.abs(a - b).max() <= 2
    assert np.abs(np.asarray(singly[0].image, dtype=int) - np.asarray(singly[1].image)).max() > 20


def test_missing_pictures_are_an_error_or_marked(pipeline, storage) -> None:
    requests = requests_of(SMALL)
    del requests[17]
    LocalDrawer(pipeline).draw(requests, storage, sampler={})
    with pytest.raises(IncompleteRunError, match="color_attr lacks 1"):
        score_stored(GenEvalScenes(NARROW, SMALL), storage, "run")
    partial = score_stored(GenEvalScenes(NARROW, SMALL), storage, "run", partial=True)
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


def put(storage: Storage, request: Request, picture: Image.Image, chain: Chain) -> None:
    """Store a picture as a run would have."""
    record = {"key": request.key({}, None), "chain": chain.to_model(), "dropped": []}
    storage.write_bytes(request.name, _encode(picture, record))


def test_a_picture_of_nan_is_a_failure_of_its_own_and_tried_again(storage) -> None:
    """The U-Net's answer to one of the prompts holds NaN, as for latents that overflow."""
    pipeline = tiny_pipeline()
    broken, healthy = pipeline.unet.forward, True

    def forward(sample: torch.Tensor, *args: object, **options: object) -> object:
        answer = broken(sample, *args, **options)
        if not healthy:
            answer.sample[1] = torch.nan
        return answer

    pipeline.unet.forward = forward
    healthy = False
    result = run_benchmark(GenEvalScenes(NARROW, ONE_EACH), pipeline, storage, "run", weights_hash="w")
    rows = result.samples.to_dicts()
    assert [row["failure"] == "not_drawn" for row in rows] == [k == 1 for k in range(6)]
    assert not rows[1]["correct"] and "NaN or infinity" in rows[1]["reason"]
    assert result.scores["not_drawn"] == 1
    assert result.scores["tasks"]["two_object"]["not_drawn"] == 1
    assert result.scores["planned_wrong"] + result.scores["drawn_wrong"] + 1 == sum(
        not row["correct"] for row in rows
    )
    healthy = True
    again = run_benchmark(GenEvalScenes(NARROW, ONE_EACH), pipeline, storage, "run", weights_hash="w")
    assert again.scores["not_drawn"] == 0
    assert again.samples["image_id"].to_list()[2:] == result.samples["image_id"].to_list()[2:]


def test_pictures_that_another_code_drew_are_drawn_again(storage, monkeypatch) -> None:
    request = requests_of(ONE_EACH)[0]
    put(storage, request, Image.new("RGB", (64, 64)), Chain(()))
    assert list(read_samples(storage, {0: request}, sampler={})) == [0]
    monkeypatch.setattr(samples, "DRAWING", samples.DRAWING + 1)
    assert read_samples(storage, {0: request}, sampler={}) == {}


def test_planned_wrong_and_drawn_wrong_are_told_apart(storage) -> None:
    """Pictures and chains with known faults are put where a run would have put its own."""
    config = ONE_EACH
    rows = GenEvalScenes(NARROW, config).rows
    right: dict[str, Scene] = {}
    for seed in range(400):
        for scene, _ in known_scenes(NARROW, 6, seed):
            found = detect(render(scene))
            for row in rows:
                if row["tag"] not in right and evaluate_image(found, row).correct:
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
        put(storage, requests_of(config)[index], picture, chain)
    result = score_stored(GenEvalScenes(NARROW, config), storage, "run")
    verdicts = {r["task"]: r for r in result.samples.iter_rows(named=True)}
    assert (verdicts["single_object"]["correct"], verdicts["single_object"]["failure"]) == (True, None)
    assert verdicts["single_object"]["plan_iou"] > 0.9
    assert verdicts["position"]["plan_faults"] == ["count"]
    assert result.scores["tasks"]["position"]["plan_faults"] == {"count": 1}
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


def test_guidance_that_is_reused_is_drawn_so_and_is_another_protocol(pipeline, storage) -> None:
    reuse = GuidanceReuse(interval=(0.0, 0.5), every=2)
    plain = dataclasses.replace(ONE_EACH, num_inference_steps=4, text_scale=3.0, max_new_tokens=4)
    reused = dataclasses.replace(plain, guidance_reuse=reuse)
    assert "guidance_reuse" not in plain.measuring()
    assert reused.measuring()["guidance_reuse"] == {"interval": (0.0, 0.5), "every": 2}
    rows: list[int] = []
    hook = pipeline.unet.register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))
    try:
        one, other = (
            run_benchmark(GenEvalScenes(NARROW, config), pipeline, storage, "reuse")
            for config in (plain, reused)
        )
    finally:
        hook.remove()
    counts = [len(branches(GuidanceScales(text=3.0, spatial=1.5, reference=1.0)))] * 4
    assert rows == [6 * count for count in (*counts, counts[0], 1, 1, 1)]
    assert one.scores["protocol_digest"] != other.scores["protocol_digest"]
    assert other.protocol.to_dict()["sampler"]["guidance_reuse"] == {"interval": [0.0, 0.5], "every": 2}
    # The second run took none of the first one's pictures for its own.
    assert other.samples["image_id"].is_in(one.samples["image_id"].implode()).not_().all()


def test_autoencoder_redraw_keeps_size_and_order(pipeline) -> None:
    pictures = [render(scene) for scene, _ in known_scenes(NARROW, 3)]
    vae = tiny_pipeline().vae
    stacked = np.stack([np.asarray(p) for p in pictures])
    vae.fit_projection(torch.from_numpy(stacked / 127.5 - 1).permute(0, 3, 1, 2).float())
    back = autoencoder_redraw(vae)(pictures)
    for before, after in zip(pictures, back, strict=True):
        assert after.size == before.size
        assert np.abs(np.asarray(after, dtype=int) - np.asarray(before)).mean() < 12


def test_sampling_seeds_share_prompts_and_have_noise_of_their_own(pipeline, storage) -> None:
    config = EvaluateConfig(
        images_per_task=2,
        self_test=12,
        bootstrap=50,
        sampling_seeds=(0, 1, 5),
        num_inference_steps=1,
        max_new_tokens=4,
    )
    rows = GenEvalScenes(NARROW, config).rows
    assert [r["prompt"] for r in rows[:12]] == [r["prompt"] for r in rows[12:24]]
    assert len({r["seed"] for r in rows}) == 36
    assert [r["seed"] for r in rows[:12]] == [
        r["seed"] for r in GenEvalScenes(NARROW, EvaluateConfig(images_per_task=2)).rows
    ]
    result = run_benchmark(GenEvalScenes(NARROW, config), pipeline, storage, "run")
    assert result.scores["found"] == result.scores["expected"] == 36
    assert {t["n"] for t in result.scores["tasks"].values()} == {6}
    assert list(result.scores["seeds"]["by_seed"]) == ["0", "1", "5"]
    assert result.scores["seeds"]["mean"] == pytest.approx(result.scores["overall"])
    assert result.scores["seeds"]["spread"] is not None
    with pytest.raises(ValueError, match="sampling_seeds"):
        EvaluateConfig(sampling_seeds=(1, 1))


def test_a_plan_must_be_valid_too(storage) -> None:
    """Right by the prompt, but one box lies on the other: the plan is at fault."""
    rows, requests = GenEvalScenes(NARROW, ONE_EACH).rows, requests_of(ONE_EACH)
    blank = Image.new("RGB", (64, 64), (150, 150, 150))
    for index, row in enumerate(rows):
        names = [c["class"] for c in row["include"] for _ in range(c["count"])]
        parts = [p for n in names for p in (Text(f" a {n} "), Boxed(Box(100, 100, 500, 500)))]
        put(storage, requests[index], blank, Chain(tuple(parts)))
    result = score_stored(GenEvalScenes(NARROW, ONE_EACH), storage, "run")
    row = result.samples.filter(task="two_object").row(0, named=True)
    assert (row["plan_correct"], row["plan_faults"], row["failure"]) == (False, ["overlap"], "planned_wrong")


def test_repaired_plans_are_drawn_beside(pipeline, storage) -> None:
    """Chains with a fault that a move repairs are stored as a run's own; only these are drawn again."""
    config = EvaluateConfig(
        images_per_task=1, self_test=12, bootstrap=50, repair="both", num_inference_steps=1
    )
    rows, blank = GenEvalScenes(NARROW, config).rows, Image.new("RGB", (64, 64), (150, 150, 150))
    sampler = sampler_arguments(config)
    for index, request in requests_of(config).items():
        names = [c["class"] for c in rows[index]["include"] for _ in range(c["count"])]
        parts = [p for n in names for p in (Text(f" a {n} "), Boxed(Box(100, 100, 350, 350)))]
        chain = Chain(tuple(parts))
        record = {"key": request.key(sampler, None), "chain": chain.to_model(), "dropped": []}
        storage.write_bytes(request.name, _encode(blank, record))
    result = run_benchmark(GenEvalScenes(NARROW, config), pipeline, storage, "run")
    repaired = result.scores["repaired"]
    assert repaired["changed"] == 4 and repaired["complete"]
    assert len([n for n in storage.list("run/repaired/") if n.endswith(".png")]) == 4
    assert result.scores["tasks"]["two_object"]["plan_correct"] == 0
    assert repaired["tasks"]["two_object"]["plan_correct"] == 1
    assert repaired["tasks"]["colors"]["plan_correct"] == 0, "a colour is not invented"
    # Two variants are two protocols; whether there is a second one does not change the first.
    assert repaired["protocol_digest"] != result.scores["protocol_digest"]
    plain = EvaluateConfig(images_per_task=1, num_inference_steps=1, bootstrap=50)
    assert result.scores["protocol_digest"] == GenEvalScenes(NARROW, plain).protocol().digest()
    table = storage.read_table("run/samples_repaired")
    again = table.filter(pl.col("image").str.starts_with("run/repaired/"))
    assert again["task"].to_list() == ["two_object", "counting", "position", "color_attr"]
    assert table["seed"].to_list() == [row["seed"] for row in rows]
    for index, chain in again.select("index", "chain").iter_rows():
        needs = Requirements.in_world(rows[index], NARROW, REPAIR_SLACK)
        assert {fault.kind for fault in check_plan(parse(chain, "data"), needs)} <= {"color", "count"}
