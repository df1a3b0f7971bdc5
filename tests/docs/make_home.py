"""`python -m tests.docs.make_home FOLDER`: what the code in the documentation finds where it is run.

A process of its own: registering sets MLflow's tracking address for the whole process.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch

from got_core.evaluate.geneval2.prompts import read_samples
from got_core.model.formats.published import load_foundation_folders
from got_core.model.formats.released import save_got_checkpoint
from got_core.registry.log import register
from got_core.registry.promote import CHAMPION
from got_core.registry.tracking import connect
from got_core.storage import Storage
from tests.got_core.evaluate.emu_edit.made import emu_set
from tests.got_core.evaluate.geneval.lists import write_list
from tests.got_core.evaluate.geneval.networks import clip_folder, mask2former_folder
from tests.got_core.evaluate.geneval2.lists import write_checkout, write_folder
from tests.got_core.evaluate.outside.squeeze import random_squeeze
from tests.got_core.evaluate.tiny_networks import save_clip, save_dino
from tests.got_core.model import tiny_checkpoints
from tests.got_core.tiny_pipeline import tiny_pipeline

ROWS = 400


def make(folder: Path) -> None:
    """The registry below `var`, published folders below `models`, what benchmarks need beside them."""
    tiny_pipeline().save_pretrained(folder / "pipeline")
    uri = f"sqlite:///{folder}/var/mlflow/mlflow.db"
    version = register(folder / "pipeline", tracking_uri=uri, tags={"weights_hash": "documentation"})
    connect(uri).set_registered_model_alias("got", CHAMPION, version)
    # The published embedding has spare rows for all of GoT's tokens.
    small = tiny_checkpoints.TINY
    tiny_checkpoints.TINY = replace(small, language_model=replace(small.language_model, vocabulary=ROWS))
    folders = tiny_checkpoints.write_published(folder / "models")
    save_got_checkpoint(load_foundation_folders(folders.sdxl, folders.qwen), folder / "models" / "got-6b")
    make_benchmarks(folder)


def make_benchmarks(folder: Path) -> None:
    """Lists and networks under the names of their downloads: rows of our own and random weights."""
    write_list(folder / "evaluation_metadata.jsonl")
    checkout = write_checkout(folder / "GenEval2")
    write_folder(Storage(f"file://{folder / 'geneval2-pictures'}"), read_samples(checkout))
    mask2former_folder(folder / "mask2former-swin-small-coco-instance")
    clip_folder(folder / "clip-vit-large-patch14")
    emu_set(folder / "emu_edit_test_set")
    save_clip(folder / "clip-vit-base-patch32")
    save_dino(folder / "dino-vits16")
    weights = random_squeeze()
    torch.save({k: v for k, v in weights.items() if "features" in k}, folder / "squeezenet1_1-b8a52dc0.pth")
    torch.save({k: v for k, v in weights.items() if "lin" in k}, folder / "squeeze.pth")


if __name__ == "__main__":
    make(Path(sys.argv[1]))
