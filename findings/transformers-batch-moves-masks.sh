#!/bin/sh
# transformers 5.19.0: in a batch of pictures of unlike sizes, MaskFormer's and Mask2Former's masks come out moved and squeezed.
#
# Seen: image processors with a size by shortest edge (the default) pad each picture of a batch on the right and below to the largest of
# it. `post_process_instance_segmentation`, `…_semantic_…` and `…_panoptic_segmentation` enlarge the masks of the padded picture to
# `target_sizes`, the sizes of the pictures without padding, and do not cut the padding off. With a detector that is always right, an object
# in rows 120 to 240 of a 640x480 picture is found there if the picture is alone or beside others of its size, and in rows 88 to 177 if a
# 480x640 one is in the batch: IoU with the truth .37 instead of 1, and .14 for the other picture. No warning, and scores stay high.
# So a picture's verdict depends on which pictures share its batch.
# What helps: only pictures of one size in a batch, a processor with fixed height and width, or cutting masks with `pixel_mask`.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check 'transformers==5.19.0' 'torch==2.13.0' 'numpy==2.3.5' 'pillow==12.3.0'
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PY'
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image
from transformers.models.mask2former.image_processing_pil_mask2former import Mask2FormerImageProcessorPil
from transformers.models.maskformer.image_processing_pil_maskformer import MaskFormerImageProcessorPil
from transformers.utils import logging

logging.set_verbosity_error()
BRIGHT = 1


def picture(width, height):
    """Black with a bright rectangle."""
    levels = np.zeros((height, width, 3), np.uint8)
    levels[height // 4 : height // 2, width // 2 : 3 * width // 4] = 255
    return Image.fromarray(levels)


def always_right(inputs):
    """What a perfect model gives for them: a query for what is bright, one for the rest, at a quarter of the size."""
    bright = (inputs["pixel_values"].mean(1, keepdim=True) > 0.5).float()
    masks = torch.nn.functional.interpolate(bright, scale_factor=0.25, mode="area") * 20 - 10
    classes = torch.zeros(len(masks), 2, 3)
    classes[:, 0, BRIGHT] = classes[:, 1, 0] = 20
    return SimpleNamespace(class_queries_logits=classes, masks_queries_logits=torch.cat([masks, -masks], 1))


def segment(found):
    number = next(one["id"] for one in found["segments_info"] if one["label_id"] == BRIGHT)
    return np.asarray(found["segmentation"]) == number


def overlaps(processor, pictures):
    """IoU of the bright rectangle with the truth: for each picture by instances, classes and panoptic segments."""
    outputs = always_right(processor(images=pictures, return_tensors="pt"))
    sizes = [(one.height, one.width) for one in pictures]
    ways = [
        map(segment, processor.post_process_instance_segmentation(outputs, target_sizes=sizes)),
        (np.asarray(one) == BRIGHT for one in processor.post_process_semantic_segmentation(outputs, target_sizes=sizes)),
        map(segment, processor.post_process_panoptic_segmentation(outputs, target_sizes=sizes)),
    ]
    rows = []
    for image, *masks in zip(pictures, *ways):
        truth = np.asarray(image)[..., 0] > 0
        rows.append([round(float((mask & truth).sum() / (mask | truth).sum()), 2) for mask in masks])
    return rows


wide, high = picture(640, 480), picture(480, 640)
for kind in (Mask2FormerImageProcessorPil, MaskFormerImageProcessorPil):
    for label, processor, pictures, expected in (
        ("640x480 alone", kind(), [wide], [1.0]),
        ("480x640 alone", kind(), [high], [1.0]),
        ("640x480 twice", kind(), [wide, wide], [1.0, 1.0]),
        ("640x480 and 480x640", kind(), [wide, high], [0.37, 0.14]),
        ("the same, to 384x384", kind(size={"height": 384, "width": 384}), [wide, high], [1.0, 1.0]),
    ):
        found = overlaps(processor, pictures)
        print(f"{kind.__name__}, {label}: IoU {found}")
        assert all(abs(one - wanted) < 0.02 for row, wanted in zip(found, expected) for one in row)
print("as described")
PY
