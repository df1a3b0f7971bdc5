"""What training stages start from and refuse before a step, and their sample pictures."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from got_core.budget.plan import make_plan
from got_core.evaluate.config import EvaluateConfig
from got_core.model.config import LossConfig, SchedulerConfig
from got_core.recipes import tiny
from got_core.train.run import TrainingRun
from got_core.train.sample_pictures import _drawn
from got_core.train.stage import finetuning, pretraining
from got_core.train.stages import train_stage
from got_core.train.start import take_published
from tests.got_core.model.tiny_checkpoints import TINY, write_published
from tests.got_core.tiny_pipeline import tiny_pipeline


def published_run(training_run: TrainingRun, folder: Path) -> TrainingRun:
    folders = write_published(folder)
    model = replace(TINY, scheduler=SchedulerConfig(prediction="epsilon"))
    stage = replace(tiny().stage("pretrain").config, steps=1, loss=LossConfig(prediction="epsilon"))
    unscored = EvaluateConfig(benchmarks=())
    stages = (pretraining(stage), finetuning(stage))
    recipe = replace(tiny(), model=model, evaluate=unscored, stages=stages)
    return replace(training_run, recipe=recipe, published=(str(folders.sdxl), str(folders.qwen)))


def test_folders_that_fit_no_training_are_refused_before_it_and_after_a_first_time(
    training_run: TrainingRun, tmp_path: Path
) -> None:
    run = published_run(training_run, tmp_path)
    take_published(run)
    assert run.published is not None
    path = Path(run.published[0]) / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"prediction_type": "v_prediction"}))
    # The same weights lie in storage already.
    with pytest.raises(ValueError, match="predicts 'v_prediction', the recipe wants 'epsilon'"):
        take_published(run)


def test_stages_that_predict_something_else_are_named_before_any_step(
    training_run: TrainingRun, tmp_path: Path
) -> None:
    run = published_run(training_run, tmp_path)
    other = {"loss": LossConfig(prediction="flow")}
    start = {"folder": "nowhere", "stage": "published", "weights_hash": "w"}
    message = (
        r"pretrain\.loss\.prediction is 'flow', but the recipe's model\.scheduler\.prediction is 'epsilon'"
    )
    with pytest.raises(ValueError, match=message):
        take_published(replace(run, recipe=run.recipe.with_stage("pretrain", **other)))
    late = run.recipe.with_stage("finetune", **other)
    pretrain = partial(train_stage, replace(run, recipe=late), late.stage("pretrain"), start)
    for begin in (pretrain, partial(make_plan, late)):
        with pytest.raises(ValueError, match=r"finetune\.loss\.prediction is 'flow'"):
            begin()


def test_only_the_weights_that_are_loaded_name_the_start(training_run: TrainingRun, tmp_path: Path) -> None:
    run = published_run(training_run, tmp_path)
    assert run.published is not None
    first, sdxl = take_published(run), Path(run.published[0])
    (sdxl / "text_encoder").mkdir()
    save_file({"a": torch.ones(1)}, sdxl / "text_encoder" / "model.safetensors")
    whole = load_file(sdxl / "unet" / "diffusion_pytorch_model.safetensors")
    save_file({key: value.half() for key, value in whole.items()},
              sdxl / "unet" / "diffusion_pytorch_model.fp16.safetensors")  # fmt: skip
    assert take_published(run)["folder"] == first["folder"]
    narrow = take_published(replace(run, variant="fp16"))
    assert narrow["folder"] != first["folder"] and narrow["weights_hash"] != first["weights_hash"]


def test_sample_pictures_of_nan_are_marked_and_not_shown_as_black_ones() -> None:
    pipeline, prompts = tiny_pipeline(), ["a red circle", "a blue square"]
    healthy = _drawn(pipeline, prompts, torch.Generator().manual_seed(0))
    assert [(item.caption, item.note, item.correct) for item in healthy] == [(p, "", None) for p in prompts]
    torch.nn.init.constant_(pipeline.unet.conv_out.bias, torch.nan)
    failed = _drawn(pipeline, prompts, torch.Generator().manual_seed(0))
    assert [(item.note, item.correct) for item in failed] == [("not drawn: NaN or infinity", False)] * 2
