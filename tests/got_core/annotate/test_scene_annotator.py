from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from got_core.annotate.annotator import AnnotationError
from got_core.annotate.scene_annotator import SceneAnnotator, make_annotator
from got_core.chain.boxes import Box
from got_core.scenes.prompts import parse_prompt
from got_core.scenes.world import NARROW
from tests.got_core.annotate.scenes_on_hand import image_shard, photograph, picture

THREE = (("blue", "square", 4, 6, 16), ("red", "circle", 40, 4, 20), ("blue", "square", 24, 40, 18))


@pytest.fixture
def annotator() -> SceneAnnotator:
    return SceneAnnotator()


def test_the_caption_follows_the_prompt_then_the_picture(annotator: SceneAnnotator) -> None:
    image = picture(*THREE)
    plain = annotator.detailed_caption(image, "something else")
    assert plain == "a blue square, a blue square and a red circle on a grey background"
    circle_first = "a red circle, a blue square and a blue square on a grey background"
    assert annotator.detailed_caption(image, "a photo of a circle") == circle_first
    assert annotator.detailed_caption(image, "a photo of two squares") == plain
    assert annotator.detailed_caption(image, "a photo of a green circle") == plain


def test_a_position_prompt_names_its_first_object_first(annotator: SceneAnnotator) -> None:
    image = picture(("orange", "cross", 4, 20, 16), ("red", "circle", 40, 20, 20), tone="black")
    caption = annotator.detailed_caption(image, "a photo of a circle right of a cross")
    assert caption == "a red circle and an orange cross on a black background"


def test_prompts_are_true_and_every_style_occurs(annotator: SceneAnnotator) -> None:
    _, pictures, scenes = image_shard(NARROW, 90, seed=5)
    seen: Counter[str] = Counter()
    for image, scene in zip(pictures.values(), scenes.values(), strict=True):
        row = parse_prompt(annotator.concise_prompt(image))
        seen[row["tag"]] += 1
        for clause in row["include"]:
            fitting = [
                o
                for o in scene.objects
                if o.shape == clause["class"] and clause.get("color", o.color) == o.color
            ]
            assert len(fitting) == clause["count"]
    assert len(seen) == 6
    assert min(seen.values()) >= 6


def test_the_same_pixels_give_the_same_prompt(annotator: SceneAnnotator) -> None:
    image = picture(*THREE[:2])
    assert annotator.concise_prompt(image) == SceneAnnotator().concise_prompt(image.copy())


def test_equal_objects_are_counted_from_left_to_right(annotator: SceneAnnotator) -> None:
    image = picture(*THREE)
    found = [annotator.ground(image, "blue square", k) for k in range(3)]
    assert found == [Box.from_pixels((4, 6, 20, 22), 64, 64), Box.from_pixels((24, 40, 42, 58), 64, 64), None]
    assert annotator.ground(image, "the red circle") == Box.from_pixels((40, 4, 60, 24), 64, 64)
    assert annotator.ground(image, "green circle") is None
    assert annotator.ground(image, "dog") is None


def test_entities_are_the_captions_own_words(annotator: SceneAnnotator) -> None:
    caption = annotator.detailed_caption(picture(*THREE), "")
    assert annotator.extract_entities(caption) == ["blue square", "blue square", "red circle"]
    with pytest.raises(AnnotationError, match="no_entities"):
        annotator.extract_entities("a dog on a grey background")


def test_a_description_names_the_object_first_or_says_it_is_missing(annotator: SceneAnnotator) -> None:
    image = picture(*THREE)
    assert annotator.describe(image, "red circle").startswith("a red circle, a blue square and")
    with pytest.raises(
        AnnotationError, match="not_mentioned: no green cross: the scene shows a blue square,"
    ):
        annotator.describe(image, "green cross")
    assert annotator.describe(picture(tone="white"), "") == "a white background"


def test_a_crop_shows_the_object_that_overlaps_most(annotator: SceneAnnotator) -> None:
    image = picture(*THREE)
    assert annotator.describe_crop(image, Box(600, 50, 900, 400)) == "a red circle"
    with pytest.raises(AnnotationError, match="empty_crop"):
        annotator.describe_crop(image, Box(0, 900, 50, 999))


@pytest.mark.parametrize(
    ("instruction", "parsed"),
    [
        ("add a red circle at the top left", ("add", ["red circle"])),
        ("remove the red circle", ("remove", ["red circle"])),
        ("change the red circle to blue", ("recolour", ["red circle", "blue circle"])),
        ("replace the red circle with a blue square", ("replace", ["red circle", "blue square"])),
        ("move the red circle to the top right", ("move", ["red circle"])),
    ],
)
def test_instructions_are_parsed_and_reworded(
    annotator: SceneAnnotator, instruction: str, parsed: tuple
) -> None:
    assert annotator.parse_edit(instruction) == parsed
    wordings = annotator.rewrite(instruction)
    assert len(set(wordings)) == 3
    assert all(annotator.parse_edit(wording) == parsed for wording in wordings)


def test_several_steps_are_split_before_they_are_parsed(annotator: SceneAnnotator) -> None:
    whole = "Delete the red circle and then paint the blue square green."
    assert annotator.split_steps(whole) == ["remove the red circle", "change the blue square to green"]
    assert annotator.split_steps("Delete the red circle.") == ["Delete the red circle."]
    assert len(annotator.rewrite(whole)) == 3
    with pytest.raises(AnnotationError, match="several_steps"):
        annotator.parse_edit(whole)
    with pytest.raises(AnnotationError, match="not_an_instruction"):
        annotator.split_steps("first remove the red circle, then make it winter")


def test_instructions_beyond_scenes_are_refused(annotator: SceneAnnotator) -> None:
    with pytest.raises(AnnotationError, match="not_an_instruction"):
        annotator.parse_edit("make it look like winter")


def test_photographs_are_refused_by_every_question(annotator: SceneAnnotator) -> None:
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    for image in (photograph(), noise):
        for question in (
            lambda picture: annotator.concise_prompt(picture),
            lambda picture: annotator.detailed_caption(picture, "a photo of a circle"),
            lambda picture: annotator.ground(picture, "circle"),
            lambda picture: annotator.describe(picture, ""),
            lambda picture: annotator.describe_crop(picture, Box(0, 0, 9, 9)),
        ):
            with pytest.raises(AnnotationError) as caught:
                question(image)
            assert caught.value.reason == "not_a_scene"


def test_an_empty_scene_has_no_prompt(annotator: SceneAnnotator) -> None:
    with pytest.raises(AnnotationError, match="no_objects"):
        annotator.concise_prompt(picture())


def test_annotators_are_made_by_name() -> None:
    assert make_annotator("scenes").revision == SceneAnnotator().revision
    with pytest.raises(ValueError, match="unknown annotator 'gpt': set GOT_ANNOTATOR"):
        make_annotator("gpt")
    with pytest.raises(ValueError, match="no annotator is configured"):
        make_annotator(None)
