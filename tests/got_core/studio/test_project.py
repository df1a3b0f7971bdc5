"""Saved projects open again as they were, and damaged ones not at all."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from got_core.registry.picture_file import PictureNote, picture_bytes, read_note
from got_core.studio import project as project_module
from got_core.studio.project import Project, ProjectError, opened, upload_bytes

NOTE = PictureNote(prompt="a cat", chain="", seed=3)
PICTURE = picture_bytes(Image.new("RGB", (64, 64), "red"), NOTE)


def project() -> Project:
    first = Project().with_round("upload", PICTURE)
    second = first.with_round(
        "drawn", PICTURE, parent=1, source=1, prompt="make it blue", chain="a cat (1,2),(3,4)"
    )
    return second.with_round("drawn", PICTURE, parent=1, prompt="a dog", seed=7, model="m").showing(2)


SAVED = project().to_bytes()


def packed(change: Callable[[dict[str, Any]], Any], **files: bytes) -> bytes:
    """A project's file with its manifest changed, and with other files."""
    data = io.BytesIO(project().to_bytes())
    with zipfile.ZipFile(data) as archive:
        manifest = json.loads(archive.read("project.json"))
        pictures = {name: archive.read(name) for name in archive.namelist() if name != "project.json"}
    change(manifest)
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("project.json", json.dumps(manifest))
        for name, content in (
            pictures | {f"rounds/{key[1:]}.png": value for key, value in files.items()}
        ).items():
            archive.writestr(name, content)
    return written.getvalue()


def locked() -> bytes:
    """A project whose files are marked as encrypted, in their headers and in the list at its end."""
    data = bytearray(project().to_bytes())
    for mark, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = data.find(mark)
        while at >= 0:
            data[at + place] |= 1
            at = data.find(mark, at + 4)
    return bytes(data)


def test_what_was_saved_opens_again_with_every_chain() -> None:
    again = Project.from_bytes(project().to_bytes())
    assert again == project()
    assert [read_note(one.picture) for one in again.rounds] == [NOTE] * 3


def test_rounds_that_go_back_branch_off() -> None:
    branched = project().showing(1).with_round("drawn", PICTURE, parent=1)
    assert branched.shown == 4 and [one.id for one in branched.rounds] == [1, 2, 3, 4]
    with pytest.raises(ProjectError, match="no round 9"):
        branched.showing(9)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"PK no zip", "no project"),
        (project().to_bytes()[:-40], "no project"),
        (packed(lambda found: found.update(format=2)), "newer version"),
        (packed(lambda found: found["rounds"][1].update(seed="1")), "round 2 has no usable `seed`"),
        (packed(lambda found: found["rounds"][1].pop("kind")), "round 2 has no `kind`"),
        (packed(lambda found: found["rounds"][0].update(parent=2)), "round 1 does not come after"),
        (packed(lambda found: found["rounds"][1].update(id=1)), "round 2 does not come after"),
        (packed(lambda found: found["rounds"][1].update(chain="a (5,5),(1,1)")), "round 2: the plan cannot"),
        (packed(lambda found: found["rounds"].append({"id": 9, "kind": "upload"})), "no project"),
        (packed(lambda found: None, _2=b"no picture"), "round 2: the picture cannot be used"),
        (packed(lambda found: None, _2=b"\0" * (257 << 20)), "256 MiB"),
        (locked(), "encrypted"),
    ],
)
def test_what_is_damaged_says_what_is_wrong(data: bytes, said: str) -> None:
    with pytest.raises(ProjectError, match=said):
        Project.from_bytes(data)


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=8))
@settings(max_examples=150, deadline=None)
def test_a_project_with_any_bytes_changed_opens_or_is_refused(changes: list[tuple[int, int]]) -> None:
    data = bytearray(SAVED)
    for place, value in changes:
        data[place % len(data)] = value
    with suppress(ProjectError):
        Project.from_bytes(bytes(data))


def test_a_project_keeps_to_what_opens_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project_module, "_ROOM", 2 * len(PICTURE))
    full = Project().with_round("upload", PICTURE).with_round("upload", PICTURE)
    with pytest.raises(ProjectError, match="200 rounds and 256 MiB"):
        full.with_round("upload", PICTURE)


def test_the_list_of_rounds_has_small_pictures() -> None:
    large = picture_bytes(Image.new("RGB", (400, 200), "red"), NOTE)
    small, whole = Project().with_round("upload", large).with_round("upload", PICTURE).rounds
    assert opened(small.thumbnail).size == (128, 64)
    assert whole.thumbnail == PICTURE


def test_an_upload_keeps_how_it_was_drawn() -> None:
    assert read_note(upload_bytes(PICTURE)) == NOTE
    jpeg = picture_bytes(Image.new("RGB", (64, 64), "red"), None, "jpeg")
    assert upload_bytes(jpeg).startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="cannot be used"):
        upload_bytes(b"GIF89a nothing")
