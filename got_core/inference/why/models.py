"""A model by any of its names, and its results.

Belongs here: from a name to weights and stored scores. Not here: cells of the scores (`samples`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from got_core.evaluate.config import BENCHMARK_ASSETS
from got_core.evaluate.judged_names import OWN, folders_in, names_of
from got_core.evaluate.why.cells import Result
from got_core.filesystems import is_s3
from got_core.inference.why.home import WhyHome
from got_core.registry.lookup import Registered, registered_versions
from got_core.registry.reference import SCHEME, NoModelError, RegistryUnavailableError, check_registered
from got_core.storage import Storage

_WEIGHTS = re.compile(r"[0-9a-f]{6,64}")
_SHORT = re.compile(r"[0-9a-f]{12}")
SCORES = "scores.json"


class NoResultError(LookupError):
    """A model has no scores of a benchmark, or nothing has them."""


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
