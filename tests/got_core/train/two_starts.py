"""What each of two processes does in the tests of weights from rank 0; a module, to be spawned."""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import distributed as dist
from torch import nn

from got_core.model.build import build_autoencoder, build_projector, build_unet
from got_core.model.config import ModelConfig
from got_core.model.pipeline import GoTPipeline
from got_core.train import parallel
from got_core.train.config import StageConfig
from got_core.train.data.samples import training_data
from got_core.train.run import TrainingRun
from got_core.train.start import starting_pipeline
from got_core.train.trainer import Trainer
from tests.got_core.ranks import join_group, leave_group
from tests.got_core.tiny_pipeline import TINY, sees_its_conditions, tiny_pipeline

WIDE = replace(
    TINY,
    language_model=replace(
        TINY.language_model,
        hidden_size=512,
        heads=8,
        key_value_heads=8,
        intermediate_size=2048,
        layers=6,
    ),
    unet=replace(TINY.unet, block_out_channels=(128, 256), cross_attention_dim=256),
)
TIED = replace(TINY, language_model=replace(TINY.language_model, tie_embeddings=True))
CONFIG = StageConfig(
    steps=4,
    workers=2,
    batch_size=2,
    lora_rank=4,
    lora_dropout=0.1,
    bf16=False,
    mixture={"t2i": 0.5, "edit": 0.5},
    sharding="fsdp",
)
ADAPTERS = replace(CONFIG, language_whole=False, drawing_lora_rank=4, ema_decay=0.9)


@dataclass(frozen=True)
class Case:
    """What is started from, and how it is trained."""

    config: StageConfig
    model: ModelConfig = TINY
    stage: str = "pretrain"
    half: bool = True
    """Whether the language model is kept in 16 bits."""


CASES = {
    "foundation": Case(CONFIG, stage="foundation"),
    "whole": Case(replace(CONFIG, ema_decay=0.9), TIED),
    "adapters": Case(ADAPTERS, TIED),
    "frozen": Case(replace(ADAPTERS, replicate_frozen=True, gradient_checkpointing=True), TIED),
    "groups": Case(replace(CONFIG, shard_within=1), TINY),
}


def write_start(case: Case, folder: Path) -> None:
    """What a case starts from, in ``folder``; the same without weights in ``folder/../configs``."""
    pipeline = sees_its_conditions(tiny_pipeline(config=case.model))
    if case.stage == "foundation":
        pipeline.mllm.save_pretrained(folder / "language" / "mllm")
        pipeline.tokenizer.save_pretrained(folder / "language" / "tokenizer")
        build_projector(case.model).save_pretrained(folder / "language" / "projector")
        build_unet(case.model).save_pretrained(folder / "drawing" / "unet")
        build_autoencoder(case.model).save_pretrained(folder / "drawing" / "vae")
    else:
        if case.half:
            pipeline.mllm.to(torch.bfloat16)
        pipeline.save_pretrained(folder, safe_serialization=True)
    shutil.copytree(folder, folder.parent / "configs", ignore=shutil.ignore_patterns("*.safetensors"))


class ReadByAll(Trainer):
    """Each rank spreads what it has read itself."""

    def _sharded(self) -> nn.Module:
        config = self.config
        self._plain = copy.deepcopy(self.pipeline) if self.rank == 0 else None
        return parallel.shard(
            self.model,
            self.device,
            config.bf16,
            within=config.shard_within,
            replicate_frozen=config.replicate_frozen,
        )


def train(rank: int, run: TrainingRun, folder: Path) -> None:
    """Two steps of each case with weights that all ranks have read, then with those that rank 0 has."""
    torch.set_num_threads(1)
    join_group(folder / "rendezvous", rank, 2)
    for name, case in CASES.items():
        home, seed = folder / name, case.config.seed
        for way, kind in (("read", ReadByAll), ("sent", Trainer)):
            empty = way == "sent" and rank > 0
            start = home / ("configs" if empty else "start")
            pipeline = starting_pipeline(start, case.stage, case.model, seed, empty=empty)
            trainer = kind(pipeline, training_data(run, case.config), case.config, rank, 2)
            _report(trainer, home, way)
    _unlike(rank, run, folder)
    leave_group()


def _report(trainer: Trainer, home: Path, way: str) -> None:
    losses: list[dict[str, float]] = []
    trainer.run(2, lambda step, found: losses.append(found))
    values = {name: value.double().sum().item() for name, value in trainer.model.named_buffers()}
    note = {"losses": losses, "buffers": values, "state": torch.get_rng_state().tolist()[:64]}
    (home / f"{way}-{trainer.rank}.json").write_text(json.dumps(note))
    (home / way).mkdir(exist_ok=True)
    trainer.save(home / way)
    finished = trainer.finish()
    if finished is not None:
        finished.save_pretrained(home / f"{way}-pipeline", safe_serialization=True)


def _unlike(rank: int, run: TrainingRun, folder: Path) -> None:
    """Models that differ between the ranks, and one with a tensor that is no buffer."""
    wider = replace(TINY, unet=replace(TINY.unet, block_out_channels=(16, 48)))
    stray = tiny_pipeline().to("meta")
    stray.unet.conv_in.scale = torch.ones(1, device="meta")
    for name, other in (("size", tiny_pipeline(config=wider)), ("stray", stray)):
        pipeline: GoTPipeline = other if rank else tiny_pipeline()
        try:
            Trainer(pipeline, training_data(run), CONFIG, rank, 2)
        except ValueError as error:
            (folder / f"{name}-{rank}.txt").write_text(str(error))


def start_wide(rank: int, run: TrainingRun, folder: Path) -> None:
    """The start of a stage with a model of 184 MB; most memory above that before it, in bytes."""
    torch.set_num_threads(1)
    join_group(folder / "rendezvous", rank, 2)
    data = training_data(run, CONFIG)
    Trainer(tiny_pipeline(), data, CONFIG, rank, 2)  # what is imported and made once
    dist.barrier()
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    start = folder / ("configs" if rank else "start")
    pipeline = starting_pipeline(start, "pretrain", WIDE, 0, empty=rank > 0)
    trainer = Trainer(pipeline, data, CONFIG, rank, 2)
    peak = _status("VmHWM") - before
    size = sum(p.numel() * p.element_size() for p in trainer.model.parameters())
    (folder / f"memory-{rank}.json").write_text(json.dumps({"peak": peak, "model": size}))
    dist.barrier()
    leave_group()


def _status(name: str) -> int:
    """Resident memory of this process, or the most of it since it was reset, in bytes."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(lines[name].split()[0])
