"""Why a picture got its score: from what a person names to the evidence.

    home = WhyHome(storage=…, recipe=…, registry=…)
    model = chosen_model(home, "models:/got/3")
    shown = explain(home, model, "geneval/scenes/00012")

Belongs here: from names to models, results and cells, and what lies above the benchmarks: registry,
takedowns, reviews. Not here: the evidence itself (`got_core.evaluate.why`), the arguments of a command.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from got_core.evaluate.config import BENCHMARK_ASSETS
from got_core.evaluate.judged_names import OWN, folders_in, names_of
from got_core.evaluate.why.address import parse_address
from got_core.evaluate.why.cells import Cell, Result, cell_of_bytes, cell_of_name, find_cell
from got_core.evaluate.why.evidence import (
    ModelRecord,
    Shown,
    SourceFound,
    Surroundings,
    Training,
    evidence,
)
from got_core.evaluate.why.neighbours import Neighbour, TrainingPrints, described, trained_on
from got_core.evaluate.why.pictures import PictureFile, record_of
from got_core.evaluate.why.readings import UNSCORED, Reading, Verdict
from got_core.filesystems import is_s3, local_path
from got_core.registry.lookup import Registered, registered_versions
from got_core.registry.reference import (
    SCHEME,
    NoModelError,
    RegistryUnavailableError,
    check_registered,
    manifests_of,
)
from got_core.storage import Storage

if TYPE_CHECKING:
    from PIL import Image

    from got_core.recipes import Recipe

_PICTURE = (".png", ".jpg", ".jpeg", ".webp")
_WEIGHTS = re.compile(r"[0-9a-f]{6,64}")
_SHORT = re.compile(r"[0-9a-f]{12}")
SCORES = "scores.json"


class NoResultError(LookupError):
    """A model has no scores of a benchmark, or nothing has them."""


@dataclass(frozen=True, kw_only=True)
class WhyHome:
    """Where evidence is looked for."""

    storage: Storage
    recipe: Recipe
    registry: str | Path
    """MLflow's tracking URI, or the file of its database."""

    name: str = "got"
    """Of the registered model."""

    benchmarks: Path | None = None
    """Folder of downloads (GOT_BENCHMARKS)."""

    fs_options: Callable[[str], dict[str, Any]] = lambda url: {}
    roots: Mapping[str, str] = field(default_factory=dict)
    """Folders of training pictures, by kind (t2i, edit), as far as they are plain folders of this machine."""

    near: int = 5
    """Training pictures that are shown of each cell."""

    def open(self, url: str) -> Storage:
        """A storage by its URL."""
        return Storage(url, **self.fs_options(url))

    @cached_property
    def versions(self) -> list[Registered]:
        """Registered versions, the newest first. Raises RegistryUnavailableError."""
        return registered_versions(self.registry, self.name)

    @cached_property
    def documents(self) -> dict[str, Mapping[str, Any]]:
        """What the graph noted of each benchmark's last run, by benchmark."""
        found = {}
        for asset, name in {**BENCHMARK_ASSETS, **self.recipe.evaluate.assets}.items():
            document = self.document(asset)
            if isinstance(document.get("prefix"), str) and isinstance(document.get("weights_hash"), str):
                found[name] = document
        return found

    def document(self, asset: str) -> Mapping[str, Any]:
        """What the graph noted of an asset; empty where there is nothing."""
        try:
            document = self.storage.read_json(f"{asset}.json")
        except (FileNotFoundError, ValueError):
            return {}
        return document if isinstance(document, dict) else {}

    @cached_property
    def prints(self) -> TrainingPrints:
        """Of all training pictures; read once for any number of cells."""
        return TrainingPrints.read(self.storage)

    @cached_property
    def hidden(self) -> frozenset[str]:
        """Ids that were taken down, or are about to be. Raises ValueError where the list cannot be read."""
        if not self.storage.list("takedown/"):
            return frozenset()
        from got_core.curate.takedown import removal_of

        return removal_of(self.storage).items

    @cached_property
    def stages(self) -> dict[str, Mapping[str, Any]]:
        """Models that the graph has made, by the hash of their weights."""
        assets = [*(stage.asset for stage in self.recipe.stages), "foundation_models"]
        documents = [self.document(asset) for asset in assets]
        return {one["weights_hash"]: one for one in documents if isinstance(one.get("weights_hash"), str)}


@dataclass(frozen=True, kw_only=True)
class ChosenModel:
    """The model whose cells are explained."""

    home: WhyHome
    label: str
    """For messages."""

    weights_hash: str | None
    given: tuple[Result, ...] = ()
    """Results that were named; then there are no others."""

    missing: tuple[str, ...] = ()

    @property
    def benchmarks(self) -> list[str]:
        """Names that may be asked for."""
        if self.given:
            return [one.benchmark for one in self.given]
        own = self.home.recipe.evaluate.benchmarks
        known = [*BENCHMARK_ASSETS.values(), *own, *self.home.documents, *_own_names(self.home.benchmarks)]
        return list(dict.fromkeys(known))

    def results(self) -> Iterator[Result]:
        """All results of the model that are quick to find."""
        if self.given:
            yield from self.given
            return
        for name, document in self.home.documents.items():
            if (found := self._stored(name, document)) is not None:
                yield found

    def result(self, name: str) -> Result:
        """The model's result of a benchmark. Raises NoResultError, which says what there is."""
        for one in self.given:
            if one.benchmark == name:
                return one
        found = None if self.given else self._stored(name, self.home.documents.get(name, {}))
        if found is None:
            scored = ", ".join(one.benchmark for one in self.results()) or "none"
            raise NoResultError(
                f"{self.label} has no scores of {name} in {self.home.storage.url} (it has: {scored}): score "
                "it, or name a folder of scores with --model"
            )
        return found

    def _stored(self, name: str, document: Mapping[str, Any]) -> Result | None:
        if self.weights_hash is None:
            return None
        if document:
            # Results of all models lie side by side, by the beginning of their weights' hash.
            prefix = document["prefix"].replace(document["weights_hash"][:12], self.weights_hash[:12])
        else:
            prefix = _usual_prefix(self.home, name, self.weights_hash)
        return _result(self.home, name, prefix) if prefix else None


def _own_names(place: Path | None) -> Iterator[str]:
    """A user's own judged benchmarks, as far as their folders can be read."""
    for folder in folders_in(place / OWN) if place else ():
        with suppress(OSError, ValueError):
            yield from names_of(folder, f"{OWN}/{folder.name}")


def _usual_prefix(home: WhyHome, name: str, weights: str) -> str | None:
    """Where a benchmark keeps a model's results, for homes in which the graph did not run it."""
    from got_core.evaluate.benchmarks import BENCHMARKS

    for one in BENCHMARKS:
        if one.name == name:
            return one.prefix(weights)
    from got_core.evaluate.published.registry import published_benchmark

    try:
        return published_benchmark(name, home.benchmarks).results(weights)
    except (OSError, ValueError):
        return None


def _result(home: WhyHome, name: str, prefix: str) -> Result | None:
    try:
        scores = home.storage.read_json(f"{prefix}/{SCORES}")
    except (FileNotFoundError, ValueError):
        return None
    folder = Storage(home.storage.url_of(prefix), **home.storage.fs_options)
    return Result(benchmark=name, folder=folder, scores=scores, root=home.storage, inside=prefix)


# -- models ------------------------------------------------------------------------------------------


def chosen_model(home: WhyHome, reference: str | None) -> ChosenModel:
    """The model by its name, alias, version or weights, or by a folder of its scores; not given, the
    champion, or where there is none the model that the graph has made last.

    Raises NoModelError, RegistryUnavailableError, and what `find_scores` raises.
    """
    if reference is None:
        return _usual(home)
    if reference.startswith(SCHEME):
        return _registered(home, check_registered(reference))
    if (found := _by_word(home, reference)) is not None:
        return found
    if is_s3(reference) or "/" in reference or Path(reference).exists():
        return _of_folder(home, reference)
    known = ", ".join(
        f"{one.full_name} ({', '.join(one.aliases) or 'no alias'})" for one in home.versions[:5]
    )
    raise NoModelError(
        f"{reference!r} is no alias, version or weights of a model here, and no folder of scores; there are "
        f"{known or 'no registered models'}"
    )


def _usual(home: WhyHome) -> ChosenModel:
    missing: tuple[str, ...] = ()
    try:
        champion = next((one for one in home.versions if "champion" in one.aliases), None)
    except RegistryUnavailableError as error:
        champion, missing = None, (str(error),)
    if champion is not None:
        return _of_version(home, champion)
    made = home.document(home.recipe.candidate).get("weights_hash")
    weights = made or next((one["weights_hash"] for one in home.documents.values()), None)
    if weights is None:
        raise NoModelError(
            f"there is no champion, and no model that was scored, in {home.storage.url}: make one with `got "
            "run`, or name a model or a folder of scores with --model (GOT_RECIPE and GOT_HOME say where is "
            "looked)"
        )
    return ChosenModel(
        home=home, label=f"the candidate {weights[:12]}", weights_hash=weights, missing=missing
    )


def _registered(home: WhyHome, reference: str) -> ChosenModel:
    name, mark, which = re.split(r"([@/])", reference.removeprefix(SCHEME), maxsplit=1)
    versions = home.versions if name == home.name else registered_versions(home.registry, name)
    for one in versions:
        if which in one.aliases if mark == "@" else str(one.version) == which:
            return _of_version(home, one)
    raise NoModelError(
        f"there is no {reference} in the registry; there are "
        f"{', '.join(one.full_name for one in versions[:5]) or 'no versions'}"
    )


def _of_version(home: WhyHome, version: Registered) -> ChosenModel:
    return ChosenModel(
        home=home, label=version.full_name, weights_hash=version.tags.get("weights_hash"),
    )  # fmt: skip


def _by_word(home: WhyHome, word: str) -> ChosenModel | None:
    """By an alias, a version's number, or the beginning of the hash of weights."""
    try:
        versions = home.versions
    except RegistryUnavailableError:
        versions = []
    for one in versions:
        if word in one.aliases or word == str(one.version):
            return _of_version(home, one)
    if not _WEIGHTS.fullmatch(word):
        return None
    known = [one.tags.get("weights_hash", "") for one in versions]
    known += [*home.stages, *(one["weights_hash"] for one in home.documents.values())]
    found = sorted({one for one in known if one.startswith(word)})
    if len(found) > 1:
        raise NoModelError(
            f"{word} is the beginning of several weights: {', '.join(one[:16] for one in found)}"
        )
    if not found and len(word) < 12:
        return None
    weights = found[0] if found else word
    return ChosenModel(home=home, label=f"the model of weights {weights[:12]}", weights_hash=weights)


def _of_folder(home: WhyHome, place: str) -> ChosenModel:
    results = results_of(home, place)
    drawn = (one.scores.get("drawn") for one in results)
    named = (one.get("weights_hash") for one in drawn if isinstance(one, dict))
    weights = next((one for one in named if isinstance(one, str)), None) or _weights_of_path(home, place)
    return ChosenModel(home=home, label=place, weights_hash=weights, given=tuple(results))


def results_of(home: WhyHome, place: str) -> list[Result]:
    """The scores in a folder, or in the folders that lie in it. Raises as `find_scores`."""
    from got_core.evaluate.score_folder import find_scores

    options = home.fs_options(place)
    found = []
    for one in find_scores(place, **options):
        folder = home.open(one.url.rpartition("/")[0])
        inside = folder.url.removeprefix(f"{home.storage.url}/")
        own = inside != folder.url
        found.append(
            Result(
                benchmark=one.benchmark,
                folder=folder,
                scores=one.scores,
                root=home.storage if own else None,
                inside=inside if own else None,
            )
        )
    return found


def _weights_of_path(home: WhyHome, place: str) -> str | None:
    """The weights after whose hash a folder of results in a storage is called."""
    short = next((part for part in reversed(place.split("/")) if _SHORT.fullmatch(part)), None)
    if short is None:
        return None
    found = _by_word(home, short)
    return found.weights_hash if found else short


# -- cells -------------------------------------------------------------------------------------------


def cell_of(model: ChosenModel, sample: str) -> Cell:
    """The cell that a person names: by its address, or by its picture's file or name.

    Raises AddressError, UnknownSampleError, NoResultError and NoTableError.
    """
    if sample.lower().endswith(_PICTURE):
        path = local_path(sample)
        if path is not None and path.is_file():
            return _of_file(model, path)
        if (found := cell_of_name(_readable(model.results()), sample)) is not None:
            return found
        if not sample.startswith(tuple(f"{name}/" for name in model.benchmarks)):
            raise NoResultError(
                f"{sample!r} is no file, and no score table of {model.label} has a picture of that name"
            )
    address = parse_address(sample, model.benchmarks)
    return find_cell(model.result(address.benchmark), address.sample)


def _readable(results: Iterable[Result]) -> Iterator[Result]:
    for one in results:
        try:
            one.table  # noqa: B018
        except (LookupError, ValueError):
            continue
        yield one


def _of_file(model: ChosenModel, path: Path) -> Cell:
    """The cell of a picture's file, in whatever result has it; one without a verdict where none has."""
    data = path.read_bytes()
    sha256, record = hashlib.sha256(data).hexdigest(), record_of(data)
    results = [*_readable(_beside(model.home, path)), *_readable(_of_weights(model, record))]
    cell = cell_of_bytes(results, sha256)
    if cell is not None:
        return dataclasses.replace(cell, path=str(path))
    verdict = Verdict(state=UNSCORED, reason="no score table that was looked at has this picture")
    reading = Reading(
        kind="picture",
        sample_id=path.name,
        name=path.name,
        verdict=verdict,
        image=path.name,
        image_sha256=sha256,
    )
    return Cell(result=None, reading=reading, path=str(path))


def _of_weights(model: ChosenModel, record: Mapping[str, Any]) -> Iterator[Result]:
    yield from model.results()
    weights = record.get("weights_hash")
    if isinstance(weights, str) and weights != model.weights_hash and not model.given:
        yield from ChosenModel(home=model.home, label=weights[:12], weights_hash=weights).results()


def _beside(home: WhyHome, path: Path) -> Iterator[Result]:
    """Scores where `got score judge` leaves them: in FOLDER-scores beside the folder of the pictures."""
    for folder in list(path.absolute().parents)[:4]:
        place = folder.with_name(f"{folder.name}-scores") if folder.name else folder
        if folder.name and place.is_dir():
            try:
                yield from results_of(home, str(place))
            except (OSError, ValueError):
                continue


# -- evidence ----------------------------------------------------------------------------------------


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

    found = prints.nearest(fingerprint(image), home.near, hidden=home.hidden)
    trained = trained_on(home.storage, model.manifests, found.rows)
    rows = described(home.storage, found.rows, trained, _corrections(home))
    unknown = tuple(f"manifest {digest[:12]} is not archived" for digest in trained.unknown)
    return Training(
        neighbours=tuple(_placed(home, one) for one in rows),
        searched=prints.frame["image_id"].n_unique(),
        hidden=found.hidden,
        missing=(*prints.missing, *unknown),
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
