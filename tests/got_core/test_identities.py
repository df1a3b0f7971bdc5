"""Which fields of the configurations make a difference: each one is decided on."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from got_core.ablation.config import AblationConfig
from got_core.annotate.config import OpenAIConfig, VLLMConfig
from got_core.annotate.openai_annotator import revision_of
from got_core.corpus.config import FetchConfig, IngestConfig
from got_core.curate.config import CurateConfig
from got_core.digests import digest, is_execution, results
from got_core.evaluate.config import EvaluateConfig
from got_core.foundation.config import FoundationConfig
from got_core.model.config import ModelConfig
from got_core.registry.config import PromotionConfig
from got_core.scenes.config import CorpusConfig
from got_core.scenes.world import World
from got_core.train.config import _EXECUTION, StageConfig

_OF_ANSWERS = (
    "vision_model text_model vision_revision text_revision attempts image_side image_factor image_min_pixels "
    "image_max_pixels image_quality box_unit thinking_tokens send_schema temperature seed"
)
RESULTS: dict[type, str] = {
    FetchConfig: "max_redirects allow_networks opt_out",
    IngestConfig: "image_shard_size edit_shard_size formats min_side max_pixels max_archive_members "
    "max_archive_bytes max_row_group_bytes max_expansion max_bytes max_aspect max_pair_aspect_change "
    "near_duplicate_distance near_duplicate_color max_error_share pictures ignore source licence fetch",
    CurateConfig: "rules min_boxes max_boxes min_box_side min_box_area max_box_area max_box_aspect "
    "min_chain_chars max_chain_chars languages min_agreement max_text_share max_unsafe unsafe_model "
    "contamination_distance near_duplicate_distance near_duplicate_color takedown_distance max_error_share",
    AblationConfig: "rows seeds pretrain_steps finetune_steps images_per_task edit_images finetune_rows "
    "without_got foundation_share peak_rate language_rate",
    CorpusConfig: "images edits edit_kinds multi_turn reasoning place_draws seed jpeg_share folder_size",
    EvaluateConfig: "benchmarks images_per_task sampling_seeds repair edit_images edit_steps "
    "max_change_outside max_trace "
    "keep_outside batch_size seed bootstrap num_inference_steps text_scale spatial_scale "
    "guidance_reuse max_new_tokens self_test grid_per_task reason_images stage_images",
    FoundationConfig: "batch_size tower_steps tower_rate vision_steps locate_steps reading_steps "
    "language_steps "
    "language_batch_size unet_steps unet_batch_size refiner_steps projection_images edit_share "
    "describe_share locate_share reasoning_share referent_share recall_share renamed_share "
    "pointing_weight alignment_weight "
    "language_rate settled_rate seeing_rate vision_rate unet_rate unet_loss unet_edit_share chains "
    "optimizer ema_decay bf16 seed",
    ModelConfig: "resolution image_tokens language_model autoencoder unet scheduler generate_scales "
    "edit_scales inference_steps max_new_tokens reasoning spatial_guidance",
    PromotionConfig: "primary margins least_margin alpha",
    World: "size shapes colors max_objects backgrounds tones min_object max_object margin gap "
    "color_jitter unlike_colors",
    OpenAIConfig: _OF_ANSWERS,
    VLLMConfig: _OF_ANSWERS,
    StageConfig: "steps global_batch draws_per_step mixture geometry random_crop bucket_multiple latents "
    "peak_rate language_rate warmup_steps final_rate optimizer betas epsilon weight_decay "
    "gradient_clip lora_rank language_whole drawing_lora_rank lora_alpha lora_dropout loss "
    "ema_decay bf16 frozen_bf16 held_out row_share seed",
}
"""Fields of each configuration that change results. A new field has to be put here, or be marked with
`execution` (of `StageConfig`: be named in `_EXECUTION`) where it changes none."""

SERVER = OpenAIConfig(url="http://gpu-1/v1", vision_model="qwen2.5-vl")
ENGINES = VLLMConfig(vision_model="qwen2.5-vl")
OTHER_ANSWERS = {
    "vision_model": "qwen2-vl", "text_model": "llama", "vision_revision": "b", "text_revision": "c",
    "attempts": 1, "image_side": 512, "image_factor": 56,
    "image_min_pixels": 4000, "image_max_pixels": 90_000,
    "image_quality": 50, "box_unit": "thousandths", "thinking_tokens": 9, "send_schema": False,
    "temperature": None, "seed": 7,
}  # fmt: skip


def marked(kind: type) -> set[str]:
    """Fields that change no result."""
    found = {one.name for one in fields(kind) if is_execution(one)}
    return found | (_EXECUTION if kind is StageConfig else set())


@pytest.mark.parametrize("kind", RESULTS)
def test_every_field_is_decided_on(kind: type) -> None:
    names, decided = {one.name for one in fields(kind)}, set(RESULTS[kind].split())
    assert decided.isdisjoint(marked(kind))
    assert names == decided | marked(kind), "say in RESULTS, or with `execution`, what a new field does"


@pytest.mark.parametrize("config", [FetchConfig(), IngestConfig(), CurateConfig(), AblationConfig()])
def test_defaults_have_the_digests_that_they_are_stored_with(config: Any) -> None:
    assert digest(results(config)) == digest(config)


def test_how_work_is_done_is_in_no_digest_and_what_comes_out_is() -> None:
    plain = digest(results(IngestConfig()))
    fetch = FetchConfig(user_agent="me@example.org", attempts=9, timeout_seconds=1.0, per_host=8)
    assert digest(results(IngestConfig(workers=3, fetch=fetch))) == plain
    assert digest(results(IngestConfig(min_side=33))) != plain
    assert digest(results(IngestConfig(fetch=FetchConfig(opt_out=())))) != plain
    rules = ("contaminated",)
    here, there = (CurateConfig(rules=rules, benchmark_hashes=name) for name in ("a.csv", "s3://b/c.csv"))
    assert digest(results(here)) == digest(results(there)) != digest(results(CurateConfig()))
    assert digest(results([IngestConfig(workers=2), {"a": (1, here)}])) == digest(
        results([IngestConfig(), {"a": [1, there]}])
    )


def test_answers_of_models_depend_on_no_execution_field() -> None:
    other = {
        "url": "http://elsewhere/v1", "text_url": "http://third/v1", "api_key": "secret", "concurrency": 1,
        "timeout": 1.0, "retries": 0, "patience": 1.0, "first_wait": 0.1, "longest_wait": 1.0,
        "max_reply_bytes": 9, "length_name": "max_completion_tokens", "price_in": 1.0, "price_out": 1.0,
        "budget": 1.0, "budget_tokens": 5, "budget_per_day": 1.0, "budget_tokens_per_day": 5,
        "refusals_in_a_row": 3, "boxes": "one by one", "gpu_tokens_in": 1.0, "gpu_tokens_out": 1.0,
        "gpu_price": 1.0,
    }  # fmt: skip
    of_engines = {
        "replicas": 3, "engine": {"tensor_parallel_size": 4}, "gpu": False, "python": "/python", "cpus": 2,
        "batch_size": 4, "rows_per_task": 2, "idle_seconds": 1.0,
    }  # fmt: skip
    assert set(other) == marked(OpenAIConfig) and set(other | of_engines) == marked(VLLMConfig)
    for name, value in other.items():
        assert revision_of(replace(SERVER, **{name: value})) == revision_of(SERVER), name
    for name, value in of_engines.items():
        assert revision_of(replace(ENGINES, **{name: value})) == revision_of(ENGINES), name
    assert "secret" not in repr(replace(SERVER, api_key="secret"))


@pytest.mark.parametrize("name", sorted(OTHER_ANSWERS))
def test_answers_of_models_depend_on_every_other_field(name: str) -> None:
    assert set(OTHER_ANSWERS) == set(RESULTS[OpenAIConfig].split())
    start = replace(SERVER, text_model="phi") if name == "text_revision" else SERVER
    assert revision_of(replace(start, **{name: OTHER_ANSWERS[name]})) != revision_of(start)
