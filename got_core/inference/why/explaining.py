"""The evidence behind a sample, with what lies above the benchmarks: registry, takedowns, reviews.

Belongs here: putting the parts together for one home. Not here: the parts themselves.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from got_core.evaluate.why.cells import Cell
from got_core.evaluate.why.evidence import ModelRecord, Shown, SourceFound, Surroundings, Training, evidence
from got_core.evaluate.why.neighbours import Neighbour, described, trained_on
from got_core.evaluate.why.pictures import PictureFile
from got_core.inference.why.home import WhyHome
from got_core.inference.why.models import ChosenModel
from got_core.inference.why.samples import cell_of
from got_core.registry.reference import RegistryUnavailableError, manifests_of

if TYPE_CHECKING:
    from PIL import Image


def explain(model: ChosenModel, sample: str) -> Shown:
    """The evidence behind a sample. Raises as `cell_of`, and for nothing else."""
    cell = cell_of(model, sample)
    home = model.home
    try:
        hidden: frozenset[str] = home.hidden
        listed = None
    except ValueError as error:
        hidden, listed = (
            frozenset(),
            f"no training picture is shown, since what was taken down is unknown: {error}",
        )
    around = Surroundings(
        open_storage=home.open,
        model=lambda of, file: model_record(model, of, file),
        source=lambda of, file: _source(home, of),
        training=lambda image, record: _training(home, image, record, listed),
        hidden=hidden,
    )
    return evidence(cell, around)


def model_record(model: ChosenModel, cell: Cell, file: PictureFile) -> ModelRecord:
    """What is known of the model that drew a cell's picture, by the weights that its scores or file name."""
    home = model.home
    drawn = cell.result.scores.get("drawn") if cell.result else None
    drawn = drawn if isinstance(drawn, dict) else {}
    named = (file.record.get("weights_hash"), drawn.get("weights_hash"), model.weights_hash)
    own = cell.result is not None or bool(file.record)
    weights = next((one for one in named if isinstance(one, str)), None) if own else None
    called = drawn.get("model") if isinstance(drawn.get("model"), str) else None
    missing = list(model.missing)
    try:
        versions = home.versions
    except RegistryUnavailableError as error:
        versions = []
        missing += [] if model.missing else [str(error)]
    version = next((one for one in versions if weights and one.tags.get("weights_hash") == weights), None)
    if version is None:
        return _unregistered(home, weights, called, missing)
    manifests = tuple(manifests_of(version.tags))
    if not manifests:
        missing.append("its version names no manifest: what it was trained on is not known")
    tags = version.tags
    return ModelRecord(
        weights_hash=weights,
        name=version.full_name,
        aliases=version.aliases,
        manifests=manifests,
        stages=tuple(filter(None, tags.get("trained_on", "").split(","))),
        recipe=tags.get("recipe"),
        git_commit=tags.get("git_commit"),
        mlflow_run_id=tags.get("mlflow_run_id"),
        missing=tuple(missing),
    )


def _unregistered(home: WhyHome, weights: str | None, called: str | None, missing: list[str]) -> ModelRecord:
    """What the graph's documents say of a model that is not registered, or no longer."""
    if weights is None:
        missing.append("neither scores nor picture say which weights drew it")
    stages, manifests = list[str](), list[str]()
    document = home.stages.get(weights or "")
    while document is not None and document.get("steps"):
        digest = str(document.get("manifest_hash"))
        stages.append(f"{document.get('stage')}@{digest}")
        manifests.append(digest)
        document = home.stages.get(str(document.get("start_weights_hash")))
    if weights is not None and not manifests:
        missing.append("neither the registry nor this home says what these weights were trained on")
    made = home.stages.get(weights or "", {})
    return ModelRecord(
        weights_hash=weights,
        name=called,
        manifests=tuple(dict.fromkeys(manifests)),
        stages=tuple(reversed(stages)),
        recipe=home.recipe.name if made else None,
        mlflow_run_id=made.get("mlflow_run_id"),
        missing=tuple(missing),
    )


def _source(home: WhyHome, cell: Cell) -> SourceFound | None:
    """The source of an edit's cell; None of a benchmark that edits nothing."""
    if cell.result is None:
        return None
    from got_core.evaluate.why import sources

    reading, name = cell.reading, cell.result.benchmark
    if reading.kind == "scenes":
        if "case" not in cell.result.table.columns:  # a prompt, which has no source
            return None
        evaluate = home.recipe.evaluate
        return sources.scene_source(name, cell.result.scores, reading, home.recipe.world, evaluate)
    if reading.kind == "figures" or reading.source:
        return sources.published_source(name, home.benchmarks, reading)
    return None


def _training(home: WhyHome, image: Image.Image, model: ModelRecord, unlisted: str | None) -> Training:
    if unlisted:
        return Training(missing=(unlisted,))
    if not home.near:
        return Training()
    prints = home.prints
    if prints.frame.is_empty():
        gone = "the tables of training pictures (raw_images, edit_pairs) are gone, or there are none yet"
        return Training(missing=(*prints.missing, gone))
    from got_core.corpus.duplicates import fingerprint

    query = fingerprint(image)
    found = prints.nearest(query, home.near, hidden=home.hidden)
    near, faults = found.rows, list(prints.missing)
    if home.clip is not None:
        from got_core.evaluate.why.clip import with_clip

        near = with_clip(near, prints, home.embeddings, image, query)
        failed = home.embeddings.failed
        faults += [f"{failed} pictures could not be opened for CLIP"] if failed else []
    trained = trained_on(home.storage, model.manifests, near)
    rows = described(home.storage, near, trained, _corrections(home))
    unknown = tuple(f"manifest {digest[:12]} is not archived" for digest in trained.unknown)
    return Training(
        neighbours=tuple(_placed(home, one) for one in rows),
        searched=prints.frame["image_id"].n_unique(),
        hidden=found.hidden,
        missing=(*faults, *unknown),
    )


def _placed(home: WhyHome, one: Neighbour) -> Neighbour:
    """With the file's path on this machine, and whether it is still there."""
    root = home.roots.get(one.kind)
    if root is None or one.path is None or "://" in one.path:
        return one
    place = Path(root) / one.path
    gone = () if place.is_file() else ("the picture's file is gone",)
    return dataclasses.replace(one, place=str(place), missing=(*one.missing, *gone))


def _corrections(home: WhyHome) -> dict[str, str]:
    """What reviewers corrected, by chain."""
    if not home.storage.list("reviews/"):
        return {}
    from got_core.curate.review import latest, load_verdicts

    last = latest(load_verdicts(home.storage))
    told = {"correct": "to", "reject": "rejected", "accept": "accepted"}
    return {
        row["chain_id"]: " ".join(
            filter(None, [told.get(row["verdict"]), row["chain"], f"by {row['reviewer']}"])
        )
        for row in last.iter_rows(named=True)
    }
