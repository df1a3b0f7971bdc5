"""CLIP and DINO from folders in the published format, against transformers' own outputs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer, ViTModel

from got_core.evaluate.network_folders import NetworkError
from got_core.evaluate.network_profiles import BASE, CLIP_B32, CLIP_L14, DINO_S16, LARGE
from got_core.evaluate.networks import load_clip, load_dino, load_networks
from tests.got_core.evaluate.tiny_networks import save_clip, save_dino

CAPTIONS = ["A red house", "a  dog", "a very long caption " * 30]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("networks")
    save_clip(root / "clip")
    save_dino(root / "dino")
    return root


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    sizes = [(300, 224), (224, 500), (64, 64), (512, 512)]
    return [Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in sizes]


def unit(features: torch.Tensor) -> np.ndarray:
    return torch.nn.functional.normalize(features.float(), dim=-1).numpy()


@torch.no_grad()
def test_clip_gives_what_transformers_gives(folders) -> None:
    model = CLIPModel.from_pretrained(folders / "clip").eval()
    pixels = CLIPImageProcessorPil.from_pretrained(folders / "clip")(images=pictures(), return_tensors="pt")
    tokens = CLIPTokenizer.from_pretrained(folders / "clip")(
        CAPTIONS, padding=True, truncation=True, max_length=77, return_tensors="pt"
    )
    clip = load_clip(folders / "clip", batch_size=3)
    found = clip.pictures(pictures())
    np.testing.assert_allclose(found, unit(model.get_image_features(**pixels).pooler_output), atol=1e-6)
    texts = clip.texts(CAPTIONS)
    np.testing.assert_allclose(texts, unit(model.get_text_features(**tokens).pooler_output), atol=1e-6)
    assert found.dtype == texts.dtype == np.float32
    assert np.linalg.norm(found[0] - found[1]) > 1e-3, "unlike pictures have unlike features"
    assert [clip.is_cut(one) for one in CAPTIONS] == [False, False, True]


@torch.no_grad()
def test_dino_is_the_class_token_after_dinos_own_resize(folders) -> None:
    model = ViTModel.from_pretrained(folders / "dino", add_pooling_layer=False).eval()
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    inputs = []
    for picture in pictures():  # DINO's evaluation: shorter side 256, bicubic, middle 224
        width, height = picture.size
        short = min(width, height)
        resized = picture.resize(
            (int(256 * width / short), int(256 * height / short)), Image.Resampling.BICUBIC
        )
        left, top = (resized.width - 224) // 2, (resized.height - 224) // 2
        levels = np.asarray(resized.crop((left, top, left + 224, top + 224)), np.float64) / 255
        inputs.append((levels - mean) / std)
    pixels = torch.from_numpy(np.stack(inputs)).permute(0, 3, 1, 2).float()
    expected = unit(model(pixel_values=pixels).last_hidden_state[:, 0])
    np.testing.assert_allclose(load_dino(folders / "dino").pictures(pictures()), expected, atol=1e-5)


def test_a_pooler_is_left_out(folders, tmp_path) -> None:
    folder = copy_of(folders / "dino", tmp_path / "dino")
    state = load_file(folder / "model.safetensors")
    state |= {"pooler.dense.weight": torch.ones(16, 16), "pooler.dense.bias": torch.ones(16)}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    found = load_dino(folder).pictures(pictures())
    np.testing.assert_allclose(found, load_dino(folders / "dino").pictures(pictures()), atol=1e-6)


def test_bfloat16_is_near_and_another_record(folders) -> None:
    full, half = load_clip(folders / "clip"), load_clip(folders / "clip", dtype="bfloat16")
    assert half.model.dtype == torch.bfloat16 and half.pictures(pictures()).dtype == np.float32
    assert np.sum(half.pictures(pictures()) * full.pictures(pictures()), axis=1) == pytest.approx(1, abs=1e-2)
    assert half.record != full.record
    with pytest.raises(NetworkError, match="float32, bfloat16, float16, got 'int8'"):
        load_clip(folders / "clip", dtype="int8")


def test_records_tell_checkpoints_apart(folders, tmp_path) -> None:
    networks = load_networks(BASE, folders / "clip", folders / "dino")
    records = networks.records()
    assert set(records) == {"clip", "dino"} and records["clip"].name == CLIP_B32.name
    assert set(records["clip"].files) == {"model.safetensors", "tokenizer.json"}
    assert records["clip"].settings["text"]["hidden_size"] == 16
    assert records == load_networks(BASE, folders / "clip", folders / "dino").records()
    other = load_clip(save_clip(tmp_path / "other", seed=5)).record
    assert other.files["model.safetensors"] != records["clip"].files["model.safetensors"]
    assert networks.resize()["dino"] == {"shorter_side": 256, "middle_square": 224, "filter": "bicubic"}


def test_profiles(folders, tmp_path) -> None:
    assert [one.name for one in (BASE, LARGE)] == ["clip-vit-b32+dino-vits16", "clip-vit-l14"]
    large = load_networks(LARGE, save_clip(tmp_path / "large", patch=14))
    assert large.dino is None and set(large.records()) == {"clip"}
    with pytest.raises(NetworkError, match="needs the folder of facebook/dino-vits16 too"):
        load_networks(BASE, folders / "clip")


def copy_of(folder: Path, target: Path) -> Path:
    shutil.copytree(folder, target)
    return target


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda state: state.pop("visual_projection.weight"), "1 missing:\n  visual_projection.weight"),
        (
            lambda state: state.update({"visual_projection.weight": torch.zeros(8, 17)}),
            r"\(8, 17\), .*\(8, 16\)",
        ),
        (lambda state: state.update({"head.weight": torch.zeros(2)}), "1 not expected:\n  head.weight"),
        (lambda state: state["logit_scale"].fill_(torch.nan), "1 not finite:\n  logit_scale"),
    ],
)
def test_weights_that_do_not_fit_are_refused(folders, tmp_path, change, expected) -> None:
    folder = copy_of(folders / "clip", tmp_path / "clip")
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(NetworkError, match=expected):
        load_clip(folder)


def test_old_position_ids_are_no_fault(folders, tmp_path) -> None:
    folder = copy_of(folders / "clip", tmp_path / "clip")
    state = load_file(folder / "model.safetensors")
    state["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    found, expected = load_clip(folder).texts(["a"]), load_clip(folders / "clip").texts(["a"])
    np.testing.assert_allclose(found, expected, atol=1e-6)  # memory is aligned otherwise


OLD_TEXT = {
    "_name_or_path": "",
    "add_cross_attention": False,
    "bad_words_ids": None,
    "bos_token_id": 0,
    "chunk_size_feed_forward": 0,
    "do_sample": False,
    "dropout": 0.0,
    "eos_token_id": 2,
    "num_beams": 1,
    "pad_token_id": 1,
    "torch_dtype": None,
    "torchscript": False,
    "transformers_version": "4.16.0.dev0",
    "use_bfloat16": False,
}
"""What a configuration of 2022 says besides sizes; its ends of texts are none of the tokenizer's."""


def test_a_folder_as_published_in_2022_is_read(folders, tmp_path) -> None:
    folder = copy_of(folders / "clip", tmp_path / "clip")
    config = json.loads((folder / "config.json").read_text())
    config["text_config"] |= OLD_TEXT
    config |= {
        "text_config_dict": config["text_config"],
        "vision_config_dict": None,
        "torch_dtype": "float32",
    }
    config.pop("dtype", None)
    (folder / "config.json").write_text(json.dumps(config))
    tokens = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "vocab.json").write_text(json.dumps(tokens["vocab"]))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer.json").unlink()
    old = {"add_prefix_space": False, "do_lower_case": True, "errors": "replace", "model_max_length": 77}
    special = {
        f"{name}_token": {"__type": "AddedToken", "content": text, "lstrip": False, "normalized": True}
        for name, text in (("bos", "<|startoftext|>"), ("eos", "<|endoftext|>"), ("unk", "<|endoftext|>"))
    }
    (folder / "tokenizer_config.json").write_text(
        json.dumps({**old, **special, "pad_token": "<|endoftext|>"})
    )
    sizes = {"crop_size": 224, "size": 224, "feature_extractor_type": "CLIPFeatureExtractor", "resample": 3}
    stated = json.loads((folder / "preprocessor_config.json").read_text())
    levels = {name: stated[name] for name in ("image_mean", "image_std")}
    (folder / "preprocessor_config.json").write_text(json.dumps({**sizes, **levels}))
    clip, new = load_clip(folder), load_clip(folders / "clip")
    np.testing.assert_allclose(clip.texts(CAPTIONS), new.texts(CAPTIONS), atol=1e-5)
    np.testing.assert_allclose(clip.pictures(pictures()), new.pictures(pictures()), atol=1e-5)
    assert set(clip.record.files) == {"model.safetensors", "vocab.json", "merges.txt"}


def test_other_folders_are_refused(folders, tmp_path) -> None:
    with pytest.raises(NetworkError, match=r"of type 'vit'.* is of type 'clip'"):
        load_clip(folders / "dino")
    with pytest.raises(NetworkError, match=r"224 pixels in patches of 32.*takes 224 in patches of 14"):
        load_clip(folders / "clip", CLIP_L14)
    with pytest.raises(NetworkError, match=r"none/config.json does not exist: .*facebook/dino-vits16"):
        load_dino(tmp_path / "none")
    levels = copy_of(folders / "dino", tmp_path / "levels")
    (levels / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "size": 224}))
    with pytest.raises(NetworkError, match=r"image_mean \[0.5, 0.5, 0.5\].*another network"):
        load_dino(levels, DINO_S16)


def test_files_that_are_missing_or_damaged_are_refused(folders, tmp_path) -> None:
    pickled = copy_of(folders / "dino", tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(
        NetworkError, match=r"lacks model.safetensors \(there is pytorch_model.bin, which is not"
    ):
        load_dino(pickled)
    cut = copy_of(folders / "clip", tmp_path / "cut")
    whole = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(NetworkError, match="cannot be read"):
        load_clip(cut)
    silent = copy_of(folders / "clip", tmp_path / "silent")
    (silent / "tokenizer.json").unlink()
    with pytest.raises(NetworkError, match=r"neither tokenizer.json nor vocab.json with merges.txt"):
        load_clip(silent)


def test_files_that_say_something_else_are_refused(folders, tmp_path) -> None:
    folder = copy_of(folders / "clip", tmp_path / "clip")
    (folder / "tokenizer.json").write_text('{"model": 3}')
    with pytest.raises(NetworkError, match=r"the tokenizer in .* cannot be read"):
        load_clip(folder)
    (folder / "preprocessor_config.json").write_text('{"image_std": "none"}')
    with pytest.raises(NetworkError, match="has image_std none"):
        load_clip(folder)
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["hidden_size"] = "wide"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(NetworkError, match="is not one of openai/clip-vit-base-patch32"):
        load_clip(folder)
    (folder / "config.json").write_text("[]")
    with pytest.raises(NetworkError, match="is not a JSON object"):
        load_clip(folder)


def test_a_device_that_is_not_there_is_named(folders) -> None:
    with pytest.raises(NetworkError, match="cannot be put on the device 'nowhere'"):
        load_dino(folders / "dino", device="nowhere")


def test_a_tokenizer_of_another_model_is_refused(folders, tmp_path) -> None:
    folder = copy_of(folders / "clip", tmp_path / "clip")
    vocab = {"a</w>": 0, "<|startoftext|>": 1, "<|endoftext|>": 2}
    CLIPTokenizer(vocab=vocab, merges=[]).save_pretrained(folder)
    with pytest.raises(NetworkError, match="has 3 tokens and ends texts with 2"):
        load_clip(folder)
