"""Whether all that a recipe's published benchmarks need is there, seen before anything is trained.

Belongs here: several benchmarks in one message. Not here: one download (`downloads`), and whether data and
networks can be read, which opening a benchmark tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from got_core.evaluate.published.downloads import SETTING, Download, MissingDownloadError, check_there
from got_core.evaluate.published.registry import published_benchmarks


def check_needed(names: Sequence[str], place: Path | None, who: str, judge: bool = False) -> None:
    """Raise MissingDownloadError, which names every missing file once, or ValueError without a server that a
    benchmark is judged by; `who` names these benchmarks.

    `place`: the folder of GOT_BENCHMARKS; `judge`: whether there is a server. Nothing is read or asked.
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
        check_there(needed(names), place)
    except MissingDownloadError as error:
        raise MissingDownloadError(f"{begin}: {error}, {end}") from None
    served = [one.name for one in published_benchmarks(names) if one.by_server]
    if served and not judge:
        raise ValueError(
            f"{begin}, and {', '.join(served)} is judged by a vision model behind a server: set "
            f"GOT_JUDGE_URL and GOT_JUDGE_MODEL, {end}"
        )


def needed(names: Sequence[str]) -> list[Download]:
    """The downloads of these benchmarks, each once."""
    return list(dict.fromkeys(file for one in published_benchmarks(names) for file in one.needed()))
