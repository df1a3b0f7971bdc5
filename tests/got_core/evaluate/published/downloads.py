"""A folder as GOT_BENCHMARKS names it: lists and rows of our own, tiny networks, all in published formats."""

from __future__ import annotations

from pathlib import Path

from tests.got_core.evaluate.emu_edit.made import emu_set, unpacked_magicbrush
from tests.got_core.evaluate.geneval.lists import write_list
from tests.got_core.evaluate.geneval.networks import clip_folder, mask2former_folder
from tests.got_core.evaluate.geneval2.lists import write_checkout, write_tokenizer
from tests.got_core.evaluate.judged.made import gedit, imagenhub, imgedit, risebench, write_checkouts
from tests.got_core.evaluate.outside.reason_edit_set import reason_edit_set
from tests.got_core.evaluate.tiny_networks import save_clip, save_dino

EDITS = 4
"""Rows of the Emu-Edit set."""


def write_data(place: Path) -> Path:
    """The data of all benchmarks."""
    (place / "geneval").mkdir(parents=True)
    write_list(place / "geneval/evaluation_metadata.jsonl")
    emu_set(place / "emu_edit_test_set", EDITS)
    write_checkout(place / "geneval2")
    (place / "magicbrush").mkdir()
    unpacked_magicbrush(place / "magicbrush")
    reason_edit_set(place / "reason_edit", each=1)
    for made in (imagenhub, gedit, imgedit, risebench, write_checkouts):
        made(place)
    return place


def write_networks(place: Path) -> Path:
    """The networks of all benchmarks but CLIP ViT-L/14 at the profile's size, which is GenEval's here."""
    mask2former_folder(place / "networks/mask2former-swin-small-coco-instance")
    clip_folder(place / "networks/clip-vit-large-patch14")
    save_clip(place / "networks/clip-vit-base-patch32")
    save_dino(place / "networks/dino-vits16")
    (place / "networks/Qwen3-VL-8B-Instruct").mkdir()
    write_tokenizer(place / "networks/Qwen3-VL-8B-Instruct/tokenizer.json")
    return place
