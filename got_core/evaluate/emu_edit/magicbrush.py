"""`magicbrush`: MagicBrush's dev and test sets, with targets, over all turns and over final turns.

Belongs here: its parquet files, its unpacked folder, its captions, and the names of edited pictures. Not
here: judging (`judging`).

All turns: each turn's edit of the true earlier picture. Final turn: the last picture of a session in which
each edit continues the model's own. Both are compared with the turn's target, as in the authors' script.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Literal

from got_core.evaluate.emu_edit.benchmark import EditBenchmark
from got_core.evaluate.emu_edit.folders import StoredPictures
from got_core.evaluate.emu_edit.parquet import (
    ParquetPictures,
    files_of_split,
    has_pictures,
    rows_of,
)
from got_core.evaluate.emu_edit.samples import (
    BenchmarkDataError,
    EditRequest,
    EditSample,
    EditSamples,
    Faults,
    Pictures,
    text_of,
)
from got_core.storage import Storage

ALL_TURNS, FINAL_TURN = "all_turns", "final_turn"
_SESSIONS = "edit_sessions.json"
_NAME = re.compile(r"\w[\w.-]*")
_KEY = re.compile(r"(?P<id>.+?)_(?:(?:inde|iter)_)?\d+")


@dataclass(frozen=True)
class _Turn:
    session: str
    number: int
    instruction: str
    source: str
    target: str
    mask: str

    @property
    def target_file(self) -> str:
        """Its name in the published folder and captions."""
        return f"{self.session}-output{self.number}.png"

    @property
    def key(self) -> str:
        """Of the edit of the true earlier picture."""
        return f"{self.session}_1" if self.number == 1 else f"{self.session}_inde_{self.number}"

    @property
    def chained_key(self) -> str:
        """Of the edit of the model's own earlier picture."""
        return f"{self.session}_1" if self.number == 1 else f"{self.session}_iter_{self.number}"


@dataclass(frozen=True, kw_only=True)
class MagicBrush(EditBenchmark):
    """MagicBrush with L1, L2, CLIP-I, DINO and CLIP-T, all against the target."""

    captions: Literal["local", "global"] = "local"
    """Which of the published descriptions CLIP-T compares with. The authors' paper and example use the local
    ones (of the edited object), much later work the global ones (of the whole picture)."""

    captions_file: Path | str | None = None
    """Where they are; by default `local_descriptions.json` or `global_descriptions.json` beside the data."""

    name: ClassVar[str] = "magicbrush"
    data: ClassVar[str] = "osunlp/MagicBrush"
    directed: ClassVar[bool] = False
    compared_with: ClassVar[str] = "target"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.captions not in ("local", "global"):
            raise ValueError(f"{self.name}: captions must be local or global, got {self.captions!r}")

    def rules(self) -> dict[str, Any]:
        """With the kind of captions."""
        return {**super().rules(), "captions": self.captions}

    def place(self, key: str) -> str:
        """`ID/KEY`."""
        found = _KEY.fullmatch(key)
        if found is None:
            raise ValueError(f"{key!r} is no key of MagicBrush, such as 139_1, 139_inde_2 or 139_iter_3")
        return f"{found['id']}/{key}"

    def read(self, data: Path | str) -> EditSamples:
        """The samples of the unpacked folder (`edit_sessions.json`, `images/ID/ID-output1.png`) or of parquet
        files, with the published descriptions.

        Raises BenchmarkDataError that names turns that are repeated or missing, pictures and captions that
        are not there, unless `partial`.
        """
        place, faults = Path(data), Faults(str(data))
        unpacked = (place / _SESSIONS).is_file()
        turns, pictures = _unpacked(place, faults) if unpacked else _rows(place, self.split, faults)
        captions = self._captions(place)
        sessions = _sessions(turns, faults)
        samples = [
            one for session in sessions.values() for one in _samples(session, captions, pictures, faults)
        ]
        if not samples:
            faults.add("no samples", "it has no turn that can be judged")
        notes = faults.settle(partial=self.partial and bool(samples))
        return EditSamples(
            samples=tuple(samples), pictures=pictures, data=self.data, split=self.split, notes=notes
        )

    def _captions(self, data: Path) -> dict[str, dict[str, str]]:
        folder = data if data.is_dir() else data.parent
        path = Path(self.captions_file or folder / f"{self.captions}_descriptions.json")
        found = _json(path, f"download MagicBrush's {self.captions} descriptions, or name `captions_file`")
        if not isinstance(found, dict) or not all(isinstance(one, dict) for one in found.values()):
            raise BenchmarkDataError(f"{path} must hold captions by session and file name")
        return found

    def requests(self, samples: EditSamples) -> list[EditRequest]:
        """With the turns between first and last of each session, which the last one continues."""
        sessions: dict[str, list[EditSample]] = defaultdict(list)
        for one in samples.samples:
            sessions[one.cluster or one.key].append(one)
        return [request for some in sessions.values() for request in _requests(some)]


def _samples(
    session: list[_Turn], captions: Mapping[str, Mapping[str, str]], pictures: Pictures, faults: Faults
) -> Iterator[EditSample]:
    there = pictures.names()
    for turn in session:
        caption = text_of(captions.get(turn.session, {}).get(turn.target_file))
        absent = [name for name in (turn.source, turn.target, session[0].source) if name not in there]
        faults.add("missing pictures of the data", *absent)
        if not caption:
            faults.add("targets without a caption", turn.target_file)
        if caption and not absent:
            last = turn is session[-1]
            single = (ALL_TURNS, FINAL_TURN) if len(session) == 1 else (ALL_TURNS,)
            yield _sample(turn, turn.key, turn.source, caption, single)
            if last and len(session) > 1:
                yield _sample(turn, turn.chained_key, session[0].source, caption, (FINAL_TURN,))


def _sample(turn: _Turn, key: str, source: str, caption: str, settings: tuple[str, ...]) -> EditSample:
    return EditSample(
        key=key,
        task=f"turn {turn.number}",
        instruction=turn.instruction,
        source=source,
        reference=turn.target,
        output_caption=caption,
        cluster=turn.session,
        settings=settings,
        mask=turn.mask,
    )


def _requests(session: list[EditSample]) -> Iterator[EditRequest]:
    """Each turn by itself, then the chain of those after the first."""
    single = [one for one in session if ALL_TURNS in one.settings]
    for one in single:
        yield EditRequest(key=one.key, instruction=one.instruction, source=one.source)
    for number, (before, one) in enumerate(pairwise(single), start=2):
        earlier = before.key if number == 2 else f"{one.cluster}_iter_{number - 1}"
        key = f"{one.cluster}_iter_{number}"
        yield EditRequest(key=key, instruction=one.instruction, source=earlier, of_edited=True)


# -- the two published forms -------------------------------------------------------------------------


def _sessions(turns: list[_Turn], faults: Faults) -> dict[str, list[_Turn]]:
    """Turns of each session in order; a session with a gap or a repeated turn is a fault, and left out."""
    sessions: dict[str, list[_Turn]] = defaultdict(list)
    for turn in turns:
        sessions[turn.session].append(turn)
    whole = {}
    for name, some in sessions.items():
        some.sort(key=lambda turn: turn.number)
        numbers = [turn.number for turn in some]
        if not _NAME.fullmatch(name):
            faults.add("sessions with ids that are no file names", name)
        elif numbers == list(range(1, len(some) + 1)):
            whole[name] = some
        else:
            faults.add("sessions with missing or repeated turns", f"{name}: {numbers}")
    return whole


def _rows(data: Path, split: str, faults: Faults) -> tuple[list[_Turn], Pictures]:
    turns: list[_Turn] = []
    places: dict[str, tuple[Path, str, int]] = {}
    for path in files_of_split(data, split):
        columns = ("img_id", "turn_index", "instruction")
        kinds = {"texts": ["instruction"], "numbers": ["turn_index"]}
        has_masks = has_pictures(path, "mask_img")
        for number, row in enumerate(rows_of(path, columns, ["source_img", "target_img"], **kinds)):
            if None in row.values() or not text_of(row["instruction"]):
                faults.add("rows without img_id, turn_index or instruction", f"{path.name} row {number}")
                continue
            session, index = str(row["img_id"]), int(row["turn_index"])
            turn = _Turn(
                session,
                index,
                row["instruction"],
                f"{session}-source{index}",
                f"{session}-output{index}.png",
                f"{session}-mask{index}",
            )
            turns.append(turn)
            places[turn.source] = (path, "source_img", number)
            places[turn.target] = (path, "target_img", number)
            if has_masks:
                places[turn.mask] = (path, "mask_img", number)
    return turns, ParquetPictures(places)


def _unpacked(data: Path, faults: Faults) -> tuple[list[_Turn], Pictures]:
    sessions = _json(data / _SESSIONS, "unpack MagicBrush's download again")
    turns: list[_Turn] = []
    files: dict[str, str] = {}
    try:
        for session, steps in sessions.items():
            if not steps:
                faults.add("sessions without turns", session)
            for number, step in enumerate(steps, start=1):
                source, target = (f"{session}/{Path(step[name]).name}" for name in ("input", "output"))
                mask = f"{session}/{Path(step.get('mask') or 'none').name}"
                if not text_of(step["instruction"]):
                    faults.add("turns without an instruction", f"turn {number} of {session}")
                else:
                    turns.append(_Turn(session, number, step["instruction"], source, target, mask))
    except (AttributeError, TypeError, KeyError) as error:
        raise BenchmarkDataError(
            f"{data / _SESSIONS} must hold, by session, turns with input, output and instruction: {error!r}"
        ) from error
    storage = Storage(str(data))
    there = set(storage.list("images/"))
    for name in (name for turn in turns for name in (turn.source, turn.target, turn.mask)):
        if f"images/{name}" in there:
            files[name] = f"images/{name}"
    return turns, StoredPictures(storage, files)


def _json(path: Path, what_to_do: str) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BenchmarkDataError(f"{path} cannot be read: {error}; {what_to_do}") from error
