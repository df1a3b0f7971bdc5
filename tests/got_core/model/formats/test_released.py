"""The released layout: names, LoRA, shards, every bad key by name, and the way back."""

from __future__ import annotations

import json
import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from got_core.chain.grammar import parse
from got_core.model.formats.released import (
    CheckpointKeysError,
    ConfigFolders,
    Lora,
    load_got_checkpoint,
    merge_lora,
    released_state,
    save_got_checkpoint,
)
from got_core.model.formats.shards import read_state
from got_core.model.pipeline import GoTPipeline
from tests.got_core.model.tiny_checkpoints import (
    ALPHA,
    RANK,
    SETTINGS,
    Folders,
    write_published,
    write_shards,
)
from tests.got_core.tiny_pipeline import TINY as SCENES
from tests.got_core.tiny_pipeline import tiny_pipeline

CHAIN = parse("a cat (100,100),(700,800)")
LORA = Lora(rank=RANK, alpha=ALPHA)
LAYER = "mllm.base_model.model.model.layers.0"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return write_published(tmp_path_factory.mktemp("published"))


def load(folder: Path, folders: Folders, **options: Any) -> GoTPipeline:
    configs = ConfigFolders.published(folders.sdxl, folders.qwen)
    return load_got_checkpoint(folder, configs, **{"lora": LORA, **SETTINGS, **options})


def draw(pipeline: GoTPipeline) -> torch.Tensor:
    return pipeline.draw(CHAIN, "a cat", generator=torch.Generator().manual_seed(0), output_type="pt")


@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
def test_load_draw_save_load_gives_the_same_picture(folders: Folders, tmp_path: Path, suffix: str) -> None:
    write_shards(folders.released, tmp_path / "got", suffix)
    first = load(tmp_path / "got", folders)
    picture = draw(first)
    save_got_checkpoint(first, tmp_path / "again", max_shard_size="60KB")
    assert len(list((tmp_path / "again").glob("*.safetensors"))) > 3
    second = load_got_checkpoint(tmp_path / "again")
    assert torch.equal(draw(second), picture)
    before, after = released_state(first), released_state(second)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert second.config["source_size"] == SETTINGS["source_size"]


def test_lora_is_merged_as_peft_merges_it_in_the_vision_tower_too(folders: Folders, tmp_path: Path) -> None:
    write_shards(folders.released, tmp_path)
    state = load(tmp_path, folders).mllm.state_dict()
    assert state.keys() == folders.merged.keys()
    assert all(torch.equal(state[key], value) for key, value in folders.merged.items())
    key = "visual.blocks.0.mlp.up_proj.base_layer.weight"
    assert not torch.equal(
        folders.released[f"mllm.base_model.model.{key}"], state["model.visual.blocks.0.mlp.up_proj.weight"]
    )
    # Embedding and head were trained apart, though the published model ties them.
    assert not torch.equal(state["lm_head.weight"], state["model.language_model.embed_tokens.weight"])


def test_merging_half_precision_rounds_once() -> None:
    torch.manual_seed(0)
    weight, down, up = (torch.randn(shape).bfloat16() for shape in ((6, 5), (2, 5), (6, 2)))
    merged = merge_lora(weight, down, up, Lora(rank=2, alpha=3))
    exact = weight.double() + 1.5 * up.double() @ down.double()
    assert merged.dtype == torch.bfloat16
    assert torch.equal(merged, exact.to(torch.float32).bfloat16())


def test_a_checkpoint_can_be_loaded_in_half_precision(folders: Folders, tmp_path: Path) -> None:
    write_shards(folders.released, tmp_path)
    pipeline = load(tmp_path, folders, dtype=torch.bfloat16)
    parts = (pipeline.mllm, pipeline.projector, pipeline.unet, pipeline.vae)
    assert {parameter.dtype for part in parts for parameter in part.parameters()} == {torch.bfloat16}
    assert torch.isfinite(draw(pipeline)).all()


def test_every_bad_key_is_named_in_one_error(folders: Folders, tmp_path: Path) -> None:
    state = dict(folders.released)
    gone = [
        "unet.conv_out.bias",
        "output_projector.projector.bias",
        f"{LAYER}.self_attn.q_proj.base_layer.bias",
        f"{LAYER}.self_attn.k_proj.lora_B.default.weight",
        f"{LAYER}.input_layernorm.modules_to_save.default.weight",
        "mllm.base_model.model.visual.patch_embed.proj.weight",
    ]
    for key in gone:
        del state[key]
    shape = state["vae.decoder.conv_in.bias"].shape
    state["vae.decoder.conv_in.bias"] = torch.zeros(shape[0] + 1)
    state[f"{LAYER}.mlp.up_proj.lora_A.default.weight"] = torch.zeros(RANK + 1, 32)
    extra = [
        "text_encoder.embedding",
        "unet.new.weight",
        "mllm.base_model.model.model.layers.7.mlp.up_proj.weight",
        f"{LAYER}.self_attn.q_proj.lora_A.second.weight",
    ]
    state |= {key: torch.zeros(1) for key in extra}
    write_shards(state, tmp_path)
    with pytest.raises(CheckpointKeysError) as caught:
        load(tmp_path, folders)
    error = caught.value
    assert sorted(error.missing) == sorted(gone)
    assert sorted(error.unexpected) == sorted(extra)
    assert [line.split()[0] for line in error.misshapen] == [
        f"{LAYER}.mlp.up_proj.lora_A.default.weight",
        "vae.decoder.conv_in.bias",
    ]
    assert f"(4, 32), the model wants ({RANK}, 32)" in str(error)
    assert "6 missing, 4 not expected, 2 of another shape" in str(error)
    assert all(key in str(error) for key in (*gone, *extra))


def test_a_checkpoint_without_lora_keys_is_not_taken_for_a_merged_one(
    folders: Folders, tmp_path: Path
) -> None:
    state = {key: value for key, value in folders.released.items() if ".lora_" not in key}
    write_shards(state, tmp_path)
    with pytest.raises(CheckpointKeysError) as caught:
        load(tmp_path, folders)
    assert len(caught.value.missing) == len(folders.released) - len(state)


def test_names_of_transformers_5_and_plain_names_are_read_too(folders: Folders, tmp_path: Path) -> None:
    state = {key: value for key, value in folders.released.items() if not key.startswith("mllm.")}
    state |= {f"mllm.{key}": value for key, value in folders.merged.items()}
    write_shards(state, tmp_path)
    mllm = load(tmp_path, folders).mllm.state_dict()
    assert all(torch.equal(mllm[key], value) for key, value in folders.merged.items())
    del state["mllm.model.language_model.norm.weight"]
    write_shards(state, tmp_path)
    with pytest.raises(CheckpointKeysError, match=r"mllm\.model\.language_model\.norm\.weight"):
        load(tmp_path, folders)


def test_the_frozen_autoencoder_may_come_from_elsewhere(folders: Folders, tmp_path: Path) -> None:
    state = {key: value for key, value in folders.released.items() if not key.startswith("vae.")}
    write_shards(state, tmp_path)
    with pytest.raises(CheckpointKeysError, match="missing"):
        load(tmp_path, folders)
    vae = load(tmp_path, folders, vae_from_configs=True).vae.state_dict()
    assert all(torch.equal(vae[key], folders.released[f"vae.{key}"]) for key in vae)
    # One in the checkpoint is then left aside.
    write_shards(folders.released | {"vae.quant_conv.bias": torch.ones(8)}, tmp_path)
    vae = load(tmp_path, folders, vae_from_configs=True).vae.state_dict()
    assert torch.equal(vae["quant_conv.bias"], folders.released["vae.quant_conv.bias"])


def test_a_key_that_the_other_autoencoder_lacks_is_named(tmp_path: Path) -> None:
    folders = write_published(tmp_path / "published")
    write_shards(folders.released, tmp_path / "got")
    weights = folders.sdxl / "vae" / "diffusion_pytorch_model.safetensors"
    state = load_file(weights)
    del state["decoder.conv_in.bias"]
    save_file(state, weights, {"format": "pt"})
    with pytest.raises(CheckpointKeysError, match=r"sdxl/vae do not fit the model: 1 missing") as caught:
        load(tmp_path / "got", folders, vae_from_configs=True)
    assert caught.value.missing == ("vae.decoder.conv_in.bias",)


def test_a_unet_with_a_skip_comes_back_as_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    pipeline = tiny_pipeline(config=replace(SCENES, unet=replace(SCENES.unet, input_skip=True)))
    torch.nn.init.normal_(pipeline.unet.input_skip.weight, std=0.1)
    save_got_checkpoint(pipeline, tmp_path / "got")
    again = load_got_checkpoint(tmp_path / "got")
    assert torch.equal(draw(again), draw(pipeline))
    config = tmp_path / "got" / "unet" / "config.json"
    config.write_text(config.read_text().replace("UNetWithInputSkip", "UNetOfSomebody"))
    with pytest.raises(ValueError, match="of class 'UNetOfSomebody'; known are UNet2DConditionModel"):
        load_got_checkpoint(tmp_path / "got")


def test_more_image_tokens_than_were_trained_are_refused(folders: Folders, tmp_path: Path) -> None:
    write_shards(folders.released, tmp_path)
    with pytest.raises(ValueError, match=r"300 image tokens need an embedding of .* has 320"):
        load(tmp_path, folders, image_tokens=300)


def test_a_language_model_of_two_types_keeps_the_wider(folders: Folders, tmp_path: Path) -> None:
    state = {
        key: value.bfloat16() if key.startswith("mllm.base_model.model.visual.") else value
        for key, value in folders.released.items()
    }
    write_shards(state, tmp_path)
    mllm = load(tmp_path, folders).mllm.state_dict()
    assert {value.dtype for value in mllm.values()} == {torch.float32}
    plain = [name for name in mllm if "visual" not in name]
    assert all(torch.equal(mllm[name], folders.merged[name]) for name in plain)


def test_a_folder_is_never_written_over_and_lora_is_never_lost(folders: Folders, tmp_path: Path) -> None:
    write_shards(folders.released, tmp_path / "got")
    pipeline = load(tmp_path / "got", folders)
    with pytest.raises(FileExistsError, match="not empty"):
        save_got_checkpoint(pipeline, tmp_path / "got")
    pipeline.mllm.peft_config = {}
    with pytest.raises(ValueError, match="merge_and_unload"):
        save_got_checkpoint(pipeline, tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["got"]


# -- files --------------------------------------------------------------------------------------------

SMALL = {"a": torch.arange(4.0), "b": torch.ones(2, 2), "c": torch.zeros(3)}


def test_pickled_shards_are_converted_once(tmp_path: Path) -> None:
    folder, cache = tmp_path / "got", tmp_path / "cache"
    write_shards(SMALL, folder)
    before = set(folder.iterdir())
    assert all(torch.equal(SMALL[key], value) for key, value in read_state(folder, cache).tensors.items())
    assert set(folder.iterdir()) == before
    (made,) = {path.parent for path in cache.rglob("*.safetensors")}
    stamps = {path: path.stat().st_mtime_ns for path in made.iterdir()}
    assert len(stamps) == 3
    assert read_state(folder, cache).tensors.keys() == SMALL.keys()
    assert {path: path.stat().st_mtime_ns for path in made.iterdir()} == stamps
    # A shard that was replaced is converted again.
    write_shards({**SMALL, "a": torch.full((4,), 9.0)}, folder)
    assert read_state(folder, cache).tensors["a"][0] == 9.0
    read_state(folder)
    assert len(list(folder.glob("*.bin.safetensors"))) == 3


def test_tensors_that_share_memory_are_converted(tmp_path: Path) -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    torch.save({"whole": whole, "again": whole, "part": whole[:, 1]}, tmp_path / "pytorch_model.bin")
    state = read_state(tmp_path).tensors
    assert torch.equal(state["again"], whole) and torch.equal(state["part"], whole[:, 1])


class _Touch:
    """What a malicious shard holds: unpickling it would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("legacy", [False, True])
def test_nothing_in_a_pickle_is_executed(tmp_path: Path, legacy: bool) -> None:
    trap = tmp_path / "trap"
    path = tmp_path / "pytorch_model.bin"
    if legacy:
        path.write_bytes(pickle.dumps({"a": _Touch(trap)}, protocol=2))
    else:
        torch.save({"a": _Touch(trap)}, path)
    with pytest.raises(ValueError, match=r"pytorch_model\.bin was refused"):
        read_state(tmp_path)
    assert not trap.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["pytorch_model.bin"]


@pytest.mark.parametrize("data", [b"hello", b"", b"\x80\x02}q\x00.", b"PK\x03\x04 no archive"])
def test_bytes_that_are_no_weights_are_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(data)
    with pytest.raises(ValueError, match=r"pytorch_model\.bin"):
        read_state(tmp_path)


@pytest.mark.parametrize(
    "name", ["../evil.bin", "/etc/evil.bin", "sub/evil.bin", "evil.pkl", "..\\evil.bin", 7, ""]
)
def test_an_index_cannot_point_elsewhere(tmp_path: Path, name: object) -> None:
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(ValueError, match=r"index\.json: 'a' lies in"):
        read_state(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"weight_map": []}', '{"weight_map": {}}'])
def test_a_broken_index_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(ValueError, match=r"model\.safetensors\.index\.json"):
        read_state(tmp_path)


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds none of model\.safetensors\.index\.json"):
        read_state(tmp_path)
    write_shards(SMALL, tmp_path, ".safetensors")
    second = tmp_path / "model-00002-of-00003.safetensors"
    second.write_bytes(second.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"model-00002-of-00003\.safetensors is damaged"):
        read_state(tmp_path)
    second.unlink()
    with pytest.raises(
        FileNotFoundError, match=r"lacks 1 of 3 weight files: model-00002-of-00003\.safetensors"
    ):
        read_state(tmp_path)


def test_index_and_shards_have_to_agree(tmp_path: Path) -> None:
    write_shards(SMALL, tmp_path, ".safetensors")
    path = tmp_path / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["promised"] = index["weight_map"].pop("a")
    path.write_text(json.dumps(index))
    files = read_state(tmp_path)
    assert files.absent == ("promised",) and files.unlisted == ("a",)
    assert files.tensors.keys() == {"b", "c"}


def test_saved_shards_say_that_lora_is_merged(folders: Folders, tmp_path: Path) -> None:
    write_shards(folders.released, tmp_path / "got")
    save_got_checkpoint(load(tmp_path / "got", folders), tmp_path / "one")
    keys = load_file(tmp_path / "one" / "model.safetensors").keys()
    assert f"{LAYER}.self_attn.q_proj.base_layer.weight" in keys
    assert "mllm.base_model.model.lm_head.modules_to_save.default.weight" in keys
    assert not [key for key in keys if "lora_" in key or "original_module" in key]
    assert load_got_checkpoint(tmp_path / "one").config["resolution"] == SETTINGS["resolution"]


def test_edits_of_released_weights_are_square_until_training_in_buckets(
    folders: Folders, tmp_path: Path
) -> None:
    write_shards(folders.released, tmp_path / "got")
    pipeline = load(tmp_path / "got", folders)
    assert pipeline.config.edit_bucket_multiple is None
    pipeline.register_to_config(edit_bucket_multiple=8)
    save_got_checkpoint(pipeline, tmp_path / "trained")
    assert load_got_checkpoint(tmp_path / "trained").config.edit_bucket_multiple == 8
