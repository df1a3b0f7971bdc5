"""Where scores lie that a person names: folders and files by their place, registered models by their name.

Belongs here: finding them, with what they were scored from. Not here: comparing them
(`got_core.evaluate.comparison`), or a folder's format (`got_core.evaluate.score_folder`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from got_assets.cli.errors import UsageError, usage_errors
from got_assets.cli.project import open_project

if TYPE_CHECKING:
    from got_assets.project import Project
    from got_core.evaluate.report import Run
    from got_core.evaluate.score_folder import StoredScores

REGISTERED = "models:/"


class Places:
    """Scores by the places that were named, each found once."""

    def __init__(self) -> None:
        self._named: dict[str, list[StoredScores]] = {}
        self._results: dict[str, tuple[Any, str, str]] = {}
        """Benchmark, weights and label of registered models' results, by URL."""

    @cached_property
    def _project(self) -> Project:
        return open_project()

    def find(self, place: str) -> list[StoredScores]:
        """The scores of a folder, of the folders in it, of a file, or of a registered model, as far as it was
        scored in this storage. Raises what `find_scores` raises, NoModelError, and UsageError for a model
        without any scores there."""
        if place not in self._named:
            self._named[place] = self._registered(place) if place.startswith(REGISTERED) else self._at(place)
        return self._named[place]

    def runs(self) -> dict[str, Run]:
        """All that was found with its samples and pictures, by the URL of its scores."""
        return {one.url: self._run(one) for found in self._named.values() for one in found}

    def _at(self, place: str) -> list[StoredScores]:
        from got_core.evaluate.score_folder import find_scores
        from got_core.settings import Settings

        return find_scores(place, **Settings().fs_options(place))

    def _registered(self, place: str) -> list[StoredScores]:
        from got_core.registry.reference import version_tags

        project = self._project
        with usage_errors():
            name, tags = version_tags(place, project.settings.tracking_uri)
        weights = tags.get("weights_hash", "")
        found = list(self._of_weights(weights, name)) if weights else []
        if not found:
            raise UsageError(
                f"{project.storage.url} holds no scores of {name}: score it there first, with `got score run "
                f"{name}`, or name a folder that `got score judge` wrote"
            )
        return found

    def _of_weights(self, weights: str, name: str) -> Iterator[StoredScores]:
        from got_core.evaluate.benchmarks import BENCHMARKS
        from got_core.evaluate.published.registry import PUBLISHED
        from got_core.evaluate.score_folder import SCORES, read_scores

        storage = self._project.storage
        places = [
            *((one, one.prefix(weights)) for one in BENCHMARKS),
            *((one, one.results(weights)) for one in PUBLISHED),
        ]
        for benchmark, prefix in places:
            if storage.exists(f"{prefix}/{SCORES}"):
                found = read_scores(storage.url_of(prefix), **storage.fs_options)
                self._results[found.url] = (benchmark, weights, name)
                drawn = {**(found.scores.get("drawn") or {}), "model": name, "weights_hash": weights}
                yield replace(found, scores={**found.scores, "drawn": drawn})

    def _run(self, found: StoredScores) -> Run:
        from got_core.evaluate.report.loading import folder_run
        from got_core.settings import Settings

        if found.url in self._results:
            return self._registered_run(found)
        drawn = found.scores.get("drawn") or {}
        label = str(drawn.get("model") or found.url)
        if isinstance(plan := drawn.get("plan"), bool):
            label += ", with plans" if plan else ", without plans"
        return folder_run(found, label, **Settings().fs_options(found.url))

    def _registered_run(self, found: StoredScores) -> Run:
        from got_core.evaluate.benchmarks import Benchmark
        from got_core.evaluate.report.loading import published_run, scenes_run

        benchmark, weights, name = self._results[found.url]
        project, named = self._project, {"label": name, "model": name}
        if isinstance(benchmark, Benchmark):
            suite = benchmark.suite(project.recipe.world, project.recipe.evaluate)
            made = scenes_run(project.storage, benchmark, weights, suite=suite, **named)
        else:
            made = published_run(project.storage, benchmark, weights, **named)
        assert made is not None, "its scores were read a moment ago"
        return replace(made, scores=found.scores)
