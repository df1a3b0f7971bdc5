"""The guidance grid on the tiny pipeline: one plan and one noise, resumed by picture, and judged."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from got_core.evaluate.config import EvaluateConfig
from got_core.evaluate.guidance_grid.config import SPATIAL_SCALES, TEXT_SCALES, GuidanceGridConfig
from got_core.evaluate.guidance_grid.grid import CELLS, GuidanceGrid, draw_guidance_grid
from got_core.evaluate.guidance_grid.prompts import evenly, grid_prompts
from got_core.model.config import GuidanceReuse
from got_core.recipes import tiny
from got_core.storage import Storage
from tests.got_core.evaluate.published.downloads import write_data, write_networks
from tests.got_core.tiny_pipeline import TINY, sees_its_conditions, tiny_pipeline

EVALUATE = EvaluateConfig(images_per_task=1, edit_images=7, self_test=12)
WORLD = tiny().world
CONFIG = GuidanceGridConfig(
    text_scales=(1.0, 4.0), spatial_scales=(1.0, 3.0), prompts=3, num_inference_steps=2, batch_size=2
)
SAMPLER = {"max_new_tokens": 6, "text_scale": 99.0}


class Logged:
    """A pipeline that counts what it plans and draws, and stops after so many pictures."""

    def __init__(self, most: int = 1000) -> None:
        self.pipeline, self.most = sees_its_conditions(tiny_pipeline()), most
        self.config, self.vae, self.device = self.pipeline.config, self.pipeline.vae, self.pipeline.device
        self.planned: list[str] = []
        self.drawn: list[tuple[str, str, float, float]] = []
        self.seeds: list[tuple[str, int]] = []

    def write_chains(self, prompts: list[str], sources: Any, **options: Any) -> list[str]:
        self.planned += prompts
        box = "<|box_start|>({0},100),(600,600)<|box_end|> (red)"
        return [f"a red circle {box.format(100 * number)}" for number in range(len(prompts))]

    def draw(self, chains: Any, prompts: list[str], sources: Any, **options: Any) -> Any:
        if len(self.drawn) >= self.most:
            raise KeyboardInterrupt
        for chain, prompt, generator in zip(chains, prompts, options["generator"], strict=True):
            self.drawn.append((prompt, chain.to_model(), options["text_scale"], options["spatial_scale"]))
            self.seeds.append((prompt, generator.initial_seed()))
        return self.pipeline.draw(chains, prompts, sources, **options)


def grid_of(
    pipeline: Any, storage: Storage, config: GuidanceGridConfig = CONFIG, **options: Any
) -> GuidanceGrid:
    place = options.pop("place", None)
    prompts = grid_prompts(config, WORLD, EVALUATE, place, device="cpu")
    arguments = {"weights_hash": "a" * 64, "sampler": SAMPLER, **options}
    return draw_guidance_grid(pipeline, prompts, config, storage, "guidance/aaaaaaaaaaaa", **arguments)


def image(storage: Storage, name: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(storage.read_bytes(name))), int)


def test_only_guidance_differs_and_it_does_differ(storage: Storage) -> None:
    pipeline, reports = Logged(), []
    grid = grid_of(pipeline, storage, progress=lambda *done: reports.append(done))
    assert len(pipeline.planned) == 3, "each prompt is planned once, whatever the scales"
    assert len(pipeline.drawn) == 12 and reports[-1] == (12, 12)
    for prompt in set(pipeline.planned):
        own = [one for one in pipeline.drawn if one[0] == prompt]
        assert {one[2:] for one in own} == set(CONFIG.pairs) and len({one[1] for one in own}) == 1
        assert len({seed for name, seed in pipeline.seeds if name == prompt}) == 1
    assert len(set(pipeline.seeds)) == 3
    names = grid.pictures.filter(grid.pictures["prompt"] == 0)["image"]
    pictures = [image(storage, name) for name in names]
    assert min(np.abs(a - b).max() for k, a in enumerate(pictures) for b in pictures[:k]) > 0


def test_what_is_written(storage: Storage) -> None:
    grid = grid_of(Logged(), storage)
    assert dict(grid.cells.schema) == CELLS and grid.cells["n"].to_list() == [3] * 4
    assert grid.cells.select("text_scale", "spatial_scale").rows() == list(CONFIG.pairs)
    for row in grid.cells.to_dicts():
        assert 0 <= row["low"] <= row["score"] <= row["high"] <= 1 and row["high"] - row["low"] > 0.3
    shown = [Image.open(io.BytesIO(storage.read_bytes(name))) for name in grid.sheets]
    assert len(shown) == 3 and shown[0].width > 2 * 192 and shown[0].height > 2 * 192
    assert storage.read_bytes(grid.heat_map or "").startswith(b"\x89PNG")
    assert storage.read_table(f"{grid.folder}/pictures").equals(grid.pictures)
    assert storage.read_json(f"{grid.folder}/grid.json") == json.loads(json.dumps(grid.document))
    assert grid.document["varied"] == ["text_scale", "spatial_scale"]
    assert grid.document["sampler"] == {"max_new_tokens": 6, "num_inference_steps": 2}
    assert grid.document["protocol"]["name"] == "geneval/scenes"


def test_it_goes_on_where_it_was_interrupted_and_grows(storage: Storage, tmp_path: Path) -> None:
    first = Logged(most=5)
    with pytest.raises(KeyboardInterrupt):
        grid_of(first, storage)
    again = Logged()
    grid = grid_of(again, storage)
    assert len(first.drawn) + len(again.drawn) == 12 and len(first.planned) == 3 and not again.planned
    whole = grid_of(Logged(), Storage(f"file://{tmp_path / 'whole'}"))
    assert whole.cells.equals(grid.cells)
    for name in grid.pictures["image"]:
        assert np.abs(image(storage, name) - image(Storage(f"file://{tmp_path / 'whole'}"), name)).max() <= 1
    more = Logged()
    larger = grid_of(more, storage, replace(CONFIG, text_scales=(1.0, 4.0, 7.5)))
    assert larger.folder == grid.folder and len(more.drawn) == 6 and {one[2] for one in more.drawn} == {7.5}
    other = Logged()
    assert grid_of(other, storage, replace(CONFIG, seed=1)).folder != grid.folder and len(other.drawn) == 12
    assert not set(other.seeds) & set(more.seeds), "noise of another seed is other noise"
    weights = Logged()
    assert grid_of(weights, storage, weights_hash="b" * 64).folder != grid.folder
    assert len(weights.drawn) == 12


def test_scales_that_differ_little_have_places_of_their_own(storage: Storage) -> None:
    config = replace(CONFIG, text_scales=(1, 1.0000001), spatial_scales=(2.0,), prompts=1)
    grid = grid_of(Logged(), storage, config, sampler={"guidance_reuse": GuidanceReuse(every=2)})
    assert grid.pictures["image"].n_unique() == 2 and "/text1_spatial2/" in grid.pictures["image"][0]
    assert grid.document["sampler"]["guidance_reuse"]["every"] == 2
    again = Logged()
    grid_of(again, storage, config, sampler={"guidance_reuse": GuidanceReuse(every=2)})
    assert not again.drawn


def test_edits_keep_the_reference_scale(storage: Storage) -> None:
    config = replace(CONFIG, benchmark="edits/scenes", prompts=2, reference_scale=2.0)
    pipeline = Logged()
    grid = grid_of(pipeline, storage, config)
    assert len(pipeline.drawn) == 8 and grid.document["sampler"]["reference_scale"] == 2.0
    assert grid.cells["of"].to_list() == [2] * 4 and grid.heat_map
    assert len({row["text"] for row in grid.pictures.to_dicts()}) == 2


def test_published_prompts_without_networks_are_drawn_and_not_judged(
    storage: Storage, tmp_path: Path
) -> None:
    config = replace(CONFIG, benchmark="geneval", prompts=2)
    grid = grid_of(Logged(), storage, config, place=write_data(tmp_path / "place"))
    assert grid.heat_map is None and grid.cells["score"].null_count() == 4 and len(grid.sheets) == 2
    assert "pictures are not judged" in grid.document["notes"][-1] and grid.document["protocol"] is None
    edits = replace(CONFIG, benchmark="magicbrush/base", prompts=4)
    drawn = grid_of(Logged(), storage, edits, place=tmp_path / "place")
    assert len(drawn.sheets) == 4 and drawn.heat_map is None
    asked = replace(CONFIG, benchmark="geneval2", prompts=2)
    questions = grid_of(Logged(), storage, asked, place=tmp_path / "place")
    assert questions.cells["of"].to_list() == [2] * 4 and "a server" in questions.document["notes"][-1]


def test_published_benchmarks_judge_with_their_own_networks(storage: Storage, tmp_path: Path) -> None:
    place = write_networks(write_data(tmp_path / "place"))
    config = replace(CONFIG, benchmark="emu_edit/base", prompts=2)
    grid = grid_of(Logged(), storage, config, place=place)
    assert grid.document["figure"] == "clip_dir" and grid.heat_map
    assert grid.cells["n"].to_list() == [2] * 4 and grid.pictures["correct"].null_count() == 8
    assert grid.pictures["value"].n_unique() > 2
    again = grid_of(Logged(most=0), storage, config, place=place)
    assert again.cells.equals(grid.cells)


def test_geneval_is_judged_by_its_detector(storage: Storage, tmp_path: Path, monkeypatch) -> None:
    from got_core.evaluate.geneval.detections import Found
    from got_core.evaluate.geneval.scene_reader import SceneReader
    from got_core.evaluate.guidance_grid import prompts as module
    from got_core.evaluate.published.registry import published_benchmark
    from got_core.planning.geneval import Detection
    from tests.got_core.evaluate.geneval.lists import write_list

    class SeesDogs(SceneReader):
        """Finds a dog in every picture, and nothing else."""

        def check(self, classes: set[str], rules: Any) -> None:
            assert "dog" in classes

        def detect(self, pictures: Any, rules: Any) -> list[Found]:
            return [Found(detections=(Detection("dog", 0.9, (1, 1, 9, 9)),)) for _ in pictures]

    place = tmp_path / "place"
    (place / "geneval").mkdir(parents=True)
    write_list(place / "geneval/evaluation_metadata.jsonl")
    opened = published_benchmark("geneval").open(place, judge=SeesDogs(WORLD))
    monkeypatch.setattr(module, "_opened", lambda *_: (opened, ()))
    config = replace(CONFIG, benchmark="geneval", prompts=2)
    grid = grid_of(Logged(), storage, config, place=place)
    assert grid.cells["score"].to_list() == [0.5] * 4, "the dog is right, the cup and the dog are not"
    assert grid.pictures["reason"].drop_nulls().unique().to_list() == ["expected cup >= 1, found 0"]


def test_models_that_do_not_depend_on_the_scales_are_refused(storage: Storage) -> None:
    blind = tiny_pipeline(config=replace(TINY, spatial_guidance=False))
    with pytest.raises(ValueError, match="the spatial scale changes nothing: give one spatial scale"):
        grid_of(blind, storage)
    assert grid_of(blind, storage, replace(CONFIG, spatial_scales=(1.0,), prompts=1)).cells.height == 2
    without = tiny_pipeline(config=replace(TINY, reasoning=False, spatial_guidance=False))
    with pytest.raises(ValueError, match="this model writes none"):
        grid_of(without, storage)


def test_prompts_are_taken_from_the_tasks_in_turn() -> None:
    assert evenly(["a", "a", "b", "c", "b"], 4, "x") == [0, 2, 3, 1]
    with pytest.raises(ValueError, match="x has 5 prompts, the guidance grid asks for 6"):
        evenly(["a"] * 5, 6, "x")
    with pytest.raises(ValueError, match="no benchmark 'genevl' for a guidance grid; there are edits/scenes"):
        grid_prompts(replace(CONFIG, benchmark="genevl"), WORLD, EVALUATE)
    with pytest.raises(ValueError, match="GOT_BENCHMARKS is not set"):
        grid_prompts(replace(CONFIG, benchmark="geneval"), WORLD, EVALUATE)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"text_scales": ()}, "text_scales"),
        ({"text_scales": (1.0, 1.0)}, "text_scales"),
        ({"spatial_scales": (float("nan"),)}, "spatial_scales"),
        ({"reference_scale": float("inf")}, "reference_scale"),
        ({"prompts": 0}, "prompts"),
        ({"num_inference_steps": 0}, "num_inference_steps"),
        ({"seed": -1}, "seed"),
    ],
)
def test_numbers_that_cannot_be_used(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=f"GuidanceGridConfig.{field} must be"):
        GuidanceGridConfig(**changes)
    assert GuidanceGridConfig().pairs == tuple((t, s) for s in SPATIAL_SCALES for t in TEXT_SCALES)
