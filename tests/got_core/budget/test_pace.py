"""Timed work of a recipe on this machine."""

from __future__ import annotations

import torch

from got_core.budget.pace import READ, RENDERED, pace
from got_core.recipes import get_recipe
from got_core.scenes.corpus import samples_of


def test_pictures_and_a_step_of_each_stage_are_timed_and_nothing_is_left_changed() -> None:
    recipe, threads, state = get_recipe("tiny"), torch.get_num_threads(), torch.random.get_rng_state()
    found = pace(recipe)
    assert set(found) == {RENDERED, READ, *(stage.asset for stage in recipe.stages)}
    assert all(0 < seconds < 60 for seconds in found.values())
    assert torch.get_num_threads() == threads and torch.equal(torch.random.get_rng_state(), state)


def test_samples_of_a_corpus_have_its_shares() -> None:
    recipe = get_recipe("embedded")
    files = list(samples_of(recipe.world, recipe.corpus, 24))
    assert 22 <= len(files) <= 26 and len(set(files)) == len(files)
    pictures = round(24 * recipe.corpus.images / (recipe.corpus.images + 2 * recipe.corpus.pairs))
    assert sum(data.startswith(b"\xff\xd8") for data in files) <= pictures, "pairs are PNG"
