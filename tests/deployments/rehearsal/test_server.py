"""The rehearsal's annotator answers as the project's own readers want it, from what pictures show."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from deployments.rehearsal import eyes, pictures, server
from deployments.rehearsal.server import Annotator
from got_core.annotate.annotator import AnnotationError, Step
from got_core.annotate.config import OpenAIConfig
from got_core.annotate.ledger import Ledger
from got_core.annotate.openai_annotator import OpenAIAnnotator
from got_core.annotate.prompt_files import prompt_names
from got_core.chain.boxes import Box
from got_core.chain.edits import read_edit_chain
from got_core.chain.grammar import parse
from got_core.storage import Storage


def picture(*shapes: pictures.Shape) -> Image.Image:
    """Grey above, brown below, with shapes on it."""
    plain = Image.new("RGB", (640, 512), (120, 120, 126))
    ImageDraw.Draw(plain).rectangle((0, 300, 640, 512), fill=(150, 90, 40))
    return pictures._pasted(plain, shapes)


@pytest.fixture
def annotator(tmp_path: Path):
    with Annotator() as running:
        config = OpenAIConfig(url=running.url, vision_model=server.MODEL, first_wait=0.01, longest_wait=0.05)
        with OpenAIAnnotator(config, Ledger(Storage(str(tmp_path)), "one")) as asking:
            yield asking


def test_there_is_an_answer_to_every_prompt() -> None:
    assert set(server.ANSWERS) == set(prompt_names())


@pytest.mark.parametrize("form", ["disc", "square"])
@pytest.mark.parametrize("colour", sorted(pictures.COLOURS))
def test_shapes_are_found_where_they_are(annotator: OpenAIAnnotator, colour: str, form: str) -> None:
    image = picture((colour, form, (0.3, 0.4)))
    box = annotator.ground(image, f"{colour} {form}")
    assert box is not None
    for found, wanted in zip(box.to_pixels(640, 512), (128, 141, 256, 269), strict=True):
        assert abs(found - wanted) < 10
    assert annotator.ground(image, f"{colour} {'disc' if form == 'square' else 'square'}") is None


def test_captions_name_what_grounds(annotator: OpenAIAnnotator) -> None:
    image = picture(("red", "disc", (0.7, 0.3)))
    prompt = annotator.concise_prompt(image)
    assert prompt == "a photograph with a red disc, a grey area, a brown area and a red area"
    entities = annotator.extract_entities(annotator.detailed_caption(image, prompt))
    assert entities == ["red disc", "grey area", "brown area", "red area"]
    assert all(annotator.ground(image, name) for name in entities)


@pytest.mark.parametrize(
    ("instruction", "parsed"),
    [
        ("Add a red disc", ("add", ["red disc"])),
        ("Remove the red disc", ("remove", ["red disc"])),
        ("Replace the red disc with a green square", ("replace", ["red disc", "green square"])),
        ("Make the red disc blue", ("attribute", ["red disc", "blue disc"])),
        ("Turn the image into a sepia photograph", ("style", ["image", "sepia photograph"])),
        ("Let the time of day become night", ("environment", ["time of day", "night"])),
    ],
)
def test_edits_are_taken_apart(
    annotator: OpenAIAnnotator, instruction: str, parsed: tuple[str, list[str]]
) -> None:
    assert annotator.split_steps(instruction) == [instruction]
    assert annotator.parse_edit(instruction) == parsed
    assert len(set(annotator.rewrite(instruction))) == 3


def test_every_edit_pair_is_of_a_kind_that_is_told(annotator: OpenAIAnnotator) -> None:
    tasks = set()
    for number in range(8):
        source, target, instruction = pictures._edit(picture(), number)
        steps = annotator.split_steps(instruction)
        tasks |= {annotator.parse_edit(step)[0] for step in steps} | ({"multi"} if len(steps) > 1 else set())
        assert source.size == target.size and source.tobytes() != target.tobytes()
    assert tasks == {"add", "remove", "replace", "attribute", "style", "environment", "multi"}


def test_chains_hold_the_boxes_that_were_given(annotator: OpenAIAnnotator) -> None:
    box = Box(100, 200, 300, 400)
    chain = annotator.edit_chain(
        "Remove the red disc", "A disc.", "Nothing.", [box], "flat red disc", "remove"
    )
    assert [placed.box for placed in parse(chain, "data").boxes] == [box]
    steps = [
        Step("Remove the red disc", "remove", "red disc", (box,)),
        Step("Add a blue disc", "add", "blue disc", (Box(1, 2, 30, 40),)),
    ]
    chain = annotator.multi_turn_chain("A disc.", "A blue disc.", steps)
    assert len(read_edit_chain(parse(chain, "data")).steps) == 2


def test_a_page_is_refused_and_greys_hold_nothing(annotator: OpenAIAnnotator) -> None:
    with pytest.raises(AnnotationError, match="content_filter") as refused:
        annotator.concise_prompt(Image.new("RGB", (560, 560), (230, 230, 230)))
    assert refused.value.reason == "refused"
    grey = Image.new("RGB", (560, 560), (60, 60, 60))
    assert annotator.extract_entities(annotator.detailed_caption(grey, "grey")) == []


def test_it_is_busy_once_and_garbles_first_replies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(server, "BUSY", 1)
    monkeypatch.setattr(server, "GARBLED", 1)
    with Annotator() as running:
        config = OpenAIConfig(url=running.url, vision_model=server.MODEL, first_wait=0.01, longest_wait=0.05)
        with OpenAIAnnotator(config, Ledger(Storage(str(tmp_path)), "one")) as asking:
            assert asking.split_steps("Add a red disc") == ["Add a red disc"]
            assert asking.requests == 3
        assert dict(running.faults) == {"busy": 1, "garbled": 1}


def test_places_in_words() -> None:
    assert eyes.place_of((0.0, 0.0, 0.2, 0.2)) == "at the upper left"
    assert eyes.place_of((0.4, 0.8, 0.6, 1.0)) == "at the bottom"
    assert eyes.place_of((0.0, 0.0, 1.0, 1.0)) == "in the centre"


def test_found_things_are_named_by_colour_and_form() -> None:
    [found] = eyes.shapes(picture(("purple", "square", (0.5, 0.5))))
    assert found.name == "purple square" and 0.03 < found.share < 0.06
    assert eyes.shapes(picture()) == []
