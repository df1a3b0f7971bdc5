"""The page as artists use it, with the weights that come with the package, in a real browser."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from got_core.chain.boxes import Box
from got_core.registry.picture_file import picture_bytes, read_note
from got_core.scenes.reader import read_scene
from got_core.studio.desk import EDIT, Studio
from got_core.studio.pictures import change_outside
from got_core.studio.project import Project
from tests.got_core.studio.page_driver import Artist

pytestmark = pytest.mark.slow

PROMPT = "a photo of a red circle and a blue square"


def opened(url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")


def found(picture: Image.Image, color: str) -> Box:
    (one,) = [item for item in read_scene(picture, strict=False) if item.color == color]
    return Box.from_pixels(one.box, *picture.size)


def test_a_moved_box_is_drawn_where_it_was_moved_to(chromium: Any, url: str) -> None:
    artist = Artist.at(chromium, url)
    artist.plan(PROMPT)
    first = opened(artist.draw())
    at = artist.names.index("a red circle")
    x1, y1, x2, y2 = artist.boxes[at]
    middle = ((x1 + x2) / 2, (y1 + y2) / 2)
    artist.drag(middle, (x2 - x1, y2 - y1))
    moved = Box(*artist.boxes[at])
    artist.wait_text(str(moved))
    data = artist.draw()
    second = opened(data)
    assert found(second, "red").iou(moved) >= 0.6 > found(first, "red").iou(moved)
    assert change_outside(first, second, [Box(x1, y1, x2, y2), moved]).median == 0, "the rest stays"
    note = read_note(base64.b64decode(data.partition(",")[2]))
    assert str(moved) in note.chain and note.prompt == PROMPT and note.seed == 0
    assert artist.page.locator("#pair").inner_text().count("levels of 255") == 1
    assert not artist.messages
    artist.page.context.close()


def test_edits_in_rounds_saved_opened_elsewhere_and_given(
    chromium: Any, url: str, studio: Studio, tmp_path: Path
) -> None:
    artist = Artist.at(chromium, url)
    page = artist.page
    scene = tmp_path / "scene.png"
    pixels = np.full((64, 64, 3), 128, np.uint8)
    pixels[10:30, 8:28] = (220, 30, 30)
    pixels[36:56, 36:56] = (40, 80, 230)
    Image.fromarray(pixels).save(scene)
    artist.upload(scene)
    artist.wait_said("Opened: 2 objects")
    assert page.is_checked(f"#mode input[value='{EDIT}']")
    artist.plan("Make the red square green.")
    assert len(artist.boxes) == 1, "the region that is to change"
    artist.keys(".", "ArrowRight")
    region = artist.boxes[0]
    artist.wait_text(f"({region[0]},{region[1]})")
    second = artist.draw()
    artist.plan("Remove the blue square.")
    third = artist.draw()
    assert third != second
    page.click("#rounds li[data-round='2'] button")
    artist.wait_said("Back at round 2")
    assert artist.boxes == [region]
    artist.plan("Make the blue square yellow.")
    artist.draw()
    saved = artist.saved("#save")
    project = Project.from_bytes(saved)
    assert artist.saved("#rounds li[data-round='4'] .save") == project.rounds[3].picture
    assert [(one.id, one.parent, one.source) for one in project.rounds] == [
        (1, None, None), (2, 1, 1), (3, 2, 2), (4, 2, 2)
    ]  # fmt: skip
    elsewhere = Artist.at(chromium, url)
    (tmp_path / "again.zip").write_bytes(saved)
    elsewhere.upload(tmp_path / "again.zip", place=1)
    elsewhere.wait_said("Opened: 4 rounds")
    assert elsewhere.rounds == artist.rounds and elsewhere.text == artist.text
    for one in (artist, elsewhere):
        assert not one.messages
        one.page.context.close()


def test_a_project_that_is_opened_gives_up_what_is_being_drawn(
    chromium: Any, url: str, tmp_path: Path
) -> None:
    artist, other = (Artist.at(chromium, url) for _ in range(2))
    artist.plan(PROMPT)
    artist.draw()
    artist.page.click("#files button")
    (tmp_path / "saved.zip").write_bytes(artist.saved("#save"))
    artist.page.get_by_text("How it is drawn").click()
    artist.page.locator("#num_inference_steps").locator("input, textarea").fill("60")
    artist.page.fill("#seed input", "1")
    artist.page.click("#draw")
    artist.wait_said("^Drawing: step")
    artist.upload(tmp_path / "saved.zip", place=1)
    artist.wait_said("^Opened: 1 rounds")
    other.plan(PROMPT)  # is answered behind whatever is still being drawn
    assert len(artist.rounds) == 1 and artist.wait_said("").startswith("Opened: 1 rounds")
    for one in (artist, other):
        one.page.context.close()


def test_what_goes_wrong_is_said_and_covers_nothing(chromium: Any, url: str) -> None:
    artist = Artist.at(chromium, url)
    artist.page.click("#plan")
    artist.wait_said("^Not done: write first what the picture shows")
    artist.page.click("#draw")
    artist.wait_said("^Not done: the plan has no box")
    artist.page.locator("#prompt").locator("input, textarea").fill(PROMPT)
    artist.page.keyboard.press("Enter")  # plans
    artist.wait_said("^Planned: 2 boxes")
    artist.page.click("#other-seed")
    artist.wait_said("^The seed is [0-9]+ now: press Draw")
    assert artist.page.locator("text=Error").count() == 0
    artist.page.context.close()


def test_texts_from_elsewhere_stay_texts(chromium: Any, url: str, tmp_path: Path) -> None:
    """Of a project that somebody sends: no text of it becomes a part of the page."""
    attack = "<img src=x onerror=document.title='owned'>"
    plan = f"a {attack} (100,100),(400,400)"
    picture = picture_bytes(Image.new("RGB", (64, 64), "red"))
    values = {"prompt": attack, "chain": plan, "planned": plan, "model": attack}
    hostile = Project().with_round("drawn", picture, **values)
    hostile = hostile.with_round("drawn", picture, parent=1, **values)
    (tmp_path / "hostile.zip").write_bytes(hostile.to_bytes())
    artist = Artist.at(chromium, url)
    artist.upload(tmp_path / "hostile.zip", place=1)
    artist.wait_said("^Opened: 2 rounds")
    assert attack in artist.text and attack in artist.page.inner_text("#rounds")
    artist.page.click("text=How it is drawn")
    artist.page.fill("#num_inference_steps input, #num_inference_steps textarea", attack)
    artist.page.click("#draw")
    assert attack[:20] in artist.wait_said("^Not done: Steps must be a number")
    assert artist.page.locator("img[src='x']").count() == 0
    assert artist.page.title() == "GoT studio"
    artist.page.context.close()


def test_consent_is_asked_for_once(chromium: Any, url: str, studio: Studio) -> None:
    artist = Artist.at(chromium, url)
    artist.plan(PROMPT)
    artist.draw()
    page = artist.page
    page.click("#give-it button")
    page.fill("#who input, #who textarea", "ada")
    page.click("#give")
    artist.wait_said("agree first")
    assert not (studio.feedback / "chains.jsonl").exists()
    page.check("#agreed input")
    page.click("#give")
    artist.wait_said("Saved as row")
    (row,) = [json.loads(line) for line in (studio.feedback / "chains.jsonl").read_text().splitlines()]
    assert (row["who"], row["licence"], row["prompt"]) == ("ada", "CC0-1.0", PROMPT)
    page.reload()
    page.wait_for_selector("#canvas .surface")
    page.click("#give-it button")
    page.wait_for_function("document.querySelector('#agreed input')?.checked")
    page.context.close()


def test_two_artists_see_their_own_pictures(chromium: Any, url: str) -> None:
    artists = [Artist.at(chromium, url) for _ in range(2)]
    prompts = ("a photo of a red circle", "a photo of a blue square")
    for artist, prompt in zip(artists, prompts, strict=True):
        artist.plan(prompt)
    for artist in artists:
        artist.page.click("#draw")
    for artist, color in zip(artists, ("red", "blue"), strict=True):
        artist.wait_said("Drawn: round 1")
        (picture,) = artist.rounds
        assert [one.color for one in read_scene(opened(picture), strict=False)] == [color]
        assert not artist.messages
        artist.page.context.close()
