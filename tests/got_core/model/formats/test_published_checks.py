"""Published folders as they come: other kinds of models, variants, .bin, damage. Said before training."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from got_core.model.formats.files import find_weights
from got_core.model.formats.published import load_foundation_folders
from got_core.model.formats.released import CheckpointKeysError
from got_core.model.pipeline import GoTPipeline
from tests.got_core.model.tiny_checkpoints import SETTINGS, Folders, write_published, write_shards

UNET, VAE = "sdxl/unet", "sdxl/vae"
DIFFUSERS = "diffusion_pytorch_model"
UNET_CONFIG, VAE_CONFIG = f"{UNET}/config.json", f"{VAE}/config.json"
SCHEDULER = "sdxl/scheduler/scheduler_config.json"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return write_published(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="module")
def plain(published: Folders) -> GoTPipeline:
    return load_foundation_folders(published.sdxl, published.qwen, **SETTINGS)


@pytest.fixture
def home(published: Folders, tmp_path: Path) -> Path:
    """Folders ``sdxl`` and ``qwen`` of the test's own."""
    shutil.copytree(published.sdxl.parent, tmp_path / "own")
    return tmp_path / "own"


def load(home: Path, **options: Any) -> GoTPipeline:
    return load_foundation_folders(home / "sdxl", home / "qwen", **{**SETTINGS, **options})


def change(path: Path, **settings: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def same(mine: GoTPipeline, other: GoTPipeline, dtype: torch.dtype = torch.float32) -> bool:
    return all(
        torch.equal(value, getattr(other, part).state_dict()[name].to(dtype).to(value.dtype))
        for part in ("mllm", "unet", "vae")
        for name, value in getattr(mine, part).state_dict().items()
    )


# -- what the folders say of themselves ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "settings", "message"),
    [
        (SCHEDULER, {"prediction_type": "v_prediction"}, "'v_prediction', the recipe wants 'epsilon'"),
        (SCHEDULER, {"prediction_type": "sample"}, "predicts 'sample of diffusion steps'"),
        (SCHEDULER, {"prediction_type": None}, "predicts 'None'"),
        (SCHEDULER, {"_class_name": "FlowMatchEulerDiscreteScheduler"}, "'flow'.* set prediction to"),
        (SCHEDULER, {"prediction_type": "flow_prediction"}, "predicts 'flow'"),
        (SCHEDULER, {"_class_name": "EDMEulerScheduler"}, "predicts 'epsilon of EDM'"),
        (UNET_CONFIG, {"in_channels": 9}, r"unet takes 9 channels and gives 4 \(inpainting\)"),
        (UNET_CONFIG, {"in_channels": 8}, r"takes 8 channels and gives 4 \(edits by instruction\)"),
        (UNET_CONFIG, {"in_channels": 12}, r"\(GoT's own\).* load_got_checkpoint"),
        (UNET_CONFIG, {"addition_embed_type": None}, "no U-Net of SDXL's kind"),
        (UNET_CONFIG, {"projection_class_embeddings_input_dim": 20}, "no room for six size numbers"),
        (
            UNET_CONFIG,
            {
                "cross_attention_dim": 1280,
                "projection_class_embeddings_input_dim": 2560,
                "addition_time_embed_dim": 256,
            },
            "refiner",
        ),
        (UNET_CONFIG, {"encoder_hid_dim_type": "image_proj"}, "encoder_hid_dim_type 'image_proj'"),
        (UNET_CONFIG, {"_class_name": "UNet3DConditionModel"}, "of class 'UNet3DConditionModel'"),
        (VAE_CONFIG, {"_class_name": "AsymmetricAutoencoderKL"}, "of class 'AsymmetricAutoencoderKL'"),
        (VAE_CONFIG, {"latent_channels": 16}, "has 16 latent channels, the U-Net beside it draws 4"),
        (VAE_CONFIG, {"out_channels": 4}, "takes 3 colour channels and gives 4"),
        (VAE_CONFIG, {"latents_mean": [0.1] * 4}, "scales latents by latents_mean"),
        ("qwen/config.json", {"model_type": "qwen2_vl"}, "of type 'qwen2_vl'.* is a 'qwen2_5_vl'"),
        ("qwen/config.json", {"quantization_config": {"quant_method": "awq"}}, "quantized weights"),
    ],
)  # fmt: skip
def test_other_kinds_of_models_are_named(home: Path, file: str, settings: dict, message: str) -> None:
    change(home / file, **settings)
    # Before a weight is read: there are none.
    for path in home.rglob("*.safetensors"):
        path.unlink()
    with pytest.raises(ValueError, match=message) as caught:
        load(home)
    assert str(home) in str(caught.value)


def test_a_wide_u_net_needs_a_language_model_that_was_aligned_with_it(home: Path) -> None:
    change(home / UNET_CONFIG, in_channels=12)
    projector = {"_class_name": "GuidanceProjector", "hidden_size": 32, "cross_attention_dim": 16}
    (home / "qwen" / "projector").mkdir()
    (home / "qwen" / "projector" / "config.json").write_text(json.dumps(projector | {"pooled_dim": 9}))
    with pytest.raises(
        ValueError, match=r"projector has pooled_dim 9, .* between have 8: take the two"
    ) as said:
        load(home)
    assert "GoT's own" not in str(said.value)


def test_an_index_may_say_what_no_scheduler_does(home: Path) -> None:
    index = {"_class_name": "StableDiffusionXLPipeline", "prediction": "sample"}
    (home / "sdxl" / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="predicts 'sample', the recipe wants 'epsilon'"):
        load(home)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({"_class_name": "StableDiffusionPipeline"}, "a folder of StableDiffusionPipeline, not of SDXL"),
        ({"_class_name": "StableDiffusionXLInpaintPipeline"}, "for inpainting"),
        (
            {"_class_name": "StableDiffusionXLImg2ImgPipeline", "requires_aesthetics_score": True},
            "SDXL's refiner",
        ),
    ],
)
def test_the_index_of_another_pipeline_is_named(home: Path, index: dict, message: str) -> None:
    (home / "sdxl" / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=message):
        load(home)
    (home / "sdxl" / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionXLPipeline"}))
    load(home)


def test_all_faults_are_named_at_once(home: Path) -> None:
    change(home / SCHEDULER, prediction_type="v_prediction")
    change(home / f"{VAE}/config.json", latent_channels=8)
    with pytest.raises(ValueError, match=r"(?s)8 latent channels.*v_prediction"):
        load(home)


def test_weights_of_a_straight_path_fit_a_recipe_of_one(home: Path) -> None:
    for name in ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"):
        (home / SCHEDULER).write_text(json.dumps({"_class_name": name, "shift": 2.0}))
        pipeline = load(home, prediction="flow")
        assert type(pipeline.scheduler).__name__ == name and pipeline.scheduler.config["shift"] == 2.0
    assert pipeline("a cat").images[0].size == (16, 16)
    for wanted in ("epsilon", "sample"):
        with pytest.raises(ValueError, match=f"predicts 'flow', the recipe wants '{wanted}'"):
            load(home, prediction=wanted)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (SCHEDULER, "scheduler has no scheduler_config.json"),
        (UNET_CONFIG, "unet has no config.json"),
        ("qwen/config.json", "qwen has no config.json"),
        ("sdxl/scheduler", "folders of configurations are missing: .*scheduler"),
        (f"{VAE}/{DIFFUSERS}.safetensors", r"vae holds none of model.safetensors.*there are config\.json"),
        ("qwen/model.safetensors", "qwen holds none of"),
    ],
)
def test_what_is_not_there_is_named(home: Path, name: str, message: str) -> None:
    path = home / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(FileNotFoundError, match=message):
        load(home)


@pytest.mark.parametrize("name", ["preprocessor_config.json", "tokenizer.json"])
def test_parts_of_the_language_model_that_are_not_there_are_named(home: Path, name: str) -> None:
    (home / "qwen" / name).unlink()
    with pytest.raises(ValueError, match=rf"qwen lacks its .*{name}"):
        load(home)


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_configuration_that_is_none_is_named(home: Path, text: str) -> None:
    (home / SCHEDULER).write_text(text)
    with pytest.raises(ValueError, match=r"scheduler_config\.json is not"):
        load(home)


# -- weights under other names ------------------------------------------------------------------------


def store(folder: Path, state: dict[str, Tensor], name: str) -> None:
    if name.endswith(".bin"):
        torch.save(state, folder / name)
    else:
        save_file(state, folder / name)


def cut(folder: Path, state: dict[str, Tensor], index: str, pattern: str) -> None:
    """Two shards and an index, called as asked for."""
    names, keys = [pattern.format(k) for k in (1, 2)], sorted(state)
    for k, name in enumerate(names):
        store(folder, {key: state[key] for key in keys[k::2]}, name)
    weight_map = {key: names[k % 2] for k, key in enumerate(keys)}
    (folder / index).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def take_out(folder: Path) -> dict[str, Tensor]:
    (path,) = folder.glob("*.safetensors")
    state = {key: value.clone() for key, value in load_file(path).items()}
    path.unlink()
    return state


VARIANTS: dict[str, Callable[[Path, dict[str, Tensor]], None]] = {
    "whole": lambda folder, state: store(folder, state, f"{DIFFUSERS}.fp16.safetensors"),
    "sharded": lambda folder, state: cut(
        folder,
        state,
        f"{DIFFUSERS}.safetensors.index.fp16.json",
        f"{DIFFUSERS}.fp16-{{:05d}}-of-00002.safetensors",
    ),
    "sharded as before": lambda folder, state: cut(
        folder,
        state,
        f"{DIFFUSERS}.safetensors.index.fp16.json",
        f"{DIFFUSERS}-{{:05d}}-of-00002.fp16.safetensors",
    ),
    "bin": lambda folder, state: store(folder, state, f"{DIFFUSERS}.fp16.bin"),
}


@pytest.mark.parametrize("kind", VARIANTS)
@pytest.mark.parametrize("asked", [None, "fp16"])
def test_a_variant_is_found_or_set(home: Path, plain: GoTPipeline, kind: str, asked: str | None) -> None:
    for part in (UNET, VAE):
        state = {key: value.half() for key, value in take_out(home / part).items()}
        VARIANTS[kind](home / part, state)
    pipeline = load(home, variant=asked)
    assert pipeline.unet.dtype == pipeline.vae.dtype == torch.float32
    assert all(
        torch.equal(value, plain.vae.state_dict()[name].half().float())
        for name, value in pipeline.vae.state_dict().items()
    )
    with pytest.raises(ValueError, match=r"no weights of variant 'bf16'; there are \['fp16'\]"):
        load(home, variant="bf16")


def test_mixed_folders_plain_safetensors_come_first(home: Path, plain: GoTPipeline) -> None:
    zeros = {key: torch.zeros_like(value) for key, value in take_out_copy(home / UNET).items()}
    store(home / UNET, zeros, f"{DIFFUSERS}.fp16.safetensors")
    store(home / UNET, zeros, f"{DIFFUSERS}.bin")
    store(home / VAE, take_out(home / VAE), f"{DIFFUSERS}.fp16.safetensors")
    pipeline = load(home)
    assert same(pipeline, plain)
    # What is asked for is taken where it is.
    assert not any(value.any() for value in load(home, variant="fp16").unet.state_dict().values())
    (home / UNET / f"{DIFFUSERS}.safetensors").unlink()
    (home / UNET / f"{DIFFUSERS}.fp16.safetensors").rename(home / UNET / f"{DIFFUSERS}.fp16.bin_")
    assert find_weights(home / UNET).path.name == f"{DIFFUSERS}.bin"


def take_out_copy(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / f"{DIFFUSERS}.safetensors")


def test_several_variants_are_nobodys_choice(home: Path) -> None:
    state = take_out(home / UNET)
    for variant in ("fp16", "bf16"):
        store(home / UNET, state, f"{DIFFUSERS}.{variant}.safetensors")
    with pytest.raises(
        ValueError, match=r"variants of its weights \(bf16, fp16\) and no plain ones: name one"
    ):
        load(home)
    load(home, variant="bf16")


@pytest.mark.parametrize("sharded", [False, True])
def test_bin_files_are_read_and_nothing_is_written(home: Path, plain: GoTPipeline, sharded: bool) -> None:
    for part, stem in ((UNET, DIFFUSERS), (VAE, DIFFUSERS), ("qwen", "pytorch_model")):
        state = take_out(home / part)
        if sharded:
            cut(home / part, state, f"{stem}.bin.index.json", f"{stem}-{{:05d}}-of-00002.bin")
        else:
            store(home / part, state, f"{stem}.bin")
    before = set(home.rglob("*"))
    assert same(load(home), plain)
    assert set(home.rglob("*")) == before


class _Foreign:
    """No tensor."""


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"a": _Foreign()}, r"unet/diffusion_pytorch_model\.bin was refused"),
        ({"state_dict": {"a": torch.zeros(1)}}, r"unet/diffusion_pytorch_model\.bin is not a state dict"),
        ({"a": torch.zeros(2, 2).to_sparse()}, "dense tensors by name"),
    ],
)
def test_a_bin_file_of_more_than_tensors_is_refused_by_name(home: Path, data: object, message: str) -> None:
    take_out(home / UNET)
    torch.save(data, home / UNET / f"{DIFFUSERS}.bin")
    with pytest.raises(ValueError, match=message):
        load(home)


def test_damaged_weights_and_missing_shards_are_named(home: Path) -> None:
    path = home / UNET / f"{DIFFUSERS}.safetensors"
    whole = path.read_bytes()
    for damaged in (whole[:-8], b"version https://git-lfs.github.com/spec/v1\n", b""):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"diffusion_pytorch_model\.safetensors is damaged"):
            load(home)
    path.write_bytes(whole)
    write_shards(take_out(home / "qwen"), home / "qwen", ".safetensors")
    load(home)
    (home / "qwen" / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"qwen lacks 1 of 3 weight files: model-00002-of-00003"):
        load(home)
    (home / "qwen" / "model.safetensors.index.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"holds 2 shards such as model-00001.* but not their index"):
        load(home)


def test_a_head_beside_a_tied_embedding_is_taken(home: Path) -> None:
    path = home / "qwen" / "model.safetensors"
    state = load_file(path)
    head = torch.randn(state["model.embed_tokens.weight"].shape)
    save_file({**state, "lm_head.weight": head}, path, {"format": "pt"})
    pipeline = load(home)
    assert torch.equal(pipeline.mllm.lm_head.weight, head)
    assert not pipeline.mllm.config.tie_word_embeddings


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_weights_that_are_not_finite_are_named(home: Path, value: float) -> None:
    path = home / UNET / f"{DIFFUSERS}.safetensors"
    state = load_file(path)
    state["conv_out.bias"][1] = value
    save_file(state, path)
    with pytest.raises(
        CheckpointKeysError, match=r"1 not finite\nnot finite:\n  unet\.conv_out\.bias"
    ) as caught:
        load(home)
    assert caught.value.infinite == ("unet.conv_out.bias",)


def test_one_name_in_two_spellings_is_named(home: Path) -> None:
    path = home / "qwen" / "model.safetensors"
    state = load_file(path)
    twice = {**state, "model.language_model.norm.weight": torch.zeros_like(state["model.norm.weight"])}
    save_file(twice, path, {"format": "pt"})
    with pytest.raises(CheckpointKeysError, match=r"norm\.weight"):
        load(home)


def test_the_first_autoencoders_names_are_read(home: Path, plain: GoTPipeline) -> None:
    spelled = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    state = {}
    for key, value in take_out(home / VAE).items():
        for present, first in spelled.items():
            key = key.replace(present, first)
        state[key] = value
    store(home / VAE, state, f"{DIFFUSERS}.safetensors")
    assert same(load(home), plain)
