"""Compiled blocks compute what plain ones do, and leave nothing behind."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch._dynamo.utils import counters

from got_core.train import compiling
from got_core.train.compiling import compiled_blocks, not_compiled
from got_core.train.config import StageConfig
from got_core.train.data.samples import training_data
from got_core.train.run import TrainingRun
from got_core.train.trainer import Trainer
from tests.got_core.tiny_pipeline import tiny_pipeline

CONFIG = StageConfig(
    steps=2, batch_size=2, lora_rank=2, mixture={"t2i": 1.0}, bf16=False, gradient_checkpointing=True
)


def losses(trainer: Trainer) -> list[float]:
    found: list[float] = []
    trainer.run(2, lambda step, values: found.append(values["loss"]))
    return found


# torch.compile touches what warns and hides the warnings, which an error is not.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_compiled_blocks_train_as_plain_ones(
    training_run: TrainingRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The same graphs, without minutes of a C++ compiler.
    monkeypatch.setattr(compiling, "BACKEND", "aot_eager")
    plain, compiled = (
        Trainer(tiny_pipeline(), training_data(training_run), replace(CONFIG, compile=on))
        for on in (False, True)
    )
    assert plain.trained().keys() == compiled.trained().keys()
    expected = losses(plain)
    torch.compiler.reset()
    counters.clear()
    assert losses(compiled) == pytest.approx(expected, rel=1e-3)
    assert counters["stats"]["unique_graphs"] > 0 and not counters["graph_break"]
    before = counters["stats"]["calls_captured"]
    with compiled.averaged() as pipeline:
        assert pipeline is not None
        pipeline(["a red circle"], generator=torch.Generator().manual_seed(0))
    assert counters["stats"]["calls_captured"] == before, "pictures are drawn without"
    assert compiled.finish() is not None
    assert not any("forward" in part.__dict__ for part in compiled.model.modules())


def test_blocks_are_innermost_and_of_parts_that_train(training_run: TrainingRun) -> None:
    trainer = Trainer(tiny_pipeline(), training_data(training_run), replace(CONFIG, compile=True))
    blocks = compiled_blocks(trainer.model)
    names = {type(block).__name__ for block in blocks}
    assert names == {"Qwen2_5_VLDecoderLayer", "BasicTransformerBlock", "ResnetBlock2D"}
    with not_compiled(trainer.model):
        assert not any("forward" in block.__dict__ for block in blocks)
    assert all("forward" in block.__dict__ for block in blocks)
