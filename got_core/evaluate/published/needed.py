"""Whether all that a recipe's published benchmarks need is there and works, seen before anything is trained.

Belongs here: several benchmarks in one message, looked at and tried. Not here: one download (`downloads`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from got_core.evaluate.network_folders import NetworkError, check_files
from got_core.evaluate.published.downloads import SETTING, Download, MissingDownloadError, check_there
from got_core.evaluate.published.registry import published_benchmarks

if TYPE_CHECKING:
    from got_core.evaluate.geneval2.config import JudgeConfig

NETWORKS = "networks"
"""Folder, below GOT_BENCHMARKS, of the folders of networks."""


def check_needed(names: Sequence[str], place: Path | None, who: str, judge: bool = False) -> None:
    """Raise MissingDownloadError, which names every missing file once, NetworkError for a folder without its
    weights, or ValueError without a server that a benchmark is judged by; `who` names these benchmarks.

    `place`: the folder of GOT_BENCHMARKS; `judge`: whether there is a server. No weight is read, nothing is
    asked: `try_all` does more.
    """
    if not names:
        return
    begin = f"{who} is to be scored by {', '.join(names)}"
    end = "or take a recipe that names no published benchmarks (EvaluateConfig.benchmarks)"
    if place is None:
        raise MissingDownloadError(
            f"{begin}, and {SETTING} is not set: it names the folder that their data and networks were "
            f"downloaded to, which `got score fetch-list` lists; set it, {end}"
        )
    try:
        check_there(needed(names, place), place)
    except MissingDownloadError as error:
        raise MissingDownloadError(f"{begin}: {error}, {end}") from None
    try:
        _check_folders(needed(names, place), place)
    except NetworkError as error:
        raise NetworkError(f"{begin}: {error}, {end}") from None
    served = [one.name for one in published_benchmarks(names, place) if one.by_server]
    if served and not judge:
        raise ValueError(
            f"{begin}, and {', '.join(served)} is judged by a vision model behind a server: set "
            f"GOT_JUDGE_URL and GOT_JUDGE_MODEL, {end}"
        )


def _check_folders(files: Sequence[Download], place: Path) -> None:
    for one in files:
        path = one.below(place)
        if path.parent.name == NETWORKS and not path.suffix:
            check_files(path, path.name, ("config.json",))


def try_all(names: Sequence[str], place: Path | None, judge: JudgeConfig | None, who: str) -> None:
    """`check_needed`, and then open each benchmark on the processor and try what judges it.

    Takes seconds, of the published networks perhaps a minute. Raises the benchmark's own errors: for data
    that cannot be read, weights that do not fit, a detector that finds nothing.
    """
    check_needed(names, place, who, judge is not None)
    for one in published_benchmarks(names, place) if names else ():
        assert place is not None
        one.open(place, device="cpu", judge=judge if one.by_server else None).check()


def needed(names: Sequence[str], place: Path | None = None) -> list[Download]:
    """The downloads of these benchmarks, each once; `place`: where a user's own are."""
    return list(dict.fromkeys(file for one in published_benchmarks(names, place) for file in one.needed()))
