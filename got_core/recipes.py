"""Recipes: functions that return the whole configuration of the graph.

``embedded`` runs on a laptop and is the default; ``tiny`` walks the same graph in seconds for tests;
``paper`` is the published size, for a GPU cluster (``make plan RECIPE=paper`` says what it needs). A recipe
of your own is another function here, or any code that returns a ``Recipe``.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from typing import Any

from got_core.ablation.config import AblationConfig
from got_core.corpus.config import IngestConfig
from got_core.curate.config import STRICT_RULES, CurateConfig
from got_core.evaluate.config import EvaluateConfig
from got_core.foundation.config import FoundationConfig
from got_core.model.config import (
    AutoencoderConfig,
    GuidanceScales,
    LanguageModelConfig,
    LossConfig,
    ModelConfig,
    SchedulerConfig,
    UNetConfig,
)
from got_core.registry.config import PromotionConfig
from got_core.scenes.corpus import CorpusConfig
from got_core.scenes.edits import KINDS
from got_core.scenes.world import FULL, NARROW, World
from got_core.train.config import StageConfig


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that can be chosen about a run of the graph, by stage."""

    name: str
    world: World
    """The world of scenes: corpus and benchmark of the embedded default."""
    corpus: CorpusConfig
    ingest: IngestConfig
    curate: CurateConfig
    model: ModelConfig
    foundation: FoundationConfig
    pretrain: StageConfig
    finetune: StageConfig
    evaluate: EvaluateConfig
    ablation: AblationConfig
    promotion: PromotionConfig = field(default_factory=PromotionConfig)


NOISE_MEAN = 1.5
"""Of the noise levels' logit. On 8 x 8 latents the layout shows through all but strong noise, and a sample
that shows it teaches no binding of words to boxes: at 0 objects are learned three times slower."""
EMBEDDED_LOSS = LossConfig(language_share=1 / 3, dropped_weight=0.1, noise_mean=NOISE_MEAN)
KEEPING_LOSS = replace(EMBEDDED_LOSS, noise_offset=1.0, kept_weight=10.0)
"""Where backgrounds differ: with an offset as strong as the noise, a noisy latent does not show how bright
its background is, so an edit's is read from the source; and what an edit keeps weighs more."""


def embedded() -> Recipe:
    """Small instances of the real classes on rendered scenes: the graph in minutes on two cores."""
    return Recipe(
        name="embedded",
        # Plain grey, nothing tiny, pairs of two colours: what a small model can learn to draw within minutes.
        world=World(tones=("grey",), min_object=18, unlike_colors=True),
        corpus=CorpusConfig(),
        ingest=IngestConfig(image_shard_size=500, edit_shard_size=500),
        curate=CurateConfig(),
        # On an 8 x 8 grid of latents attention at the coarser level and a middle block add time, not quality.
        # Rotary frequencies that can tell eight columns apart: in longer ones a token never knows its own.
        model=ModelConfig(
            language_model=LanguageModelConfig(rope_theta=20.0),
            unet=UNetConfig(attention_levels=(True, False), middle_block=False),
        ),
        foundation=FoundationConfig(
            optimizer="muon",
            tower_steps=300,
            vision_steps=100,
            vision_rate=4e-3,
            seeing_rate=1e-3,
            language_steps=700,
            unet_steps=600,
            unet_loss=LossConfig(dropped_weight=0.1, noise_mean=NOISE_MEAN),
        ),
        # Edits come last: from the start on, they would slow down the binding of words to boxes.
        pretrain=StageConfig(
            steps=620, mixture={"t2i": 1.0}, final_rate=0.4, optimizer="muon", loss=EMBEDDED_LOSS
        ),
        finetune=StageConfig(
            steps=260,
            peak_rate=1e-3,
            warmup_steps=20,
            final_rate=0.02,
            optimizer="muon",
            loss=EMBEDDED_LOSS,
            seed=1,
        ),
        evaluate=EvaluateConfig(),
        ablation=AblationConfig(),
    )


def embedded_long() -> Recipe:
    """The embedded recipe on the full world of scenes, with at most three CPU-hours of training."""
    short = embedded()
    return replace(
        short,
        name="embedded-long",
        world=FULL,
        # Where a new object goes is all that an add can be judged by, and nothing in the picture shows it.
        corpus=CorpusConfig(
            images=12_000,
            edits=7_500,
            edit_kinds=("add", "add", *KINDS),
            multi_turn=0.8,
            place_draws=64,
        ),
        ingest=IngestConfig(image_shard_size=2_000, edit_shard_size=1_500),
        # A visual token for every 8 pixels: of coarser ones small objects share one.
        # Chains are longer than in the short recipe, so rotary frequencies are lower: at its base the slowest
        # one turns by a radian in 17 tokens, and what an instruction names is not found again from the chain.
        # Norms over 6 channels, as in the short recipe, lose how bright a picture is; an edit has to keep it.
        # The shift keeps the last steps of drawing where the U-Net has been trained (see NOISE_MEAN).
        # Edits without guidance: higher scales leave more traces of what was there, and take more passes.
        model=replace(
            short.model,
            edit_scales=GuidanceScales(text=1.0, spatial=1.0, reference=1.0),
            language_model=replace(short.model.language_model, merge_size=1, rope_theta=200.0),
            unet=replace(short.model.unet, norm_groups=2, input_skip=True),
            scheduler=SchedulerConfig(options={"shift": 3.0}),
        ),
        foundation=replace(
            short.foundation,
            tower_steps=2_000,
            vision_steps=400,
            locate_steps=1_000,
            reading_steps=1_600,
            language_steps=5_000,
            language_batch_size=8,
            language_rate=1.5e-3,
            settled_rate=1e-4,
            # Edits from the start: a background that a U-Net has learned to guess from words it does not
            # learn to look up later. Errors outside the boxes are few and small, so they have to weigh more.
            unet_steps=3_300,
            unet_edit_share=0.5,
            unet_loss=replace(short.foundation.unet_loss, noise_offset=1.0, kept_weight=30.0),
            edit_share=0.55,
            describe_share=0.0,
            locate_share=0.1,
            recall_share=0.15,
            renamed_share=0.4,
            pointing_weight=1.0,
            alignment_weight=10.0,
        ),
        # Guided by the text encoder, the U-Net draws text to image well by now; edits less so.
        pretrain=replace(
            short.pretrain,
            steps=600,
            mixture={"t2i": 0.3, "edit": 0.7},
            language_rate=3e-4,
            loss=KEEPING_LOSS,
        ),
        # Edits are the language model's task first, those of several steps the hardest. It plans them well by
        # now and learns from half of the rows, to save time.
        finetune=replace(
            short.finetune,
            steps=1_100,
            mixture={"t2i": 0.2, "single-turn": 0.35, "multi-turn": 0.45},
            language_rate=4e-4,
            # Words are bound to boxes by now: what is left is drawing exactly, at all noise levels.
            loss=replace(KEEPING_LOSS, language_share=0.5, noise_mean=0.5),
        ),
        evaluate=EvaluateConfig(
            images_per_task=200,
            sampling_seeds=(0, 1, 2),
            repair="both",
            edit_images=200,
            keep_outside="both",
        ),
    )


def tiny() -> Recipe:
    """The same graph with seconds of training: for tests. Its model has learned nothing."""
    return Recipe(
        name="tiny",
        world=NARROW,
        corpus=CorpusConfig(images=48, edits=16),
        ingest=IngestConfig(image_shard_size=24, edit_shard_size=16),
        curate=CurateConfig(),
        model=ModelConfig(
            image_tokens=4,
            language_model=LanguageModelConfig(
                hidden_size=64,
                layers=1,
                heads=2,
                key_value_heads=2,
                intermediate_size=64,
                vision_hidden_size=32,
                vision_layers=1,
                vision_heads=1,
                vision_intermediate_size=32,
                patch_size=16,
            ),
            autoencoder=AutoencoderConfig(latent_channels=8, refiner_channels=8),
            unet=UNetConfig(
                block_out_channels=(16, 32),
                attention_heads=2,
                cross_attention_dim=32,
                pooled_dim=16,
                time_id_dim=8,
            ),
            inference_steps=2,
            max_new_tokens=24,
        ),
        foundation=FoundationConfig(
            batch_size=4,
            language_batch_size=4,
            vision_steps=2,
            language_steps=2,
            unet_steps=2,
            refiner_steps=2,
            projection_images=32,
        ),
        pretrain=StageConfig(steps=3, batch_size=2, lora_rank=4, checkpoint_every=2, sample_every=2),
        finetune=StageConfig(steps=2, batch_size=2, lora_rank=4, checkpoint_every=2, seed=1),
        evaluate=EvaluateConfig(images_per_task=2, edit_images=6, batch_size=12, bootstrap=20),
        ablation=AblationConfig(
            rows=("baseline", "got"), seeds=(0,), pretrain_steps=2, finetune_steps=2, images_per_task=2
        ),
    )


def paper() -> Recipe:
    """The published size: Qwen2.5-VL-3B, SDXL's U-Net and autoencoder, pictures of 1024 pixels.

    Corpus, world and foundation training are of no use here: own images and published weights take their
    place. Shares of the data sets are those of their sizes; the paper does not give them.
    """
    stage = StageConfig(
        steps=60_000,
        workers=16,
        batch_size=2,
        global_batch=128,
        mixture={"t2i/lahr": 0.438, "t2i/journeydb": 0.476, "single-turn": 0.086},
        geometry="bucket",
        peak_rate=1e-4,
        language_rate=None,
        warmup_steps=500,
        final_rate=0.0,
        lora_dropout=0.05,
        loss=LossConfig(noise_offset=0.1, prediction="epsilon"),
        ema_decay=0.0,
        gradient_checkpointing=True,
        sharding="fsdp",
        checkpoint_every=1000,
        sample_every=5000,
    )
    return Recipe(
        name="paper",
        world=World(),
        corpus=CorpusConfig(),
        ingest=IngestConfig(image_shard_size=10_000, edit_shard_size=10_000, min_side=512),
        curate=CurateConfig(rules=STRICT_RULES),
        model=_paper_model(),
        foundation=FoundationConfig(),
        pretrain=stage,
        finetune=replace(
            stage,
            steps=10_000,
            mixture={"t2i/flux": 0.395, "single-turn": 0.486, "multi-turn": 0.119},
            peak_rate=5e-5,
            warmup_steps=200,
            seed=1,
        ),
        evaluate=EvaluateConfig(batch_size=4),
        ablation=AblationConfig(
            seeds=(0,), pretrain_steps=60_000, finetune_steps=10_000, images_per_task=100, workers=16
        ),
    )


def _paper_model() -> ModelConfig:
    """Qwen2.5-VL-3B-Instruct and SDXL-base, with the numbers of their published configurations."""
    return ModelConfig(
        resolution=1024,
        image_tokens=64,
        language_model=LanguageModelConfig(
            hidden_size=2048,
            layers=36,
            heads=16,
            key_value_heads=2,
            intermediate_size=11_008,
            mrope_section=(16, 24, 24),
            max_positions=128_000,
            rope_theta=1_000_000.0,
            rms_norm_epsilon=1e-6,
            vocabulary=151_936,
            tie_embeddings=True,
            initializer_range=0.02,
            vision_hidden_size=1280,
            vision_layers=32,
            vision_heads=16,
            vision_intermediate_size=3420,
            patch_size=14,
            vision_window=112,
            vision_full_attention=(7, 15, 23, 31),
            vision_tokens_per_second=2,
            image_size=448,
        ),
        autoencoder=AutoencoderConfig(kind="kl", latent_channels=4, scaling_factor=0.13025),
        unet=UNetConfig(
            block_out_channels=(320, 640, 1280),
            layers_per_block=2,
            attention_heads=(5, 10, 20),
            transformer_layers=(1, 2, 10),
            attention_levels=(False, True, True),
            norm_groups=32,
            cross_attention_dim=2048,
            pooled_dim=1280,
            time_id_dim=256,
        ),
        scheduler=SchedulerConfig(
            name="DDPMScheduler",
            options={
                "beta_start": 0.00085,
                "beta_end": 0.012,
                "beta_schedule": "scaled_linear",
                "clip_sample": False,
                "steps_offset": 1,
                "timestep_spacing": "leading",
            },
            prediction="epsilon",
        ),
        generate_scales=GuidanceScales(text=7.5, spatial=4.0, reference=1.0),
        edit_scales=GuidanceScales(text=4.0, spatial=3.0, reference=1.5),
        inference_steps=50,
        max_new_tokens=1024,
    )


RECIPES = {"embedded": embedded, "embedded-long": embedded_long, "paper": paper, "tiny": tiny}


def get_recipe(name: str) -> Recipe:
    """The recipe of this name. Raises ValueError, which lists the names, for an unknown one."""
    if name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r}; set GOT_RECIPE to one of: {', '.join(sorted(RECIPES))}")
    return RECIPES[name]()


def digest(config: Any) -> str:
    """Twelve hex digits that change when any value of a configuration changes.

    Takes dataclasses, and JSON values or lists of dataclasses.
    """

    def plain(value: Any) -> Any:
        if is_dataclass(value) and not isinstance(value, type):
            return plain(asdict(value))
        if isinstance(value, dict):
            return {str(key): plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, list | tuple) else value

    text = json.dumps(plain(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
