"""Mask2Former as GenEval's detector: instances of COCO's 80 classes with boxes and masks.

Belongs here: the network from its folder, and instances from its outputs. Not here: colours (`colours`), or
which instances count (`planning.geneval`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from got_core.evaluate.detector import DetectorError
from got_core.evaluate.geneval.classes import CLASSES, unlike_labels
from got_core.evaluate.geneval.colours import ClipColours, ColourCrop, preprocessing
from got_core.evaluate.geneval.detections import Asked, DetectorRecord, Found, colour_wanted
from got_core.evaluate.geneval.known import KnownPicture, rendered
from got_core.evaluate.network_folders import (
    NetworkError,
    check_files,
    checked_type,
    file_hashes,
    load_model,
    load_processor,
    weight_files,
)
from got_core.evaluate.protocol import Network
from got_core.planning.geneval import DEFAULT_RULES, Detection, GenEvalRules

if TYPE_CHECKING:
    import torch

VERSION = 1
"""Raise when the same pixels give other detections."""

PUBLISHED = "facebook/mask2former-swin-small-coco-instance"
MASK_SIDE = 384
"""Masks are judged at this size, as transformers' own post-processing does."""

_FILES = ("config.json", "preprocessor_config.json")
_LOSS_ONLY = r"^criterion\."
"""Keys that only training uses; older checkpoints have none of them."""

_INDICES = r"\.relative_position_index$"
"""Keys of tables that follow from the window's size; older checkpoints hold them."""

_KNOWN_SHARE = 0.5
"""Of the user's known pictures in which their class must be found."""


@dataclass(frozen=True)
class Instance:
    """One object with its mask."""

    detection: Detection
    mask: np.ndarray
    """Booleans, height x width of the picture."""


class Mask2Former:
    """A Mask2Former folder with a classifier of colours.

    `known`: pictures of one object each, on which the detector is tried; without them rendered ones. Raises
    NetworkError where the folder does not hold a whole one, with COCO's classes.
    """

    keeps = True

    def __init__(
        self,
        folder: Path,
        colours: ClipColours,
        *,
        device: str = "cpu",
        dtype: str = "float32",
        batch_size: int = 8,
        known: Sequence[KnownPicture] = (),
    ) -> None:
        from transformers import Mask2FormerForUniversalSegmentation
        from transformers.models.mask2former.image_processing_pil_mask2former import (
            Mask2FormerImageProcessorPil,
        )

        check_files(folder, PUBLISHED, _FILES)
        _check_labels(folder)
        self.folder, self.colours, self.device, self.dtype = folder, colours, device, dtype
        self.batch_size, self.known = batch_size, tuple(known)
        self.processor = load_processor(Mask2FormerImageProcessorPil, folder, PUBLISHED)
        self.model = load_model(
            Mask2FormerForUniversalSegmentation,
            folder,
            PUBLISHED,
            device=device,
            dtype=dtype,
            optional=_LOSS_ONLY,
            unused=_INDICES,
        )

    @cached_property
    def network(self) -> Network:
        """For a protocol."""
        files = [*weight_files(self.folder, PUBLISHED), *(self.folder / name for name in _FILES)]
        return Network(name="Mask2Former", files=file_hashes(files), settings={"dtype": self.dtype})

    @property
    def record(self) -> DetectorRecord:
        """Networks with the hashes of their files, texts, sizes."""
        masks = {"logits": f"bilinear to {MASK_SIDE}x{MASK_SIDE}", "masks": "nearest to the picture's size"}
        return DetectorRecord(
            suffix="",
            detector={
                "name": "Mask2Former of transformers",
                "version": VERSION,
                "pictures": "8-bit RGB, upright, transparent ones over white",
            },
            networks={"detector": self.network, "colours": self.colours.network},
            prompt_texts=self.colours.prompt_texts,
            resize={
                "detector": preprocessing(self.processor),
                "masks": masks,
                "colours": self.colours.resize,
            },
        )

    def check(self, classes: set[str], rules: GenEvalRules) -> None:
        """Raises DetectorError where the detector finds nothing in known pictures, or does not know a
        class."""
        if unknown := sorted(classes - set(CLASSES)):
            raise DetectorError(
                f"the detector does not know {', '.join(unknown[:5])}: it would find none in any picture; "
                "GenEval's names of COCO's 80 classes are in got_core.evaluate.geneval.classes"
            )
        self._check_known(rules) if self.known else self._check_rendered(rules)

    def _check_rendered(self, rules: GenEvalRules) -> None:
        pictures = [one.image() for one in rendered()]
        if any(self.instances(pictures, rules.threshold)):
            return
        raise DetectorError(
            f"{self.folder} finds no object at all in {len(pictures)} drawings of traffic signs, clocks "
            f"and balls (score above {rules.threshold}): nothing was scored; see whether weights and "
            "configuration are of one checkpoint, and try float32, or another device"
        )

    def _check_known(self, rules: GenEvalRules) -> None:
        missed = []
        for one in self.known:
            found = {instance.detection.cls for instance in self.instances([one.image()], rules.threshold)[0]}
            missed += [] if one.cls in found else [f"{one.name} ({one.cls})"]
        if len(missed) > _KNOWN_SHARE * len(self.known):
            raise DetectorError(
                f"{self.folder} does not find what {len(missed)} of {len(self.known)} known pictures show "
                f"(score above {rules.threshold}), such as {', '.join(missed[:5])}: nothing was scored"
            )

    def detect(self, pictures: Sequence[Asked], rules: GenEvalRules) -> list[Found]:
        """What is in pictures, with the colours that decide. Raises DetectorError for NaN."""
        images = [asked.image() for asked in pictures]
        instances = self.instances(images, rules.threshold)
        return [
            Found(detections=tuple(self._coloured(image, found, asked.sample.row, rules)))
            for image, found, asked in zip(images, instances, pictures, strict=True)
        ]

    def _coloured(
        self, image: Image.Image, found: Sequence[Instance], row: Mapping[str, Any], rules: GenEvalRules
    ) -> list[Detection]:
        detections = [one.detection for one in found]
        wanted = colour_wanted(detections, row, rules)
        crops = [
            ColourCrop(image, found[n].detection.box, found[n].mask, found[n].detection.cls) for n in wanted
        ]
        for number, colour in zip(wanted, self.colours.colours(crops), strict=True):
            detections[number] = replace(detections[number], color=colour)
        return detections

    def instances(
        self, images: Sequence[Image.Image], threshold: float = DEFAULT_RULES.threshold
    ) -> list[list[Instance]]:
        """Instances of RGB pictures whose score is above a threshold (strictly).

        Pictures of unlike sizes are not taken together: padding would move their masks.
        """
        if len({image.size for image in images}) > 1:
            return [self.instances([image], threshold)[0] for image in images]
        found = []
        for start in range(0, len(images), self.batch_size):
            batch = list(images[start : start + self.batch_size])
            found += [
                self._named(classes, masks, batch[0].size, threshold)
                for classes, masks in self._outputs(batch)
            ]
        return found

    def _outputs(self, images: list[Image.Image]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Class logits (queries, classes + 1) and mask logits (queries, h, w) of each picture, in float32."""
        import torch

        inputs = self.processor(images=images, return_tensors="pt")
        with torch.inference_mode():
            out = self.model(
                pixel_values=inputs["pixel_values"].to(self.device, self.model.dtype),
                pixel_mask=inputs["pixel_mask"].to(self.device),
            )
        classes, masks = out.class_queries_logits.float(), out.masks_queries_logits.float()
        if not bool(torch.isfinite(classes).all() and torch.isfinite(masks).all()):
            raise DetectorError(f"Mask2Former in {self.folder} gives NaN as {self.dtype}; take float32")
        return list(zip(classes, masks, strict=True))

    @staticmethod
    def _named(
        classes: torch.Tensor, masks: torch.Tensor, size: tuple[int, int], threshold: float
    ) -> list[Instance]:
        labels, scores, shown = instances_of(classes, masks, size, threshold)
        return [
            Instance(Detection(CLASSES[label], score, mask_box(mask)), mask)
            for label, score, mask in zip(labels, scores, shown, strict=True)
        ]


def _check_labels(folder: Path) -> None:
    labels = checked_type(folder, PUBLISHED, "mask2former").get("id2label")
    numbered = labels.items() if isinstance(labels, dict) else ()
    faults = unlike_labels({int(n): str(label) for n, label in numbered if str(n).isdecimal()})
    if faults:
        raise NetworkError(
            f"{folder}/config.json does not have COCO's 80 classes in their order ({'; '.join(faults[:3])}); "
            f"take {PUBLISHED}"
        )


def instances_of(
    classes: torch.Tensor, masks: torch.Tensor, size: tuple[int, int], threshold: float
) -> tuple[list[int], list[float], list[np.ndarray]]:
    """Labels, scores and masks of one picture's instances above a threshold (strictly).

    `classes` (queries, classes + 1) and `masks` (queries, h, w) are logits, `size` is width and height. A
    score is the class's probability times the mean probability inside the mask. The same as transformers'
    `post_process_instance_segmentation` with binary maps, but only masks that count are enlarged.
    """
    import torch
    from torch.nn.functional import interpolate

    enlarged = interpolate(masks[None], (MASK_SIDE, MASK_SIDE), mode="bilinear", align_corners=False)[0]
    probabilities = classes.softmax(-1)[:, :-1]
    best, places = probabilities.flatten().topk(len(classes), sorted=False)
    queries, labels = places // probabilities.shape[1], places % probabilities.shape[1]
    chosen = enlarged[queries]
    inside = (chosen > 0).float()
    quality = (chosen.sigmoid() * inside).flatten(1).sum(1) / (inside.flatten(1).sum(1) + 1e-6)
    scores = best * quality
    kept = torch.nonzero(scores > threshold).flatten()
    if not len(kept):
        return [], [], []
    full = interpolate(inside[kept][None], (size[1], size[0]), mode="nearest")[0].bool()
    seen = full.flatten(1).any(1)
    kept, full = kept[seen], full[seen]
    return labels[kept].tolist(), scores[kept].tolist(), list(full.cpu().numpy())


def mask_box(mask: np.ndarray) -> tuple[float, float, float, float]:
    """The box (x1, y1, x2, y2) around a mask that is not empty; x2 and y2 lie behind its last pixel."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
