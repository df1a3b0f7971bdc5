"""A model without a chain, and one without painted boxes: what they learn from and what they draw from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from got_core.chain.grammar import Chain, parse
from got_core.model.build import fresh_pipeline
from got_core.model.config import LossConfig, ModelConfig
from got_core.model.pipeline import GoTPipeline
from got_core.model.sequence import IGNORED
from got_core.model.tokens import train_tokenizer
from got_core.train.config import StageConfig
from got_core.train.data.samples import training_data
from got_core.train.run import TrainingRun
from got_core.train.trainer import Trainer
from tests.got_core.tiny_pipeline import TINY, sees_its_conditions

PLAN = parse("a red circle (100,100),(400,400)")
OTHER_PLACE = parse("a red circle (500,500),(900,900)")
PROMPT = "a red circle"


def pipeline(*, reasoning: bool = True, spatial_guidance: bool = True) -> GoTPipeline:
    config = replace(TINY, reasoning=reasoning, spatial_guidance=spatial_guidance)
    tokenizer = train_tokenizer(["a red circle (1,2),(3,4) and a blue square"], TINY.image_tokens)
    return sees_its_conditions(fresh_pipeline(config, tokenizer))


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def branch_counts(pipe: GoTPipeline, **options: float) -> list[int]:
    """How many branches the U-Net evaluates in each step of a drawing."""
    counts: list[int] = []
    hook = pipe.unet.register_forward_pre_hook(
        lambda module, given: counts.append(len(given[0])),
    )
    pipe(PROMPT, generator=seeded(), output_type="latent", **options)
    hook.remove()
    return counts


@pytest.mark.parametrize("kind", ["t2i", "edit"])
def test_without_reasoning_batches_have_no_chain_and_learn_start_and_end_alone(
    training_run: TrainingRun, kind: str
) -> None:
    config = StageConfig(steps=1, batch_size=2, lora_rank=4, mixture={kind: 1.0}, bf16=False)
    pipe = pipeline(reasoning=False, spatial_guidance=False)
    joint = Trainer(pipe, training_data(training_run, config), config)
    (batch,), sequences = joint.batches.passes(0), pipe.sequences
    (one,) = joint.batches.layout.passes(0, 0)
    samples = joint.batches.reader.read(joint.batches.order(one)).samples
    for labels, ids, sample in zip(batch["labels"], batch["input_ids"], samples, strict=True):
        learned = labels[labels != IGNORED].tolist()
        assert learned == [sequences.start_id, sequences.end_id, sequences.eos_id]
        assert sample.chain.to_model() not in pipe.tokenizer.decode(ids)
    joint.run(1, lambda step, losses: None)
    assert joint.step == 1


@pytest.mark.parametrize("reasoning", [True, False])
def test_boxes_weigh_the_loss_of_edits_only_where_the_model_has_a_chain(
    training_run: TrainingRun, reasoning: bool
) -> None:
    heard: list[float] = []
    for weight in (1.0, 10.0):
        loss = LossConfig(kept_weight=weight)
        config = StageConfig(steps=1, batch_size=2, lora_rank=4, mixture={"edit": 1.0}, bf16=False, loss=loss)
        torch.manual_seed(0)
        pipe = pipeline(reasoning=reasoning, spatial_guidance=False)
        joint = Trainer(pipe, training_data(training_run, config), config)
        joint.run(1, lambda step, losses: heard.append(losses["diffusion"]))
    assert (heard[0] == heard[1]) is not reasoning


def test_without_spatial_guidance_batches_keep_the_chain_and_lose_the_boxes(
    training_run: TrainingRun,
) -> None:
    config = StageConfig(steps=1, batch_size=2, lora_rank=4, mixture={"t2i": 1.0}, bf16=False)
    data = training_data(training_run, config)
    plain, painted = (
        Trainer(pipeline(spatial_guidance=on), data, config).batches.passes(0)[0] for on in (False, True)
    )
    assert not plain["spatial"].any()
    assert painted["spatial"].any()
    assert plain["spatial"].shape == painted["spatial"].shape
    for name in ("labels", "clean", "reference"):
        assert torch.equal(plain[name], painted[name]), name


def test_without_reasoning_plans_are_empty_and_no_token_is_written() -> None:
    pipe = pipeline(reasoning=False, spatial_guidance=False)
    written: list[object] = []
    pipe.mllm.register_forward_pre_hook(lambda *given: written.append(given))
    output = pipe([PROMPT, "a blue square"], generator=seeded())
    assert pipe.plan([PROMPT, "a blue square"]) == output.chains == [Chain(())] * 2
    assert output.dropped == [[], []]
    assert not written
    assert len(output.images) == 2
    with pytest.raises(ValueError, match=r"`chains\[0\]` is not empty, but this model draws without a chain"):
        pipe.draw(PLAN, PROMPT)


def test_without_spatial_guidance_a_moved_box_is_read_but_not_seen() -> None:
    plain, painted = (pipeline(spatial_guidance=on) for on in (False, True))
    for pipe, seen in ((plain, False), (painted, True)):
        here, there = (pipe.encode_conditions([c], [PROMPT], None, 64, 64) for c in (PLAN, OTHER_PLACE))
        assert torch.equal(here.spatial, there.spatial) is not seen
        assert bool(here.spatial.any()) is seen
        assert not torch.equal(here.context, there.context)


def test_without_spatial_guidance_the_branch_with_boxes_is_left_out_and_nothing_changes() -> None:
    plain, painted = (pipeline(spatial_guidance=on) for on in (False, True))
    scales = {"text_scale": 3.0, "spatial_scale": 2.0}
    steps = int(plain.config.inference_steps)
    assert branch_counts(painted, **scales) == [3] * steps
    assert branch_counts(plain, **scales) == [2] * steps
    # The plain four-branch sum, with Gs null in all of them.
    painted.encode_conditions = plain.encode_conditions  # type: ignore[method-assign]
    drawn = [
        pipe.draw(PLAN, PROMPT, generator=seeded(), output_type="latent", **scales)
        for pipe in (plain, painted)
    ]
    torch.testing.assert_close(*drawn, atol=1e-4, rtol=1e-4)


def test_the_switches_are_saved_with_the_pipeline(tmp_path: Path) -> None:
    pipeline(reasoning=False, spatial_guidance=False).save_pretrained(tmp_path)
    again = GoTPipeline.from_pretrained(tmp_path)
    assert not again.config.reasoning
    assert not again.config.spatial_guidance


def test_boxes_without_a_chain_are_one_clear_error() -> None:
    with pytest.raises(ValueError, match="spatial_guidance paints the boxes of a chain"):
        ModelConfig(reasoning=False)
