"""Storages as the line leaves them behind, with a registry beside them, for tests of what may go."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field
from typing import Any

import polars as pl
from mlflow import MlflowClient

from got_core.registry.tracking import connect
from got_core.storage import Storage


def sha(text: str) -> str:
    """64 hex digits of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass
class Home:
    """A storage, its registry, and which files must stay whatever their age."""

    storage: Storage
    uri: str
    needed: set[str] = field(default_factory=set)
    may_go: set[str] = field(default_factory=set)
    """Files that nothing names."""
    versions: int = 0

    def put(self, name: str, *, needed: bool, data: bytes = b"0123456789") -> None:
        """A file of some bytes."""
        self.storage.write_bytes(name, data)
        (self.needed if needed else self.may_go).add(name)

    def model(
        self, stage: str, seed: str, *, needed: bool, checkpoints: int = 0, finished: bool = True
    ) -> dict[str, Any]:
        """A model of a stage with its checkpoints; what a document says of it."""
        key, weights, manifest = sha(f"key {seed}")[:12], sha(f"weights {seed}"), sha(f"manifest {seed}")
        name = f"models/{stage}/{key}"
        files = ["taken_down.json", "samples.png", "pipeline/model_index.json", "pipeline/unet/w.safetensors"]
        for file in (*files, *(["metrics.json"] if finished else [])):
            self.put(f"{name}/{file}", needed=needed, data=b"{}")
        for step in range(checkpoints):
            last = step + 1 == checkpoints or not finished
            for file in ("run.json", "rank-00000-of-00001.json", "part.safetensors"):
                path = f"{name}/checkpoints/step-{step:08d}-0000000a/{file}"
                self.put(path, needed=needed and last, data=b"{}")
        for folder in ("geneval", "edits", "guidance"):
            for file in ("00000.png", "repaired/00000.png", "samples.parquet", "scores.json"):
                self.put(f"{folder}/{weights[:12]}/{file}", needed=needed)
        self.put(f"manifests/{manifest}.parquet", needed=needed)
        folder = f"{name}/pipeline"
        return {"stage": stage, "folder": folder, "weights_hash": weights, "manifest_hash": manifest}

    def document(self, asset: str, value: dict[str, Any]) -> None:
        """The value of an asset."""
        self.storage.write_json(f"{asset}.json", value)
        self.needed.add(f"{asset}.json")

    def register(self, *models: dict[str, Any], alias: str | None = None) -> str:
        """A version made from models, the last of which it is."""
        client: MlflowClient = connect(self.uri)
        if not self.versions:
            client.create_registered_model("got")
        folders = (one["folder"].removesuffix("/pipeline") for one in models)
        tags = {
            "weights_hash": models[-1]["weights_hash"],
            "trained_on": ",".join(
                f"{folder}@{one['manifest_hash']}" for folder, one in zip(folders, models, strict=True)
            ),
            "manifest_hashes": ",".join(one["manifest_hash"] for one in models),
        }
        made = client.create_model_version("got", "file:///nowhere", tags=tags)
        self.versions += 1
        if alias:
            client.set_registered_model_alias("got", alias, made.version)
        return str(made.version)

    def names(self) -> set[str]:
        """All files that are there."""
        return set(self.storage.list())


def random_home(home: Home, seed: int) -> None:
    """Fill a home with what trainings, ablations and kills have left, at random."""
    pick = random.Random(seed)
    chances = [(f"{seed} {number}", pick.random() < 0.5) for number in range(pick.randint(2, 5))]
    for name, registered in chances:
        models = [
            home.model(stage, f"{stage} {name}", needed=registered, checkpoints=pick.randint(0, 3))
            for stage in ("pretrain", "finetune")
        ]
        # Scores of a stage in between are nobody's, yet its weights are no version's.
        if registered:
            home.needed -= (own := _pictures(home, models[0]))
            home.may_go |= own
            home.register(*models, alias=pick.choice([None, "champion"]))
    current = home.model("finetune", f"current {seed}", needed=True, checkpoints=pick.randint(0, 2))
    home.document("finetuned_model", current)
    unfinished = home.model("pretrain", f"unfinished {seed}", needed=True, checkpoints=2, finished=False)
    home.needed -= (own := _pictures(home, unfinished))
    home.may_go |= own
    key = unfinished["folder"].split("/")[2]
    start = home.model("foundation", f"start {seed}", needed=True)
    note = {"key": key, "manifest_hash": unfinished["manifest_hash"], "start": start, "begun": "2026-01-01"}
    home.storage.write_json(f"models/pretrain/unfinished/{sha(name)[:12]}.json", note)
    home.needed.add(f"models/pretrain/unfinished/{sha(name)[:12]}.json")
    home.put(f"ray/pretrain-{key}/state.json", needed=True)
    home.put(f"ray/pretrain-{sha('old')[:12]}/state.json", needed=False)
    _ablation(home, pick)
    _shards(home)


def _pictures(home: Home, model: dict[str, Any]) -> set[str]:
    weights = model["weights_hash"][:12]
    return {name for name in home.needed if name.split("/")[1:2] == [weights]}


def _ablation(home: Home, pick: random.Random) -> None:
    named = home.model("finetune", f"trial {pick.random()}", needed=True)
    home.needed -= (own := _pictures(home, named) | {f"manifests/{named['manifest_hash']}.parquet"})
    home.may_go |= own
    key, other = sha("trial")[:12], sha("other trial")[:12]
    for one, needed in ((key, True), (other, False)):
        home.put(f"ablation/full-0/{one}/00000.png", needed=needed)
        home.put(f"ablation/full-0/{one}/trial.json", needed=True)
    table = pl.DataFrame({"model": [named["folder"]], "samples": [f"ablation/full-0/{key}"]})
    home.storage.write_table("ablation_runs", table)
    home.needed.add("ablation_runs.parquet")


def _shards(home: Home) -> None:
    """What shards, people and others have left."""
    tar = f"training_shards/images-00000/00000-{sha('tar')[:16]}.tar"
    home.put(tar, needed=True)
    home.put(f"training_shards/images-00000/00000-{sha('old tar')[:16]}.tar", needed=False)
    home.put(f"training_shards/images-00007/00000-{sha('lost')[:16]}.tar", needed=False)
    home.storage.write_table("training_shards/images-00000/00000", pl.DataFrame({"tar": [tar]}))
    home.needed.add("training_shards/images-00000/00000.parquet")
    for name in (
        *("shards/images-00000.parquet", "ledger/images-00000/1.jsonl", "stored_images/ab/abc.png"),
        *("captions/images-00000.parquet", "reviews/one.parquet", "takedown/list.csv", "notes.txt"),
        *("somebody/else/file.bin", "models/by-hand/weights.bin", "geneval/README"),
        *("imported/set/chains/00000.parquet", "fetched/images-00000/a.parquet", "shown/a/b.png"),
        *("latent_shards/by hand.bin", "item_index/t2i/state.json", "listed/directory.json"),
    ):
        home.put(name, needed=True)
    home.put("leases/images-00000.json", needed=True, data=b'{"holder": null, "beat": 0}')
    home.put(f"failures/{sha('run')[:32]}.json", needed=False)
    home.put(f"preflight/{sha('probe')[:32]}", needed=False)
    home.put(f"training_manifests/foundation-{sha('m')}/manifest.json", needed=False)
