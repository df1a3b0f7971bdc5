"""Starting from plain SDXL and Qwen2.5-VL folders."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from got_core.model.formats.published import load_foundation_folders
from got_core.model.formats.released import CheckpointKeysError
from got_core.model.pipeline import GoTPipeline
from got_core.train.config import StageConfig
from got_core.train.prepare import attach_lora
from tests.got_core.model.tiny_checkpoints import (
    IMAGE_TOKENS,
    ROWS,
    SETTINGS,
    Folders,
    edit_file,
    write_published,
)

UNET_FILE = "unet/diffusion_pytorch_model.safetensors"
VAE_FILE = "vae/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return write_published(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="module")
def pipeline(folders: Folders) -> GoTPipeline:
    return load_foundation_folders(folders.sdxl, folders.qwen, **SETTINGS)


def test_the_weights_are_the_published_ones(folders: Folders, pipeline: GoTPipeline) -> None:
    language = load_file(folders.qwen / "model.safetensors")
    mine = pipeline.mllm.state_dict()
    assert torch.equal(
        mine["model.visual.patch_embed.proj.weight"], language["visual.patch_embed.proj.weight"]
    )
    assert torch.equal(mine["model.language_model.norm.weight"], language["model.norm.weight"])
    unet = load_file(folders.sdxl / UNET_FILE)
    assert all(
        torch.equal(unet[k], v) for k, v in pipeline.unet.state_dict().items() if k != "conv_in.weight"
    )
    vae = load_file(folders.sdxl / VAE_FILE)
    assert all(torch.equal(vae[k], v) for k, v in pipeline.vae.state_dict().items())


def test_the_input_is_widened_and_ddpm_takes_over_sdxls_settings(
    folders: Folders, pipeline: GoTPipeline
) -> None:
    weight = pipeline.unet.conv_in.weight
    assert weight.shape[1] == 12 == pipeline.unet.config.in_channels
    assert torch.equal(weight[:, :4], load_file(folders.sdxl / UNET_FILE)["conv_in.weight"])
    assert not weight[:, 4:].any()
    assert type(pipeline.scheduler).__name__ == "DDPMScheduler"
    assert pipeline.scheduler.config["beta_schedule"] == "scaled_linear"
    assert pipeline.scheduler.config["timestep_spacing"] == "leading"


def test_tokens_fall_into_spare_rows_or_the_embedding_grows(folders: Folders, pipeline: GoTPipeline) -> None:
    sequences = pipeline.sequences
    first = len(pipeline.tokenizer) - IMAGE_TOKENS - 2
    assert [sequences.start_id, sequences.end_id] == [first, first + 1]
    assert sequences.image_ids == list(range(first + 2, first + 2 + IMAGE_TOKENS))
    assert pipeline.mllm.get_input_embeddings().num_embeddings == ROWS
    many = load_foundation_folders(folders.sdxl, folders.qwen, **{**SETTINGS, "image_tokens": 64})
    rows = many.mllm.get_input_embeddings().weight
    assert len(rows) == len(many.tokenizer) == first + 66 == many.mllm.lm_head.out_features
    assert torch.equal(rows[:ROWS], pipeline.mllm.get_input_embeddings().weight)


def test_it_plans_draws_and_can_be_trained(folders: Folders) -> None:
    pipeline = load_foundation_folders(folders.sdxl, folders.qwen, **SETTINGS)
    image = pipeline("a cat", generator=torch.Generator().manual_seed(0)).images[0]
    assert image.size == (16, 16)
    # A head tied to the embedding would make PEFT warn, and warnings are errors here.
    wrapped = attach_lora(pipeline.mllm, StageConfig(steps=1, lora_rank=2))
    trained = {name for name, p in wrapped.named_parameters() if p.requires_grad}
    assert {name.split(".")[-4] for name in trained if "modules_to_save" in name} >= {
        "lm_head",
        "embed_tokens",
    }


def test_the_seed_decides_the_projector(folders: Folders) -> None:
    first, second, other = (
        load_foundation_folders(
            folders.sdxl, folders.qwen, seed=seed, **SETTINGS
        ).projector.output_projector.weight
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, second) and not torch.equal(first, other)


def test_every_bad_key_is_named(folders: Folders, tmp_path: Path) -> None:
    sdxl, qwen = (shutil.copytree(source, tmp_path / source.name) for source in (folders.sdxl, folders.qwen))
    edit_file(sdxl / UNET_FILE, {"conv_out.bias": None, "extra": torch.zeros(1)})
    edit_file(sdxl / VAE_FILE, {"decoder.conv_in.bias": torch.zeros(3)})
    edit_file(qwen / "model.safetensors", {"model.norm.weight": None, "visual.extra": torch.zeros(2)})
    with pytest.raises(CheckpointKeysError) as caught:
        load_foundation_folders(sdxl, qwen, **SETTINGS)
    assert caught.value.missing == ("unet.conv_out.bias", "mllm.model.language_model.norm.weight")
    assert caught.value.unexpected == ("unet.extra", "mllm.model.visual.extra")
    assert caught.value.misshapen == ("vae.decoder.conv_in.bias is (3,), the model wants (16,)",)


def test_folders_that_are_not_there_are_named(folders: Folders, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_foundation_folders(tmp_path / "nowhere", folders.qwen)
