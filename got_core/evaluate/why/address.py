"""The address of one cell of a score table, and the command that explains it.

    geneval/scenes/00012       picture 12 of a benchmark on scenes
    geneval/00007-00002        picture 2 of prompt 7
    emu_edit/base/1234/clip_t  a figure of an edit

Belongs here: writing and reading addresses. Not here: finding the cell (`cells`).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

_NUMBER = re.compile(r"[0-9]+", re.ASCII)


class AddressError(ValueError):
    """A text that is the address of no cell; says what addresses look like."""


@dataclass(frozen=True)
class Address:
    """One cell: a benchmark's name, and the name of one of its samples."""

    benchmark: str
    sample: str

    def __str__(self) -> str:
        return sample_address(self.benchmark, self.sample)


def sample_address(benchmark: str, sample_id: str) -> str:
    """The address of a sample; characters that no terminal shows as they are, blanks and `%` are `%XX`."""
    shown = (
        one if one.isprintable() and one not in " %" else quote(one, safe="") for one in _plain(sample_id)
    )
    return f"{benchmark}/{''.join(shown)}"


def why_command(benchmark: str, sample_id: str, *, model: str | None = None) -> str:
    """The command that explains a sample, safe to paste into a shell.

    `sample_id`: any name of the sample (see `cell_name`), whatever characters it has. `model`: whose picture,
    as `got why --model` takes it; not given, the champion's.
    """
    words = ["got", "why", sample_address(benchmark, sample_id)]
    return shlex.join([*words, *(["--model", _plain(model)] if model else [])])


def cell_name(row: Mapping[str, Any]) -> str:
    """The name by which a row of any benchmark's table is asked for: on scenes its number, as its picture is
    called, else its `sample_id`, or an edit's `sample`."""
    if isinstance(number := row.get("index"), int):
        return f"{number:05d}"
    return str(row.get("sample_id") or row.get("sample") or "")


def parse_address(text: str, benchmarks: Iterable[str]) -> Address:
    """The cell that an address names, `benchmarks` being all that there may be.

    Of `geneval/scenes/00012` the longest name that is a benchmark counts. Raises AddressError.
    """
    known = list(dict.fromkeys(benchmarks))
    fitting = [name for name in known if text.startswith(f"{name}/") and len(text) > len(name) + 1]
    if not fitting:
        raise AddressError(
            f"{_shown(text)} is the address of no sample: write BENCHMARK/SAMPLE, such as "
            f"geneval/scenes/00012; benchmarks are {', '.join(known)}"
        )
    name = max(fitting, key=len)
    return Address(name, unquote(text[len(name) + 1 :]))


def same_sample(asked: str, name: str) -> bool:
    """Whether two names are of one sample: equal, or equal but for leading zeros of their numbers."""
    return asked == name or _unpadded(asked) == _unpadded(name)


def _unpadded(name: str) -> str:
    return _NUMBER.sub(lambda found: found[0].lstrip("0") or "0", name)


def _plain(text: str) -> str:
    """Without halves of surrogate pairs, which no terminal and no file takes."""
    return text.encode("utf-8", "replace").decode()


def _shown(text: str) -> str:
    return repr(_plain(text)) if len(text) <= 80 else f"{_plain(text[:80])!r}…"
