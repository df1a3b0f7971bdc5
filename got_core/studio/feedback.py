"""Corrected plans as rows of a data set of their own.

    FOLDER/images/<sha256>.png     the raw folder
    FOLDER/rows/<id>.json          one row a file
    FOLDER/chains.jsonl            all rows, for `got data import`
    FOLDER/columns.json            what their columns are, for the same

Belongs here: writing them, once a person has agreed. Not here: importing (`got_core.exchange`), accepting
them (`got_core.curate`).
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from got_core.local_files import write_local
from got_core.studio.project import Round

NAME = "studio"
"""Source of the rows."""

COLUMNS = {"image": "image_id", "image_is": "image_id", "source": "source", "licence": "licence"}
"""A `T2IMapping` of the rows."""

MOST_CHARACTERS = 200
"""Of a name, and of a licence."""

_TURN = threading.Lock()


class FeedbackError(ValueError):
    """A correction that is not taken; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Consent:
    """Who gives a correction, and on which terms."""

    who: str
    licence: str
    given: bool

    def check(self) -> None:
        """Raise FeedbackError unless it is whole."""
        if not self.given:
            raise FeedbackError("agree first that the picture and its plan may be used for training")
        if not self.who.strip() or not self.licence.strip():
            raise FeedbackError("say who you are and under which licence you give it")
        if max(len(self.who), len(self.licence)) > MOST_CHARACTERS:
            raise FeedbackError(f"name and licence may have {MOST_CHARACTERS} characters each")


def save_correction(folder: Path, made: Round, consent: Consent) -> str:
    """Write the row of a drawn picture whose plan a person has corrected; its id. The same again is the same
    row. Raises FeedbackError, and OSError where it cannot be written."""
    consent.check()
    if made.kind != "drawn" or not made.chain:
        raise FeedbackError("draw the picture first: a row is a picture with its plan")
    if made.source is not None:
        raise FeedbackError("edits are not taken: their rows are pairs of pictures")
    image = hashlib.sha256(made.picture).hexdigest()
    row = _row(made, consent, image)
    text = json.dumps([image, made.prompt, made.chain], ensure_ascii=True)
    number = hashlib.sha256(text.encode()).hexdigest()[:32]
    with _TURN:
        for part in ("images", "rows"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        write_local(folder / row["image"], lambda file: file.write(made.picture), exclusive=False)
        data = json.dumps(row, ensure_ascii=False).encode()
        write_local(folder / "rows" / f"{number}.json", lambda file: file.write(data), exclusive=False)
        lines = b"".join(_lines(folder / "rows"))
        write_local(folder / "chains.jsonl", lambda file: file.write(lines), exclusive=False)
        columns = json.dumps(COLUMNS, indent=1).encode()
        write_local(folder / "columns.json", lambda file: file.write(columns), exclusive=False)
    return number


def _row(made: Round, consent: Consent, image: str) -> dict[str, Any]:
    return {
        "image": f"images/{image}.png",
        "image_id": image,
        "prompt": made.prompt,
        "got": made.chain,
        "planned": made.planned,
        "who": consent.who.strip(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "licence": consent.licence.strip(),
        "source": NAME,
        "model": made.model,
        "seed": made.seed,
    }


def _lines(rows: Path) -> Iterator[bytes]:
    for path in sorted(rows.glob("*.json")):
        yield path.read_bytes().strip() + b"\n"
