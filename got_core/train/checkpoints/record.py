"""What is written beside each checkpoint as ``run.json``: from what, by which command, where and with what.

Belongs here: plain data without secrets. Not here: the training's own note in it (``trainer``).
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from typing import Any

import torch

from got_core.redacted import redacted_command, redacted_url
from got_core.train.run import TrainingRun
from got_core.train.stage import Stage

PACKAGES = ("torch", "transformers", "diffusers", "peft", "ray", "safetensors")


def run_record(
    run: TrainingRun,
    stage: Stage,
    *,
    arguments: Mapping[str, Any],
    command: Sequence[str],
    workers: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Recipe, stage, data, arguments of the stage, command of the driver, versions and workers."""
    places = {"storage": run.storage_url, "raw": run.raw_url, "edits": run.edits_url or ""}
    return {
        "recipe": run.recipe.name,
        "stage": stage.name,
        "config": asdict(stage.config),
        "identity": stage.identity(),
        "manifest_hash": run.manifest_hash,
        "arguments": dict(arguments),
        "places": {name: redacted_url(url) for name, url in places.items()},
        "command": redacted_command(command),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "workers": [dict(worker) for worker in workers],
        "git_commit": run.tags.get("git_commit"),
    }


def worker_record(rank: int, device: torch.device) -> dict[str, Any]:
    """This worker: its rank, host and device."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    return {"rank": rank, "host": platform.node(), "device": str(device), "device_name": name}
