"""What a batch encodes, in how many calls, and in which format a stage does it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from got_core.chain.grammar import parse
from got_core.model.build import build_autoencoder
from got_core.model.canvases import to_tensor
from got_core.model.guidance import black_latents, encode, spatial_latents
from got_core.model.picture_encoder import PIXELS_AT_ONCE, PictureEncoder
from got_core.train.config import StageConfig
from got_core.train.data import latents
from got_core.train.data.latents import drawing_inputs, stage_encoder
from got_core.train.data.samples import TrainingSample, training_data
from got_core.train.run import TrainingRun
from got_core.train.trainer import Trainer
from tests.got_core.model.test_picture_encoder import KL, counted
from tests.got_core.tiny_pipeline import TINY, tiny_pipeline

STAGE = StageConfig(steps=1, batch_size=2, lora_rank=2, mixture={"t2i": 1.0})
TWO_BOXES = parse("a circle (100,100),(300,300) and a square (500,500),(900,900)")


@pytest.fixture
def computes_in_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latents, "computes_in_bf16", lambda device_type: True)


def samples(run: TrainingRun, kind: str, count: int = 3) -> list[TrainingSample]:
    return training_data(run).draw(np.random.default_rng(0), kind, count)


@pytest.mark.parametrize("kind", ["t2i", "edit"])
@pytest.mark.parametrize("spatial", [True, False])
def test_inputs_are_latents_of_pictures_canvases_and_black(
    training_run: TrainingRun, kind: str, spatial: bool
) -> None:
    found, vae = samples(training_run, kind), tiny_pipeline().vae
    inputs = drawing_inputs(PictureEncoder(vae), found, spatial_guidance=spatial)
    with torch.no_grad():
        clean = encode(vae, to_tensor(np.stack([s.target for s in found])))
        reference = black_latents(vae, 3, 64, 64)
        if kind == "edit":
            reference = encode(vae, to_tensor(np.stack([s.source for s in found if s.source is not None])))
        gs = spatial_latents(vae, [s.chain for s in found], 64, 64)
    torch.testing.assert_close(inputs["clean"], clean)
    torch.testing.assert_close(inputs["reference"], reference)
    torch.testing.assert_close(inputs["spatial"], gs if spatial else torch.zeros_like(gs))
    assert ("kept" in inputs) == (kind == "edit")


def test_text_to_image_encodes_its_target_and_canvases_alone(training_run: TrainingRun) -> None:
    encoder = PictureEncoder(tiny_pipeline().vae)
    encoder.black(64, 64)
    with counted(encoder) as calls:
        drawing_inputs(encoder, samples(training_run, "t2i"), spatial_guidance=False)
        assert calls == [3]
        drawing_inputs(encoder, samples(training_run, "edit"), spatial_guidance=False)
        assert calls == [3, 6], "targets and sources in one call"
        two = [replace(sample, chain=TWO_BOXES) for sample in samples(training_run, "t2i")]
        drawing_inputs(encoder, two)
        assert calls == [3, 6, 3, 2], "three equal chains have two canvases"


def test_batches_of_a_stage_share_one_encoder(training_run: TrainingRun) -> None:
    trainer = Trainer(tiny_pipeline(), training_data(training_run), STAGE)
    encoder = trainer.batches.encoder
    assert isinstance(encoder, PictureEncoder)
    trainer.batches.passes(0)
    with counted(encoder) as calls:
        (batch,) = trainer.batches.passes(0)
    assert calls[0] == 2 and torch.equal(batch["reference"][:1], encoder.black(64, 64))


@pytest.mark.usefixtures("computes_in_bf16")
def test_a_stage_encodes_in_16_bits_where_the_autoencoder_bears_it() -> None:
    def dtype(vae: torch.nn.Module, config: StageConfig = STAGE) -> torch.dtype:
        return stage_encoder(vae, config).dtype

    assert dtype(build_autoencoder(TINY)) == torch.bfloat16
    assert dtype(build_autoencoder(TINY), replace(STAGE, bf16=False)) == torch.float32
    kl = build_autoencoder(KL)
    assert kl.config.force_upcast and dtype(kl) == torch.float32
    kl.register_to_config(force_upcast=False)
    assert dtype(kl) == torch.bfloat16
    # Finite in 32 bits, but rounded to 16 it is infinite.
    torch.nn.init.constant_(kl.encoder.conv_in.bias, 3.4e38)
    assert dtype(kl) == torch.float32


def test_without_16_bits_on_the_device_all_is_in_32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latents, "computes_in_bf16", lambda device_type: False)
    assert stage_encoder(build_autoencoder(TINY), STAGE).dtype == torch.float32


def test_where_memory_is_short_a_call_takes_fewer_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latents, "PIXELS_AT_ONCE", 8 * 64 * 64)
    assert PIXELS_AT_ONCE == 4 * 1024**2
    for saves, expected in ((False, [6]), (True, [2, 2, 2])):
        encoder = stage_encoder(
            build_autoencoder(TINY), replace(STAGE, bf16=False, gradient_checkpointing=saves)
        )
        with counted(encoder) as calls:
            encoder.pictures(torch.zeros(6, 3, 64, 64))
        assert calls == expected
