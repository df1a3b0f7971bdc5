"""What a batch encodes, in how many calls, and in which format a stage does it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from got_core.chain.grammar import parse
from got_core.model import picture_encoder
from got_core.model.build import build_autoencoder
from got_core.model.canvases import to_tensor
from got_core.model.config import LossConfig, ModelConfig
from got_core.model.got import REFERENCE_DROPPED, GoTModel, count_dropped
from got_core.model.guidance import black_latents, encode, spatial_latents
from got_core.model.noising import Generators
from got_core.model.picture_encoder import PIXELS_AT_ONCE, PictureEncoder
from got_core.train.config import StageConfig
from got_core.train.data import latents
from got_core.train.data.batches import JointBatches
from got_core.train.data.latents import drawing_inputs, picture_inputs, stage_encoder
from got_core.train.data.samples import TrainingSample, noise_seed, training_data
from got_core.train.objective import Batch, JointObjective
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


DROPS = StageConfig(
    steps=3,
    batch_size=4,
    global_batch=16,
    lora_rank=2,
    mixture={"t2i": 0.5, "edit": 0.5},
    draws_per_step=2,
    loss=LossConfig(drop=0.2),
)


def trained(run: TrainingRun, model: ModelConfig, *, drop: float) -> tuple[list[dict[str, float]], Any]:
    """Losses of two steps and the last gradients, where batches leave out what a share of samples drops."""
    trainer = Trainer(tiny_pipeline(config=model), training_data(run), DROPS)
    batches = trainer.batches
    assert isinstance(batches, JointBatches) and batches.drop == DROPS.loss.drop
    batches.drop = drop
    losses: list[dict[str, float]] = []
    trainer.run(2, lambda step, found: losses.append(found))
    return losses, {name: p.grad for name, p in trainer.trained().items()}


@pytest.mark.parametrize("model", [TINY, KL], ids=["patch", "kl"])
def test_losses_and_gradients_are_the_same_where_what_is_dropped_is_not_encoded(
    training_run: TrainingRun, model: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One picture and one canvas a call: libraries round batches of other sizes otherwise.
    monkeypatch.setattr(picture_encoder, "CPU_PIXELS_AT_ONCE", 64 * 64)
    monkeypatch.setattr(picture_encoder, "CANVASES_TO_A_PICTURE", 1)
    everything, whole = trained(training_run, model, drop=0.0)
    losses, gradients = trained(training_run, model, drop=DROPS.loss.drop)
    assert losses == everything
    assert gradients.keys() == whole.keys()
    for name, gradient in gradients.items():
        assert (gradient is None) == (whole[name] is None), name
        assert gradient is None or torch.equal(gradient, whole[name]), name


def test_dropped_canvases_and_sources_are_not_encoded(training_run: TrainingRun) -> None:
    trainer = Trainer(tiny_pipeline(), training_data(training_run), DROPS)
    batches, encoder = trainer.batches, trainer.batches.encoder  # type: ignore[attr-defined]
    encoder.black(64, 64)
    shown = {False: 0, True: 0}
    for batch in (one for step in range(3) for one in batches.read(step)):  # type: ignore[attr-defined]
        sources = [torch.Generator().manual_seed(noise_seed(0, int(k))) for k in batch["index"]]
        dropped = count_dropped(4, 0.2, sources)
        edit = batch["pass"].sources is not None
        with counted(encoder) as calls:
            inputs = batches.completed(batch)  # type: ignore[attr-defined]
        assert calls[0] == 4 + edit * int((dropped < REFERENCE_DROPPED).sum())
        boxes = {box for k in range(4) if not dropped[k] for box in batch["pass"].chains[k].boxes}
        assert sum(calls[1:]) == len(boxes)
        assert torch.equal(inputs["spatial"].flatten(1).any(dim=1), dropped == 0)
        reference = inputs["reference"].flatten(1).any(dim=1)
        assert torch.equal(reference, (dropped < REFERENCE_DROPPED) if edit else torch.ones(4, dtype=bool))
        shown[edit] += int((dropped == REFERENCE_DROPPED).sum())
    assert all(shown.values()), "both kinds had a sample without anything"


class Ignoring(JointObjective):
    """Draws what it likes."""

    def losses(self, model: GoTModel, batch: Batch, rng: Generators) -> dict[str, torch.Tensor]:
        return super().losses(model, batch, rng)


def test_other_losses_have_all_conditions(training_run: TrainingRun) -> None:
    trainer = Trainer(tiny_pipeline(), training_data(training_run), DROPS, objective=Ignoring())
    assert trainer.batches.drop == 0.0  # type: ignore[attr-defined]
    assert trainer.batches.dropped(range(99)) == [0] * 99  # type: ignore[attr-defined]


def test_a_pass_is_encoded_when_the_one_before_has_its_gradient(
    training_run: TrainingRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(tiny_pipeline(), training_data(training_run), DROPS)
    done: list[str] = []
    completed, backward = JointBatches.completed, Trainer._backward

    def encodes(self: JointBatches, batch: Batch) -> Batch:
        done.append("encoded")
        return completed(self, batch)

    def learns(self: Trainer, *args: Any) -> dict[str, torch.Tensor]:
        done.append("learned")
        return backward(self, *args)

    monkeypatch.setattr(JointBatches, "completed", encodes)
    monkeypatch.setattr(Trainer, "_backward", learns)
    trainer.run(1, lambda step, losses: None)
    assert done == 4 * ["encoded", "learned"]


class _Copies(TorchDispatchMode):
    """What is done with tensors that lie in some memory."""

    def __init__(self, *tensors: torch.Tensor) -> None:
        super().__init__()
        self._memory = {tensor.untyped_storage().data_ptr() for tensor in tensors}
        self.found: list[tuple[str, int, bool]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for one in args:
            inside = isinstance(one, torch.Tensor) and one.device.type == "cpu"
            if inside and one.untyped_storage().data_ptr() in self._memory:
                self.found.append((func.__name__, one.data_ptr(), (kwargs or {}).get("non_blocking", False)))
        return func(*args, **(kwargs or {}))


def test_pictures_go_to_the_device_as_they_lie(training_run: TrainingRun) -> None:
    found = samples(training_run, "edit")
    targets, sources = (torch.zeros(3, 64, 64, 3, dtype=torch.uint8) for _ in range(2))
    encoder = PictureEncoder(build_autoencoder(TINY).to("meta"))
    with _Copies(targets, sources) as copies:
        inputs = picture_inputs(
            encoder,
            targets,
            sources,
            chains=[one.chain for one in found],
            time_ids=[one.time_ids for one in found],
            device="meta",
        )
    assert inputs["clean"].device.type == inputs["reference"].device.type == "meta"
    assert copies.found == [("_to_copy.default", one.data_ptr(), True) for one in (targets, sources)]


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
