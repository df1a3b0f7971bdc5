"""What stored scores and pictures depend on is pinned, for both benchmarks."""

from __future__ import annotations

from dataclasses import replace

import pytest
from PIL import Image

from got_core.chain.grammar import parse
from got_core.evaluate.benchmarks import GENEVAL, SCENE_EDITS, Benchmark
from got_core.evaluate.config import EvaluateConfig
from got_core.evaluate.samples import Request, sample_name
from got_core.evaluate.suite import AS_WRITTEN, VARIANTS
from got_core.recipes import get_recipe
from got_core.registry.config import PromotionConfig


@pytest.mark.parametrize(
    ("recipe", "benchmark", "digests"),
    [
        ("embedded", GENEVAL, ["23e12e9b1e27", "fceb8b62146e"]),
        ("embedded", SCENE_EDITS, ["6cefae540906", "c68549b96672", "0cc686b37251", "f9873300a39e"]),
        ("tiny", GENEVAL, ["9930115633d1", "ae1a6f7fd825"]),
        ("tiny", SCENE_EDITS, ["acb537652f94", "1bf1a3d1d695", "67e647ab00cf", "667ab8add050"]),
    ],
)
def test_protocols_are_what_stored_scores_were_made_under(
    recipe: str, benchmark: Benchmark, digests: list[str]
) -> None:
    """The plain one, with repaired plans, with the source kept, with both."""
    suite = benchmark.suite(get_recipe(recipe).world, get_recipe(recipe).evaluate)
    variants = (AS_WRITTEN, *VARIANTS)[: len(digests)]
    assert [suite.protocol(variant).digest() for variant in variants] == digests


def test_keys_of_stored_pictures() -> None:
    """A picture under another key is drawn again."""
    name, source = sample_name("geneval/abc/", 7), Image.new("RGB", (4, 4), (1, 2, 3))
    assert name == "geneval/abc/00007.png"
    plain = Request(name, "a photo of a circle", 12)
    edit = Request(name, "remove the circle", 12, source)
    planned = Request(name, "remove the circle", 12, source, parse("a circle (100,100),(300,300)"))
    sampler = {"num_inference_steps": 5, "keep_outside": True}
    keys = [request.key(sampler, "weights") for request in (plain, edit, planned)]
    assert keys == ["6771d110937f", "c53ab096b057", "9df8d0e21ff6"]


@pytest.mark.parametrize("names", [("genevall",), ("geneval/scenes", "geneval/scenes")])
def test_a_benchmark_that_there_is_not_or_twice_is_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"benchmarks must be none, one or more of geneval/scenes, edits/sc"):
        EvaluateConfig(benchmarks=names)


def test_promotion_goes_by_a_benchmark_that_the_recipe_names() -> None:
    recipe = get_recipe("tiny")
    with pytest.raises(ValueError, match=r"primary is 'geneval/scenes/overall', but evaluate\.benchmarks n"):
        replace(recipe, evaluate=EvaluateConfig(benchmarks=("edits/scenes",)))
    assert replace(recipe, evaluate=EvaluateConfig(benchmarks=())).evaluate.assets == {}


@pytest.mark.parametrize("name", ["finetune-own", "finetune-own-512", "paper", "rehearsal"])
@pytest.mark.parametrize("scenes", ["geneval/scenes", "edits/scenes"])
def test_a_model_of_photographs_is_not_scored_on_scenes(name: str, scenes: str) -> None:
    recipe = get_recipe(name)
    assert not recipe.draws_scenes and not recipe.evaluate.on_scenes
    for names in ((scenes,), ("geneval", scenes)):
        config = EvaluateConfig(benchmarks=names)
        promotion = PromotionConfig(primary=f"{names[0]}/overall")
        with pytest.raises(
            ValueError, match=f"'{name}': evaluate.benchmarks names {scenes}, rendered scenes"
        ) as e:
            replace(recipe, evaluate=config, promotion=promotion)
        assert "scenes say nothing about a model of photographs" in str(e.value)


def test_published_benchmarks_may_stand_beside_scenes_where_scenes_are_drawn() -> None:
    recipe = replace(get_recipe("tiny"), evaluate=EvaluateConfig(benchmarks=("geneval", "geneval/scenes")))
    assert recipe.evaluate.assets == {"geneval": "geneval/scenes", "published_geneval": "geneval"}
    assert (recipe.evaluate.on_scenes, recipe.evaluate.published) == (("geneval/scenes",), ("geneval",))
