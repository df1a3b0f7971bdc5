"""How long a run will take: units of a recipe, costs, and what is kept of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from got_assets.run_estimate import READ, RENDERED, costs_of, estimate, known_costs, units_of, write_costs
from got_core.recipes import get_recipe

RECIPE = get_recipe("embedded")
PACE = {RENDERED: 0.001, READ: 0.002, "pretrained_model": 0.5, "finetuned_model": 0.6}
TOOK = {"rendering": 9.0, "annotation": 60.0, "foundation_models": 600.0, "report": 8.0}


def with_steps(factor: int):
    stages = [
        replace(one, config=replace(one.config, steps=factor * one.config.steps)) for one in RECIPE.stages
    ]
    corpus = replace(RECIPE.corpus, images=factor * RECIPE.corpus.images, edits=factor * RECIPE.corpus.edits)
    return replace(RECIPE, stages=tuple(stages), corpus=corpus)


def took() -> dict[str, float]:
    units = units_of(RECIPE, trained=True)
    return {phase: TOOK.get(phase, 100.0) for phase in (*units, "report")}


def test_the_same_recipe_on_the_same_machine_takes_as_long_again() -> None:
    units = units_of(RECIPE, trained=True)
    costs = costs_of(took(), units, PACE)
    assert estimate(units, PACE, costs) == pytest.approx(took())


def test_a_machine_of_half_the_pace_takes_twice_as_long() -> None:
    units = units_of(RECIPE, trained=True)
    found = estimate(units, {name: 2 * one for name, one in PACE.items()}, costs_of(took(), units, PACE))
    assert found and sum(found.values()) == pytest.approx(2 * sum(took().values()))


def test_twice_the_steps_and_pictures_take_twice_as_long_and_the_rest_as_before() -> None:
    costs = costs_of(took(), units_of(RECIPE, trained=True), PACE)
    found = estimate(units_of(with_steps(2), trained=True), PACE, costs)
    assert found
    changed = {phase for phase, seconds in found.items() if seconds == pytest.approx(2 * took()[phase])}
    grown = {"rendering", "ingestion", "annotation", *(stage.asset for stage in RECIPE.stages)}
    assert changed == grown
    assert all(found[phase] == pytest.approx(took()[phase]) for phase in found.keys() - grown)


def test_nothing_is_said_where_a_cost_is_not_known() -> None:
    costs = costs_of(took(), units_of(RECIPE, trained=True), PACE)
    del costs["finetuned_model"]
    assert estimate(units_of(RECIPE, trained=True), PACE, costs) is None


def test_costs_are_kept_by_recipe(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    assert known_costs("embedded", path) is None
    write_costs("embedded", {"rendering": 1.23456}, {"commit": "abc"}, path)
    write_costs("tiny", {"rendering": 2.0}, {"commit": "abc"}, path)
    write_costs("embedded", {"rendering": 3.0}, {"commit": "def"}, path)
    assert known_costs("embedded", path) == {"rendering": 3.0} and known_costs("tiny", path) == {
        "rendering": 2.0
    }
    assert known_costs("paper", path) is None
