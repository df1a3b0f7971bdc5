"""Mask2Former and CLIP from folders in the published format, against transformers' own code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPModel, CLIPTokenizer, Mask2FormerForUniversalSegmentation, pipeline
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.mask2former.image_processing_pil_mask2former import Mask2FormerImageProcessorPil

from got_core.evaluate.detector import DetectorError
from got_core.evaluate.geneval.classes import CLASSES, geneval_name, unlike_labels
from got_core.evaluate.geneval.colours import ClipColours, ColourCrop
from got_core.evaluate.geneval.detections import Asked
from got_core.evaluate.geneval.known import read_known, rendered
from got_core.evaluate.geneval.mask2former import Instance, Mask2Former, mask_box
from got_core.evaluate.geneval.prompts import Sample
from got_core.evaluate.network_folders import NetworkError
from got_core.planning.geneval import COLORS, DEFAULT_RULES
from tests.got_core.evaluate.geneval.networks import clip_folder, mask2former_folder

SIZES = ((64, 64), (96, 48), (50, 130))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    place = tmp_path_factory.mktemp("networks")
    return mask2former_folder(place / "mask2former"), clip_folder(place / "clip")


@pytest.fixture(scope="module")
def detector(folders: tuple[Path, Path]) -> Mask2Former:
    return Mask2Former(folders[0], ClipColours(folders[1]), batch_size=2)


def picture(size: tuple[int, int], seed: int) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 255, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def theirs(folder: Path, image: Image.Image) -> list[tuple[str, float, np.ndarray]]:
    """Instances by transformers' own post-processing."""
    model = Mask2FormerForUniversalSegmentation.from_pretrained(folder).eval()
    processor = Mask2FormerImageProcessorPil.from_pretrained(folder)
    with torch.inference_mode():
        out = model(**processor(images=image, return_tensors="pt"))
    target = [(image.height, image.width)]
    maps = {"return_binary_maps": True, "target_sizes": target}
    (found,) = processor.post_process_instance_segmentation(out, threshold=0.3, **maps)
    masks = np.asarray(found["segmentation"]).reshape(-1, *target[0]) > 0
    infos = found["segments_info"]
    return [
        (model.config.id2label[info["label_id"]], info["score"], masks[number])
        for number, info in enumerate(infos)
    ]


@pytest.mark.parametrize("size", SIZES)
def test_instances_are_those_of_transformers(
    folders: tuple[Path, Path], detector: Mask2Former, size: tuple[int, int]
) -> None:
    image, counts = picture(size, 3), []
    (mine,), other = detector.instances([image]), theirs(folders[0], image)
    assert [one.detection.cls for one in mine] == [geneval_name(label) for label, _, _ in other]
    assert [one.detection.score for one in mine] == pytest.approx([score for _, score, _ in other], abs=1e-6)
    for one, (_, _, mask) in zip(mine, other, strict=True):
        assert np.array_equal(one.mask, mask)
        ys, xs = np.nonzero(mask)
        assert one.detection.box == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
        counts.append(mask.sum())
    assert counts and min(counts) < size[0] * size[1], "there are objects, and not all fill the picture"


def test_instances_are_those_of_transformers_pipeline(
    folders: tuple[Path, Path], detector: Mask2Former
) -> None:
    processor = Mask2FormerImageProcessorPil.from_pretrained(folders[0])
    segment = pipeline("image-segmentation", model=str(folders[0]), image_processor=processor, device="cpu")
    image = picture((64, 64), 5)
    other = segment(image, subtask="instance", threshold=0.3)
    (mine,) = detector.instances([image])
    assert [(one.detection.cls, round(one.detection.score, 6)) for one in mine] == [
        (geneval_name(one["label"]), pytest.approx(one["score"], abs=2e-6)) for one in other
    ]
    assert mine


def test_pictures_together_are_pictures_alone(detector: Mask2Former) -> None:
    """Of unlike sizes too: padding would move masks."""
    images = [picture(size, seed) for seed, size in enumerate([*SIZES, SIZES[0], SIZES[0]])]
    together = detector.instances(images)
    for image, found in zip(images, together, strict=True):
        (alone,) = detector.instances([image])
        assert [one.detection.cls for one in found] == [one.detection.cls for one in alone]
        scores = [one.detection.score for one in alone]
        assert [one.detection.score for one in found] == pytest.approx(scores, abs=1e-5)
        assert all(one.mask.shape == (image.height, image.width) for one in found)


def test_a_box_goes_around_its_mask() -> None:
    mask = np.zeros((9, 7), dtype=bool)
    mask[2, 5] = mask[8, 1] = True
    assert mask_box(mask) == (1, 2, 6, 9)


def test_colours_are_those_of_clip(folders: tuple[Path, Path], detector: Mask2Former) -> None:
    """One text and one picture at a time, without padding, through the whole model."""
    model = CLIPModel.from_pretrained(folders[1]).eval()
    tokenizer = CLIPTokenizer.from_pretrained(folders[1])
    processor = CLIPImageProcessorPil.from_pretrained(folders[1])
    crops = []
    for seed in range(20):
        image = picture((60, 40), seed)
        mask = np.random.default_rng(seed).random((40, 60)) < 0.7
        crops.append(ColourCrop(image, (5, 4, 5 + 2 * seed + 1, 30), mask, ("dog", "cup")[seed % 2]))
    named = detector.colours.colours(crops)
    for crop, name in zip(crops, named, strict=True):
        shown = np.where(crop.mask[..., None], np.asarray(crop.image), 153).astype(np.uint8)
        x1, y1, x2, y2 = (int(side) for side in crop.box)
        shown = Image.fromarray(shown[y1:y2, x1:x2])
        assert np.array_equal(np.asarray(crop.picture()), np.asarray(shown))
        pixels = processor(images=shown, return_tensors="pt")["pixel_values"]
        cosines = []
        for color in COLORS:
            texts = f"a photo of a {color} {crop.cls}", f"a photo of a {color}-colored {crop.cls}"
            vectors = []
            for text in (*texts, f"a photo of a {color} object"):
                with torch.inference_mode():
                    out = model(**tokenizer(text, return_tensors="pt"), pixel_values=pixels)
                vectors.append(out.text_embeds[0] / out.text_embeds[0].norm())
            mean = sum(vectors) / 3
            cosines.append(float(out.image_embeds[0] @ mean / mean.norm()))
        best = sorted(cosines)[-2:]
        assert name == COLORS[int(np.argmax(cosines))] or best[1] - best[0] < 1e-5
    assert len(set(named)) > 1


def test_only_the_detections_that_decide_get_a_colour(detector: Mask2Former) -> None:
    image = picture((64, 64), 3)
    (found,) = detector.instances([image])
    best = max((one for one in found if one.detection.cls == found[0].detection.cls), key=score)
    clause = {"class": best.detection.cls, "count": 1, "color": "red"}
    row = {"tag": "colors", "prompt": "p", "include": [clause]}
    asked = Asked(
        sample=Sample(prompt_index=0, image_index=0, row=row),
        sha256="a",
        size=image.size,
        image=lambda: image,
    )
    (result,) = detector.detect([asked], DEFAULT_RULES)
    coloured = [one for one in result.detections if one.color]
    assert [one.score for one in coloured] == [best.detection.score]
    crop = ColourCrop(image, best.detection.box, best.mask, best.detection.cls)
    assert [coloured[0].color] == detector.colours.colours([crop])


def score(one: Instance) -> float:
    return one.detection.score


# ---------------------------------------------------------------- what is refused


@pytest.fixture
def copies(folders: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    for folder in folders:
        shutil.copytree(folder, tmp_path / folder.name)
    return tmp_path / "mask2former", tmp_path / "clip"


def changed(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("which", [0, 1])
def test_weights_that_lack_a_key_are_refused(copies: tuple[Path, Path], which: int) -> None:
    key = ("class_predictor.weight", "visual_projection.weight")[which]
    changed(copies[which], lambda weights: weights.pop(key))
    with pytest.raises(NetworkError, match=rf"do not fit .* config\.json:\n1 missing:\n  {key}"):
        Mask2Former(copies[0], ClipColours(copies[1]))


def test_weights_of_another_shape_are_refused(copies: tuple[Path, Path]) -> None:
    changed(copies[0], lambda weights: weights.update({"class_predictor.bias": torch.zeros(5)}))
    with pytest.raises(NetworkError, match=r"bias is \(5,\), the model wants \(81,\)"):
        Mask2Former(copies[0], ClipColours(copies[1]))


def test_weights_of_a_deeper_network_are_refused(copies: tuple[Path, Path]) -> None:
    key = "model.transformer_module.decoder.layers.7.fc1.weight"
    changed(copies[0], lambda weights: weights.update({key: torch.zeros(5)}))
    with pytest.raises(NetworkError, match=rf"1 not expected:\n  {key}"):
        Mask2Former(copies[0], ClipColours(copies[1]))


def test_tables_of_older_checkpoints_are_no_fault(copies: tuple[Path, Path]) -> None:
    def windows(weights: dict[str, torch.Tensor]) -> None:
        keys = [key for key in weights if key.endswith(".relative_position_bias_table")]
        assert keys
        index = torch.zeros(16, 16, dtype=torch.int64)
        weights |= {key.replace("bias_table", "index"): index.clone() for key in keys}

    def positions(weights: dict[str, torch.Tensor]) -> None:
        ids = torch.arange(77)[None]
        weights |= {f"{side}_model.embeddings.position_ids": ids.clone() for side in ("text", "vision")}

    changed(copies[0], windows)
    changed(copies[1], positions)
    Mask2Former(copies[0], ClipColours(copies[1]))


def test_a_network_of_another_type_is_refused(copies: tuple[Path, Path]) -> None:
    with pytest.raises(NetworkError, match=r"of type 'mask2former', openai/clip-.* is of type 'clip'"):
        ClipColours(copies[0])


def test_keys_that_only_training_uses_may_be_missing(copies: tuple[Path, Path]) -> None:
    removed: list[torch.Tensor] = []
    changed(copies[0], lambda weights: removed.append(weights.pop("criterion.empty_weight")))
    assert removed
    Mask2Former(copies[0], ClipColours(copies[1]))


@pytest.mark.parametrize(
    ("which", "name"), [(0, "preprocessor_config.json"), (1, "config.json"), (0, "model.safetensors")]
)
def test_a_file_that_is_missing_is_named(copies: tuple[Path, Path], which: int, name: str) -> None:
    (copies[which] / name).unlink()
    with pytest.raises(NetworkError, match=rf"lacks {name}: download \w+/"):
        Mask2Former(copies[0], ClipColours(copies[1]))


def test_pickled_weights_are_not_read(copies: tuple[Path, Path]) -> None:
    (copies[0] / "model.safetensors").rename(copies[0] / "pytorch_model.bin")
    with pytest.raises(NetworkError, match=r"lacks model.safetensors \(there is pytorch_model.bin, which is"):
        Mask2Former(copies[0], ClipColours(copies[1]))


def test_labels_of_another_data_set_are_refused(copies: tuple[Path, Path]) -> None:
    path = copies[0] / "config.json"
    config = json.loads(path.read_text())
    config["id2label"]["1"], config["id2label"]["2"] = "car", "bicycle"
    path.write_text(json.dumps(config))
    with pytest.raises(NetworkError, match=r"order \(label 1 is 'car' instead of 'bicycle'; label 2 is"):
        Mask2Former(copies[0], ClipColours(copies[1]))


def test_another_tokenizer_is_refused(copies: tuple[Path, Path]) -> None:
    (copies[1] / "tokenizer.json").unlink()
    (copies[1] / "merges.txt").write_text("#version: 0.2\n")
    (copies[1] / "vocab.json").write_text('{"a</w>": 0, "<|startoftext|>": 1, "<|endoftext|>": 2}')
    with pytest.raises(NetworkError, match=r"has 3 tokens and ends texts with 2, the model has 190"):
        ClipColours(copies[1])


def test_other_spellings_of_labels_are_the_same_classes() -> None:
    old = {number: name for number, name in enumerate(CLASSES)} | {3: "motorbike", 57: "sofa", 64: "mouse"}
    assert unlike_labels(old) == [] and unlike_labels(old | {80: "lamp"}) == [
        "label 80 ('lamp') is one too many"
    ]


def test_configurations_of_older_versions_are_read(copies: tuple[Path, Path], detector: Mask2Former) -> None:
    """As published folders have them: other class names, plain numbers for sizes."""
    whole = json.loads((copies[0] / "preprocessor_config.json").read_text())
    names = ("do_normalize", "do_resize", "do_rescale", "image_mean", "image_std", "ignore_index", "resample")
    old = {name: whole[name] for name in names} | {
        "feature_extractor_type": "MaskFormerFeatureExtractor",
        "size": {"height": 96, "width": 96},
        "reduce_labels": False,
        "size_divisor": 32,
        "num_labels": 80,
        "max_size": 1333,
    }
    (copies[0] / "preprocessor_config.json").write_text(json.dumps(old))
    whole = json.loads((copies[1] / "preprocessor_config.json").read_text())
    names = ("do_center_crop", "do_normalize", "do_resize", "image_mean", "image_std", "resample")
    old = {name: whole[name] for name in names}
    old |= {"feature_extractor_type": "CLIPFeatureExtractor", "size": 32, "crop_size": 32}
    (copies[1] / "preprocessor_config.json").write_text(json.dumps(old))
    older, image = Mask2Former(copies[0], ClipColours(copies[1])), picture((64, 48), 2)
    assert older.record.resize == detector.record.resize
    assert [one.detection for one in older.instances([image])[0]] == [
        one.detection for one in detector.instances([image])[0]
    ]
    features = [one.colours.image_features([image]) for one in (older, detector)]
    assert torch.equal(*features)


@pytest.mark.parametrize(
    ("which", "name", "text"),
    [
        (0, "config.json", "{"),
        (0, "config.json", '{"id2label": ["dog"]}'),
        (0, "preprocessor_config.json", "{"),
        (1, "preprocessor_config.json", "[]"),
        (1, "tokenizer.json", "{"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    copies: tuple[Path, Path], which: int, name: str, text: str
) -> None:
    (copies[which] / name).write_text(text)
    with pytest.raises(NetworkError, match=str(copies[which])):
        Mask2Former(copies[0], ClipColours(copies[1]))


@pytest.mark.parametrize("which", [0, 1])
def test_weights_that_are_not_finite_are_refused(copies: tuple[Path, Path], which: int) -> None:
    key = ("class_predictor.weight", "visual_projection.weight")[which]

    def spoil(weights: dict[str, torch.Tensor]) -> None:
        weights.pop("criterion.empty_weight", None)
        weights[key][0, 0] = float("inf")

    changed(copies[which], spoil)
    with pytest.raises(NetworkError, match=rf"1 not finite:\n  {key}"):
        Mask2Former(copies[0], ClipColours(copies[1]))


@pytest.mark.parametrize("which", [0, 1])
def test_nan_is_no_detection(folders: tuple[Path, Path], which: int) -> None:
    """As a number type that is too small gives it."""
    detector = Mask2Former(folders[0], ClipColours(folders[1]))
    spoilt = (detector.model.class_predictor, detector.colours.model.visual_projection)[which]
    torch.nn.init.constant_(spoilt.weight, float("nan"))
    crop = ColourCrop(picture((9, 9), 0), (0, 0, 9, 9), np.ones((9, 9), dtype=bool), "dog")
    with pytest.raises(DetectorError, match="gives NaN as float32"):
        detector.colours.colours([crop]) if which else detector.instances([picture((9, 9), 0)])


def test_a_detector_that_finds_nothing_is_refused(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    """What a checkpoint that does not fit its configuration looks like: low scores everywhere."""
    blind = Mask2Former(mask2former_folder(tmp_path / "blind", bias=0), ClipColours(folders[1]))
    with pytest.raises(DetectorError, match=r"finds no object at all in 4 drawings of .*nothing was scored"):
        blind.check({"dog"}, DEFAULT_RULES)


def test_the_detector_is_tried_on_known_pictures(
    tmp_path: Path, folders: tuple[Path, Path], detector: Mask2Former
) -> None:
    detector.check({"dog", "tv remote"}, DEFAULT_RULES)
    with pytest.raises(DetectorError, match="does not know remote, unicorn: it would find none"):
        detector.check({"dog", "remote", "unicorn"}, DEFAULT_RULES)
    rendered()[0].image().save(tmp_path / "one.png")
    rendered()[1].image().save(tmp_path / "two.jpg")
    listed = tmp_path / "known.jsonl"

    def tried(*classes: str) -> None:
        rows = [
            {"image": name, "class": cls} for name, cls in zip(("one.png", "two.jpg"), classes, strict=True)
        ]
        listed.write_text("\n".join(map(json.dumps, rows)))
        Mask2Former(folders[0], detector.colours, known=read_known(listed)).check({"dog"}, DEFAULT_RULES)

    tried("dog", "pizza")
    with pytest.raises(
        DetectorError, match=r"2 of 2 known pictures show .* one\.png \(pizza\), two\.jpg \(vase\)"
    ):
        tried("pizza", "vase")
    with pytest.raises(ValueError, match=r"known\.jsonl:2: 'unicorn' is no class of the detector; needed is"):
        tried("dog", "unicorn")
    (tmp_path / "two.jpg").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"known\.jsonl:2: .*two\.jpg cannot be read"):
        tried("dog", "dog")


def test_what_the_protocol_holds_changes_with_the_files(
    folders: tuple[Path, Path], copies: tuple[Path, Path], detector: Mask2Former
) -> None:
    changed(copies[1], lambda weights: weights["logit_scale"].add_(1))
    other = Mask2Former(copies[0], ClipColours(copies[1]))
    assert other.record.networks["detector"] == detector.record.networks["detector"]
    assert other.record.networks["colours"] != detector.record.networks["colours"]
    assert set(other.record.networks["colours"].files) == {
        *("model.safetensors", "config.json", "preprocessor_config.json"),
        *("tokenizer.json", "vocab.json", "merges.txt"),
    }
