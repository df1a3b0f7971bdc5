"""The hash that names weights: what it does not see, and what it does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import Qwen2_5_VLForConditionalGeneration

from got_core.model.formats import shards
from got_core.model.formats.shards import stored_tensors
from got_core.model.formats.weights import weights_hash
from got_core.model.pipeline import GoTPipeline
from got_core.train.run import weights_hash as weights_hash_of_runs
from tests.got_core.model.tiny_checkpoints import Folders, old_names, write_published, write_shards
from tests.got_core.tiny_pipeline import tiny_pipeline

STATE = {
    "first.weight": torch.arange(6.0).reshape(2, 3),
    "second.weight": torch.linspace(-1, 1, 8).bfloat16(),
    "empty": torch.zeros(0, 4),
    "number": torch.tensor(7),
    "flag": torch.tensor([True, False]),
    "half": torch.tensor([0.5], dtype=torch.float16),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return write_published(tmp_path_factory.mktemp("published"))


def file_hash(folder: Path, state: dict[str, Tensor], **metadata: str) -> str:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    save_file(state, folder / "model.safetensors", metadata or None)
    return weights_hash(folder)


def test_the_same_pipeline_saved_twice_in_other_files_is_one(tmp_path: Path) -> None:
    pipeline = tiny_pipeline()
    pipeline.save_pretrained(tmp_path / "whole")
    pipeline.save_pretrained(tmp_path / "cut", max_shard_size="60KB")
    assert len(list((tmp_path / "cut").rglob("*.safetensors"))) > 8
    GoTPipeline.from_pretrained(tmp_path / "cut").save_pretrained(tmp_path / "again")
    names = {weights_hash(tmp_path / name) for name in ("whole", "cut", "again")}
    assert len(names) == 1 and len(names.pop()) == 64
    assert weights_hash_of_runs is weights_hash


def test_old_and_new_names_are_one(folders: Folders, tmp_path: Path) -> None:
    old = load_file(folders.qwen / "model.safetensors")
    assert "model.norm.weight" in old
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folders.qwen)
    new = {key: value for key, value in model.state_dict().items() if key != "lm_head.weight"}
    assert "model.language_model.norm.weight" in new
    assert file_hash(tmp_path, old) == file_hash(tmp_path, new) == weights_hash(folders.qwen)
    assert file_hash(tmp_path, old_names(new)) == weights_hash(folders.qwen)


def test_names_of_the_first_autoencoders_are_those_of_present_ones(folders: Folders, tmp_path: Path) -> None:
    new = load_file(folders.sdxl / "vae" / "diffusion_pytorch_model.safetensors")
    spelled = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    old = {}
    for key, value in new.items():
        for present, first in spelled.items():
            key = key.replace(present, first)
        old[key] = value
    assert old.keys() != new.keys()
    first, present = tmp_path / "old", folders.sdxl / "vae"
    first.mkdir()
    save_file(old, first / "diffusion_pytorch_model.safetensors")
    assert weights_hash(first) == weights_hash(present)
    # They are one to diffusers too.
    (first / "config.json").write_text((present / "config.json").read_text())
    loaded = [AutoencoderKL.from_pretrained(folder).state_dict() for folder in (first, present)]
    assert all(torch.equal(loaded[0][key], value) for key, value in loaded[1].items())


def test_order_metadata_files_and_format_do_not_count(tmp_path: Path) -> None:
    plain = file_hash(tmp_path / "a", STATE)
    assert file_hash(tmp_path / "a", dict(reversed(STATE.items())), format="pt", note="x", other="y") == plain
    for suffix in (".safetensors", ".bin"):
        write_shards(STATE, tmp_path / suffix, suffix)
        assert weights_hash(tmp_path / suffix) == plain
    whole = tmp_path / "bin"
    whole.mkdir()
    state = STATE | {"first.weight": torch.arange(6.0).reshape(2, 3).T.contiguous().T}
    assert not state["first.weight"].is_contiguous()
    torch.save(state, whole / "pytorch_model.bin")
    assert weights_hash(whole) == plain
    # A copy that was made of a .bin is no other weight.
    shards.read_state(whole)
    assert (whole / "pytorch_model.bin.safetensors").is_file()
    assert weights_hash(whole) == plain


def _flip(value: Tensor) -> Tensor:
    changed = value.clone()
    changed.view(-1).view(torch.uint8)[-1] ^= 1
    return changed


@pytest.mark.parametrize(
    "change",
    [
        lambda state: {**state, "first.weight": _flip(state["first.weight"])},
        lambda state: {**state, "second.weight": _flip(state["second.weight"])},
        lambda state: {**state, "first.weight": state["first.weight"].reshape(3, 2)},
        lambda state: {**state, "first.weight": state["first.weight"].double()},
        # The same bytes, another type.
        lambda state: {**state, "second.weight": state["second.weight"].view(torch.float16)},
        lambda state: {**state, "empty": torch.zeros(4, 0)},
        lambda state: {key: value for key, value in state.items() if key != "empty"},
        lambda state: {**state, "more": torch.zeros(1)},
        lambda state: {key + "_": value for key, value in state.items()},
        lambda state: {
            **state,
            "number": state["flag"].clone(),
            "flag": state["number"].clone(),
        },
    ],
)
def test_every_value_type_shape_and_name_counts(
    tmp_path: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]
) -> None:
    assert file_hash(tmp_path, change(STATE)) != file_hash(tmp_path, STATE)


def test_the_part_that_a_tensor_lies_in_counts(tmp_path: Path) -> None:
    for home, part in (("a", "unet"), ("b", "vae")):
        file_hash(tmp_path / home / part, STATE)
    assert weights_hash(tmp_path / "a") != weights_hash(tmp_path / "b")


def test_folders_behind_links_count_and_circles_end(tmp_path: Path) -> None:
    real, home = tmp_path / "real", tmp_path / "home"
    whole = file_hash(home / "unet", STATE)
    named = weights_hash(home)
    (home / "unet").rename(real)
    (home / "unet").symlink_to(real)
    (home / "up").symlink_to(home)
    assert weights_hash(home) == named and weights_hash(real) == whole


def test_a_head_that_is_the_embedding_counts_once(tmp_path: Path) -> None:
    embedding = torch.arange(6.0).reshape(3, 2)
    tied = file_hash(tmp_path, {"model.embed_tokens.weight": embedding})
    spelled = {"model.language_model.embed_tokens.weight": embedding, "lm_head.weight": embedding.clone()}
    assert file_hash(tmp_path, spelled) == tied
    assert file_hash(tmp_path, spelled | {"lm_head.weight": _flip(embedding)}) != tied
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    torch.save(
        {"model.embed_tokens.weight": embedding, "lm_head.weight": embedding}, tmp_path / "pytorch_model.bin"
    )
    assert weights_hash(tmp_path) == tied


def test_adapters_and_other_files_count_variants_beside_plain_weights_do_not(tmp_path: Path) -> None:
    plain = file_hash(tmp_path, STATE)
    save_file({"first.weight": torch.ones(1)}, tmp_path / "model.fp16.safetensors")
    assert weights_hash(tmp_path) == plain
    assert weights_hash(tmp_path, variant="fp16") != plain
    save_file({"lora_A.weight": torch.ones(1)}, tmp_path / "adapter_model.safetensors")
    assert weights_hash(tmp_path) != plain


def test_what_an_index_does_not_list_does_not_count(tmp_path: Path) -> None:
    write_shards(STATE, tmp_path, ".safetensors")
    before = weights_hash(tmp_path)
    first = tmp_path / "model-00001-of-00003.safetensors"
    save_file(load_file(first) | {"stray": torch.ones(1)}, first)
    assert weights_hash(tmp_path) == before


def test_damaged_and_missing_files_are_named(tmp_path: Path) -> None:
    write_shards(STATE, tmp_path, ".safetensors")
    first = tmp_path / "model-00001-of-00003.safetensors"
    first.write_bytes(first.read_bytes()[:-2])
    with pytest.raises(ValueError, match=r"model-00001-of-00003\.safetensors is damaged"):
        weights_hash(tmp_path)
    first.unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks 1 of 3 weight files: model-00001"):
        weights_hash(tmp_path)
    assert json.loads((tmp_path / "model.safetensors.index.json").read_text())


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_tensors_are_read_in_pieces(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    value = torch.randn(1000, 37)
    if name.endswith(".bin"):
        torch.save({"a": value}, tmp_path / name)
    else:
        save_file({"first": torch.ones(3), "a": value}, tmp_path / name)
    whole = weights_hash(tmp_path)
    monkeypatch.setattr(shards, "CHUNK", 4096)
    (stored,) = [one for one in stored_tensors(tmp_path) if one.key == "a"]
    pieces = [bytes(piece) for piece in stored.chunks()]
    assert max(map(len, pieces)) == 4096 and b"".join(pieces) == value.numpy().tobytes()
    assert weights_hash(tmp_path) == whole
