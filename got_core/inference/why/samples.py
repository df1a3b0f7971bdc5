"""The cell that a person names: by its address, or by its picture's file or name.

Belongs here: from a text to a cell. Not here: which model is meant (`models`), finding rows in a table
(`got_core.evaluate.why.cells`).
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from got_core.evaluate.why.address import parse_address
from got_core.evaluate.why.cells import Cell, Result, cell_of_bytes, cell_of_name, find_cell
from got_core.evaluate.why.pictures import record_of
from got_core.evaluate.why.readings import UNSCORED, Reading, Verdict
from got_core.filesystems import local_path
from got_core.inference.why.home import WhyHome
from got_core.inference.why.models import ChosenModel, NoResultError, results_of

_PICTURE = (".png", ".jpg", ".jpeg", ".webp")


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
