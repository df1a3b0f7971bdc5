"""Trials: their recipes and keys, and the clock of a training that is resumed."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from got_core.ablation.schemas import TRIALS
from got_core.ablation.trials import Trial, _score
from got_core.foundation.config import shortened
from got_core.recipes import Recipe, embedded, get_recipe, tiny
from got_core.train.cpu_time import _spent
from got_core.train.data.samples import training_data
from got_core.train.run import TrainingRun
from got_core.train.trainer import Trainer
from tests.got_core.tiny_pipeline import tiny_pipeline

BIG = embedded()


def own(row: str, seed: int = 0) -> Recipe:
    return Trial(row, seed).recipe(BIG)


def test_rows_differ_in_their_switches_and_steps_alone() -> None:
    base = own("baseline")
    assert not base.model.reasoning
    assert not base.model.spatial_guidance
    for row, changes in (
        ("chain", {"reasoning": True}),
        ("ssgm", {"reasoning": True, "spatial_guidance": True}),
        ("got", {"reasoning": True, "spatial_guidance": True}),
    ):
        wanted = replace(base, model=replace(base.model, **changes), stages=own(row).stages)
        assert own(row) == wanted and own(row).stages[-1] == base.stages[-1], row
    long = own("control")
    assert [stage.name for stage in base.stages] == [stage.name for stage in long.stages] == ["finetune"]
    assert [stage.name for stage in own("got").stages] == ["pretrain", "finetune"]
    assert long.stages[0].config.steps == sum(stage.config.steps for stage in own("got").stages)
    assert replace(long, stages=own("ssgm").stages) == own("ssgm")


@pytest.mark.parametrize("name", ["paper", "rehearsal", "finetune-own"])
def test_models_of_photographs_are_not_compared_on_scenes(name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}': the ablation scores its runs by geneval/scenes"):
        get_recipe(name).check_ablation()
    BIG.check_ablation()


def test_a_step_sees_as_many_samples_as_in_the_graph_and_every_stage_other_ones() -> None:
    stages = [stage.config for seed in (0, 1, 2) for stage in own("got", seed).stages]
    assert len({stage.seed for stage in stages}) == 6
    for stage in stages:
        assert stage.samples_per_step == BIG.stage("finetune").config.samples_per_step
        assert (stage.workers, stage.layout().accumulation) == (1, 1)


def test_rates_are_the_stages_own_unless_the_ablation_has_some() -> None:
    rates = {(stage.config.peak_rate, stage.config.language_rate) for stage in own("got").stages}
    assert rates == {(BIG.ablation.peak_rate, BIG.ablation.language_rate)}
    bare = replace(BIG, ablation=replace(BIG.ablation, peak_rate=None, language_rate=None))
    stages = zip(Trial("got", 0).recipe(bare).stages, BIG.stages, strict=True)
    for trained, stage in stages:
        assert trained.config.peak_rate == stage.config.peak_rate
        assert trained.config.language_rate == stage.config.language_rate


def test_a_shorter_foundation_keeps_all_its_parts() -> None:
    short = shortened(BIG.foundation, 0.0001)
    assert short.unet_steps == short.tower_steps == 1
    assert shortened(BIG.foundation, 0.3).unet_steps == round(0.3 * BIG.foundation.unet_steps)
    assert shortened(replace(BIG.foundation, reading_steps=0), 0.5).reading_steps == 0
    assert shortened(BIG.foundation, 1.0) == BIG.foundation


def test_a_key_changes_with_what_the_score_depends_on_and_with_nothing_else() -> None:
    foundation = {"weights_hash": "f"}

    def key(row: str, recipe: Recipe, seed: int = 0, weights: str = "f") -> str:
        trial = Trial(row, seed)
        return trial.key(trial.recipe(recipe), "m", foundation | {"weights_hash": weights})

    ablation = replace(BIG.ablation, pretrain_steps=10)
    shorter = replace(BIG, ablation=ablation)
    assert key("got", shorter) != key("got", BIG)
    assert key("ssgm", shorter) == key("ssgm", BIG)
    assert len({key(row, BIG) for row in BIG.ablation.rows}) == 5
    assert key("ssgm", BIG) != key("ssgm", BIG, seed=1) != key("ssgm", BIG, weights="g")
    evaluate = replace(BIG.evaluate, batch_size=7, images_per_task=3)
    assert key("ssgm", replace(BIG, evaluate=evaluate)) == key("ssgm", BIG)
    pictures = replace(BIG.ablation, images_per_task=7)
    assert key("ssgm", replace(BIG, ablation=pictures)) != key("ssgm", BIG)


def test_cpu_seconds_go_on_after_a_checkpoint(training_run: TrainingRun, tmp_path: Path) -> None:
    stage = replace(tiny().stage("finetune").config, steps=4, bf16=False)
    first = Trainer(tiny_pipeline(), training_data(training_run, stage), stage)
    first.run(2, lambda step, losses: None)
    spent = first.cpu_seconds()
    assert spent > 0.05
    first.save(tmp_path)
    began = _spent()
    second = Trainer(tiny_pipeline(), training_data(training_run, stage), stage)
    second.load(tmp_path)
    assert spent < second.cpu_seconds() <= spent + _spent() - began
    before = second.cpu_seconds()
    second.run(4, lambda step, losses: None)
    assert second.cpu_seconds() > before + 0.02


def test_edits_and_finetunings_share_of_rows_are_part_of_a_trial() -> None:
    def of(**changes: object) -> tuple[Recipe, str]:
        recipe = replace(BIG, ablation=replace(BIG.ablation, **changes))  # type: ignore[arg-type]
        trial = Trial("got", 0)
        return trial.recipe(recipe), trial.key(trial.recipe(recipe), "m", {"weights_hash": "f"})

    plain, key = of()
    assert [stage.config.row_share for stage in plain.stages] == [1.0, 0.5]
    fewer, other = of(finetune_rows=0.25)
    assert [stage.config.row_share for stage in fewer.stages] == [1.0, 0.25] and other != key
    scored, third = of(edit_images=14)
    assert scored.evaluate.edit_images == 14 and third != key
    assert of(without_got=True)[1] == key, "it says what is handed over as the start"


@pytest.mark.parametrize("row", ["baseline", "got"])
def test_a_trial_is_scored_by_pictures_and_edits(training_run: TrainingRun, tmp_path: Path, row: str) -> None:
    recipe = Trial(row, 0).recipe(tiny())
    model = recipe.model
    tiny_pipeline(config=model).save_pretrained(tmp_path / "models" / "x")
    run = replace(training_run, storage_url=f"file://{tmp_path}", recipe=recipe)
    scores = _score(run, {"folder": "models/x", "weights_hash": "0" * 64}, "ablation/trial")
    record = {"row": row, "seed": 0, "steps": 4, "cpu_seconds": 1.0, "weights_hash": "", "model": ""}
    assert {*scores, *record, "samples"} == set(TRIALS), "a line of the table"
    assert 0 <= scores["edits"] <= 1 and scores["pictures"] == 12
    assert (scores["edit_plans_right"] is None) == (scores["plans_right"] is None) == (row == "baseline")
    names = run.storage().list("ablation/trial/edits/")
    assert len([name for name in names if re.fullmatch(r".*/\d{5}\.png", name)]) == 4
