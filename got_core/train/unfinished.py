"""Trainings that have begun and not ended: a stage goes on with the data that it began with.

    models/STAGE/unfinished/IDENTITY.json   key, manifest_hash and start of the training under an identity
    models/STAGE/KEY/manifest/              the manifest that it is trained on (see ``data.manifest_file``)

An identity is what makes a stage's model another one, its data aside. Belongs here: these files. Not here:
training (``stages``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from got_core.digests import digest
from got_core.model.config import ModelConfig
from got_core.storage import Storage
from got_core.train.data.manifest_file import NOTE, in_file, stored_hash
from got_core.train.run import VERSION, Reference, TrainingRun
from got_core.train.stage import Stage

FOLDER = "unfinished"


@dataclass(frozen=True)
class Training:
    """A stage's training: of which data, from where, and under which key."""

    run: TrainingRun
    start: Reference
    key: str
    identity: str
    pinned: bool
    """Whether it goes on with other data than it was asked for."""


def identity_of(model: ModelConfig, stage: Stage, start: Reference) -> str:
    """What makes a stage's model another one than its data does: model, stage, version and where it starts.

    A start that does not say its own identity is told by its weights.
    """
    return digest([VERSION, model, stage.identity(), start.get("identity", start["weights_hash"])])


def key_of(run: TrainingRun, stage: Stage, start: Reference) -> str:
    """The key of a stage's model: all that makes it another one, data included."""
    return digest([VERSION, run.recipe.model, stage.identity(), run.manifest_hash, start["weights_hash"]])


def begin_or_go_on(run: TrainingRun, stage: Stage, start: Reference) -> Training:
    """The training that is to be done: of this data, or the one that has begun under the same identity.

    A model of this data that is finished already counts as well. What is begun is recorded, and its manifest
    written into a file, by whose name the training has it from here on.
    """
    storage, key = run.storage(), key_of(run, stage, start)
    asked = Training(run, start, key, identity_of(run.recipe.model, stage, start), pinned=False)
    if storage.exists(f"models/{stage.name}/{key}/metrics.json"):
        return asked
    note = _note_name(stage.name, asked.identity)
    begun = storage.read_json(note) if storage.exists(note) else None
    if begun and begun["key"] != key and (found := _begun(asked, stage, begun)) is not None:
        return found
    asked = replace(asked, run=in_file(run, _manifest_name(stage.name, key)))
    if not begun or begun["key"] != key:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        document = {"key": key, "manifest_hash": run.manifest_hash, "start": start, "begun": now}
        storage.write_json(note, document)
    return asked


def _begun(asked: Training, stage: Stage, begun: Reference) -> Training | None:
    """The training of a record; None where what it needs is no longer there."""
    run, storage = asked.run, asked.run.storage()
    name, start = _manifest_name(stage.name, begun["key"]), begun["start"]
    lost = [one for one in (f"{name}/{NOTE}", start["folder"]) if not storage.exists(one)]
    if lost:
        run.report(f"{stage.name}: what has begun cannot go on without {lost[0]}; it begins anew")
        return None
    if stored_hash(storage, name) != begun["manifest_hash"]:
        run.report(f"{stage.name}: {name} is not what the training began with; it begins anew")
        return None
    data = "the manifest" if begun["manifest_hash"] != run.manifest_hash else "the start"
    run.report(
        f"{stage.name}: goes on with {data} of {begun['begun']} that it began with; newer data waits for the "
        f"next training (to begin anew with it: got train restart {stage.name})"
    )
    pinned = replace(run, manifest=None, manifest_file=name, manifest_hash=begun["manifest_hash"])
    return replace(asked, run=pinned, start=start, key=begun["key"], pinned=True)


def finish(training: Training, stage: Stage) -> None:
    """Forget that a training has not ended."""
    storage, note = training.run.storage(), _note_name(stage.name, training.identity)
    if storage.exists(note) and storage.read_json(note)["key"] == training.key:
        storage.delete(note)


def unfinished(storage: Storage, stage: str) -> list[Reference]:
    """What is recorded of a stage's trainings that have begun and not ended: ``key``, ``manifest_hash``,
    ``start`` and ``begun``, the time."""
    return [storage.read_json(name) for name in storage.list(f"models/{stage}/{FOLDER}/")]


def forget_unfinished(storage: Storage, stage: str) -> list[str]:
    """Let the next training of a stage begin anew, with the data of then. Returns the folders that were given
    up, in the storage, whose checkpoints are deleted.

    Not while the stage trains. A finished model stays.
    """
    given_up = []
    for name in storage.list(f"models/{stage}/{FOLDER}/"):
        key = storage.read_json(name)["key"]
        storage.delete(name)
        if not storage.exists(f"models/{stage}/{key}/metrics.json"):
            for folder in (f"models/{stage}/{key}", f"ray/{stage}-{key}"):
                storage.delete(folder)
            given_up.append(f"models/{stage}/{key}")
    return given_up


def _note_name(stage: str, identity: str) -> str:
    return f"models/{stage}/{FOLDER}/{identity}.json"


def _manifest_name(stage: str, key: str) -> str:
    return f"models/{stage}/{key}/manifest"
