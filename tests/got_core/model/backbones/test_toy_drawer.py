"""A drawer of another family trains, draws, is saved and loaded, with nothing changed for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from got_core.chain.grammar import parse
from got_core.model.backbones.registry import DRAWERS, drawer_of, planner_of
from got_core.model.build import assemble_pipeline, build_autoencoder, build_language_model
from got_core.model.config import LossConfig, SchedulerConfig
from got_core.model.guidance import GuidanceProjector, encode
from got_core.model.pipeline import GoTPipeline
from got_core.model.tokens import train_tokenizer
from got_core.train.attention import plain_attention
from got_core.train.config import OptimizerName, StageConfig
from got_core.train.data.samples import training_data
from got_core.train.muon import hidden_matrices
from got_core.train.run import TrainingRun
from got_core.train.trainer import Trainer
from tests.got_core.model.backbones.toy_drawer import ToyBlock, ToyDrawer, ToyTransformer
from tests.got_core.tiny_pipeline import TINY

CONFIG = replace(TINY, scheduler=SchedulerConfig(prediction="flow"))
STAGE = StageConfig(
    steps=2,
    batch_size=2,
    lora_rank=2,
    mixture={"t2i": 0.5, "edit": 0.5},
    warmup_steps=1,
    bf16=False,
    loss=LossConfig(prediction="flow", drop=0.2),
)
CHAIN = parse("a red circle (100,100),(400,400)")
MOVED = parse("a red circle (600,600),(900,900)")
SOURCE = Image.new("RGB", (64, 64), (200, 30, 30))


def toy_pipeline() -> GoTPipeline:
    torch.manual_seed(0)
    tokenizer = train_tokenizer(["a red circle (1,2),(3,4) and a blue square"], CONFIG.image_tokens)
    mllm = build_language_model(CONFIG.language_model, tokenizer)
    network = ToyTransformer(cell_channels=CONFIG.autoencoder.latent_channels)
    projector = GuidanceProjector.between(planner_of(mllm), drawer_of(network))
    return assemble_pipeline(
        CONFIG,
        mllm=mllm,
        tokenizer=tokenizer,
        projector=projector,
        unet=network,
        vae=build_autoencoder(CONFIG),
    )


@pytest.fixture(scope="module")
def pipeline() -> GoTPipeline:
    """With weight on all input channels: a fresh one ignores Gr and Gs."""
    made = toy_pipeline()
    torch.nn.init.normal_(made.unet.read.weight, std=0.5, generator=torch.Generator().manual_seed(0))
    return made


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_projector_fits_its_widths(pipeline: GoTPipeline) -> None:
    assert isinstance(pipeline.drawer, ToyDrawer)
    widths = (pipeline.projector.config.cross_attention_dim, pipeline.projector.config.pooled_dim)
    assert widths == (40, 24)
    assert widths != (CONFIG.unet.cross_attention_dim, CONFIG.unet.pooled_dim)


def test_it_draws_from_plans_and_sources_and_all_of_them_count(pipeline: GoTPipeline) -> None:
    def draw(chain: object = CHAIN, image: Image.Image | None = None, **options: float) -> torch.Tensor:
        return pipeline.draw(chain, "a cat", image, generator=seeded(), output_type="latent", **options)

    first = draw()
    assert torch.isfinite(first).all()
    assert torch.equal(first, draw())
    others = (draw(MOVED), draw(image=SOURCE), draw(text_scale=3.0), draw(spatial_scale=3.0))
    assert not any(torch.equal(first, other) for other in others)
    planned = pipeline(["a cat", "a dog"], num_images_per_prompt=2, generator=seeded())
    assert [image.size for image in planned.images] == [(64, 64)] * 4
    kept = pipeline.draw(CHAIN, "make it blue", SOURCE, keep_outside=True, generator=seeded())
    assert kept[0].size == (64, 64)


def test_its_own_scale_stands_between_it_and_the_autoencoder(pipeline: GoTPipeline) -> None:
    picture = torch.rand(1, 3, 64, 64, generator=seeded()) * 2 - 1
    with torch.no_grad():
        latents = encode(pipeline.vae, picture)
        decoded = pipeline.decode(pipeline.drawer.scale(latents, pipeline.vae), "pt")
        again = pipeline.vae.decode(latents).sample
    torch.testing.assert_close(decoded, (again / 2 + 0.5).clamp(0, 1))


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_it_trains_and_draws_what_it_has_learned(training_run: TrainingRun, optimizer: OptimizerName) -> None:
    made = toy_pipeline()
    config = replace(STAGE, optimizer=optimizer, gradient_checkpointing=optimizer == "muon")
    before = {name: value.clone() for name, value in made.unet.state_dict().items()}
    trainer = Trainer(made, training_data(training_run), config)
    losses: list[dict[str, float]] = []
    trainer.run(2, lambda step, values: losses.append(values))
    gradients = {name: p.grad for name, p in trainer.trained().items()}
    assert any("lora_B" in name and g is not None and g.abs().sum() > 0 for name, g in gradients.items())
    assert all(0 < step["diffusion"] < 100 for step in losses)
    finished = trainer.finish()
    assert finished is not None
    changed = [name for name, value in finished.unet.state_dict().items() if not value.equal(before[name])]
    assert {"read.weight", "write.weight", "blocks.1.attention.in_proj_weight"} <= set(changed)
    assert not finished.unet.is_gradient_checkpointing
    assert finished("a cat", generator=seeded()).images[0].size == (64, 64)


def test_the_loss_is_that_of_the_velocity_between_noise_and_its_scaled_latents(
    training_run: TrainingRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(STAGE, loss=LossConfig(prediction="flow", drop=0.0))
    trainer = Trainer(toy_pipeline(), training_data(training_run), config)
    (batch,), channels = trainer.batches.passes(0), CONFIG.autoencoder.latent_channels
    given: list[torch.Tensor] = []

    def answer(network: ToyTransformer, cells: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        given.append(cells)
        return torch.zeros_like(cells[:, :channels])

    monkeypatch.setattr(ToyTransformer, "forward", answer)
    hidden = torch.zeros(2, CONFIG.image_tokens, CONFIG.language_model.hidden_size)
    loss = trainer.model.diffusion_loss(hidden, batch, seeded(3))
    generator = seeded(3)
    torch.rand(2, 1, generator=generator)  # which conditions are dropped
    clean = (batch["clean"] - ToyDrawer.shift) * ToyDrawer.factor
    noise = torch.randn(clean.shape, generator=generator)
    mix = torch.sigmoid(torch.randn(2, generator=generator))[:, None, None, None]
    torch.testing.assert_close(loss, (noise - clean).pow(2).mean())
    noisy = (1 - mix) * clean + mix * noise
    torch.testing.assert_close(given[0], torch.cat([noisy, batch["reference"], batch["spatial"]], dim=1))


def test_a_saved_pipeline_of_it_draws_the_same(pipeline: GoTPipeline, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path, safe_serialization=True)
    again = GoTPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    assert isinstance(again.unet, ToyTransformer)
    first, second = (one("a cat", generator=seeded(), output_type="pt").images for one in (pipeline, again))
    assert torch.equal(first, second)


def test_its_layers_are_found_for_sharding_and_muon(pipeline: GoTPipeline) -> None:
    layers = pipeline.drawer.indivisible_layers()
    assert [type(layer) for layer in layers] == [ToyBlock] * 2
    chosen = hidden_matrices(pipeline.unet, pipeline.drawer.outer_layers)
    assert {id(p) for p in chosen} == {
        id(p) for block in pipeline.unet.blocks for p in block.parameters() if p.ndim > 1
    }


def test_its_attention_is_left_alone(pipeline: GoTPipeline) -> None:
    before = [type(block.attention) for block in pipeline.unet.blocks]
    with plain_attention(pipeline.unet, wanted=True):
        assert [type(block.attention) for block in pipeline.unet.blocks] == before


def test_a_network_without_an_adapter_is_named(
    pipeline: GoTPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(DRAWERS, ToyTransformer)
    with pytest.raises(TypeError, match=r"no adapter for a ToyTransformer; known are UNet2D.*DRAWERS"):
        pipeline.draw(CHAIN, "a cat")
