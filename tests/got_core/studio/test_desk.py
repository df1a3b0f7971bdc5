"""Sessions with the weights that come with the package, without a browser."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from got_core.chain.boxes import Box
from got_core.chain.edits import move_box
from got_core.chain.grammar import Chain, parse
from got_core.corpus.config import IngestConfig
from got_core.corpus.ingest import ingest_images
from got_core.corpus.shards import assign_image_shards
from got_core.curate.config import CurateConfig
from got_core.curate.gallery import gallery_page, make_cards
from got_core.curate.manifest import build_manifest
from got_core.curate.review import review_queue
from got_core.curate.rules import select_t2i
from got_core.exchange.config import T2IMapping, read_mapping
from got_core.exchange.importer import image_keys
from got_core.exchange.parts import import_files, shard_chains
from got_core.exchange.records import read_records
from got_core.registry.picture_file import read_note
from got_core.storage import Storage
from got_core.studio import plans
from got_core.studio.desk import (
    EDIT,
    NEW,
    Desk,
    Studio,
    comparison,
    drawn_sentence,
    number_of,
    picture_of,
    rounds_of,
    seed_of,
)
from got_core.studio.feedback import Consent, FeedbackError
from got_core.studio.painter import PaintingError, Step
from got_core.studio.pictures import change_outside
from got_core.studio.plans import NEW_PHRASE, PlanError
from got_core.studio.project import opened

PROMPT = "a photo of a red circle and a blue square"
PLAN = parse("a red circle (100,100),(400,400) and a blue square (550,550),(850,850) on a grey background")
STATIC = Path(plans.__file__).with_name("static")
ADA = Consent(who="ada", licence="CC0-1.0", given=True)


def drawn(
    studio: Studio,
    desk: Desk,
    chain: Chain,
    prompt: str = PROMPT,
    seed: int = 0,
    *,
    keep_rest: bool = False,
    **settings: Any,
) -> Desk:
    *steps, made = studio.draw(desk, chain, prompt, seed, settings, keep_rest=keep_rest)
    assert all(isinstance(step, Step) for step in steps) and isinstance(made, Desk)
    return made


def test_each_step_is_shown_until_it_is_the_picture(studio: Studio) -> None:
    *steps, made = studio.draw(Desk(), PLAN, PROMPT, 0, {})
    assert isinstance(made, Desk) and made.shown
    seen = [opened(step.preview) for step in steps if isinstance(step, Step) and step.preview]
    assert len(seen) == len(steps) > 4
    away = [change_outside(one, made.shown.image, []).mean for one in seen]
    assert away[0] > 10 * away[-1] and away[-1] <= 1


def test_a_moved_box_leaves_the_rest_as_it_was(studio: Studio) -> None:
    first = drawn(studio, Desk(), PLAN)
    moved = move_box(PLAN, 0, Box(600, 100, 900, 400))
    second, other = drawn(studio, first, moved), drawn(studio, first, moved, seed=1)
    assert first.shown and second.shown and other.shown
    boxes = [one.box for plan in (PLAN, moved) for one in plan.boxes]
    same = change_outside(first.shown.image, second.shown.image, boxes)
    assert same.median <= 3
    assert same.mean < change_outside(first.shown.image, other.shown.image, boxes).mean
    shown = comparison(second)
    assert shown is not None and "Round 1 and round 2" in shown["said"]


def test_the_rest_of_a_picture_stays_while_only_boxes_change(studio: Studio) -> None:
    first = drawn(studio, Desk(), PLAN)
    moved = move_box(PLAN, 0, Box(600, 100, 900, 400))
    boxes = [PLAN.boxes[0].box, moved.boxes[0].box]
    kept = drawn(studio, first, moved, keep_rest=True)
    assert first.shown and kept.shown and read_note(kept.shown.picture).earlier
    assert change_outside(first.shown.image, kept.shown.image, boxes).median == 0
    elsewhere = (
        drawn(studio, first, moved, seed=1, keep_rest=True),
        drawn(studio, first, moved, f"{PROMPT} on sand", keep_rest=True),
        drawn(studio, Desk(), moved, keep_rest=True),
    )
    assert all(one.shown and read_note(one.shown.picture).earlier is None for one in elsewhere)
    # Of an equal plan nothing is kept: it is the same picture.
    same = drawn(studio, first, PLAN, keep_rest=True)
    assert same.shown and same.shown.image.tobytes() == first.shown.image.tobytes()


def test_rounds_are_called_by_what_is_new_in_them(studio: Studio) -> None:
    first = drawn(studio, Desk(), PLAN)
    moved = move_box(PLAN, 0, Box(600, 100, 900, 400))
    second = drawn(studio, first, moved)
    third = drawn(studio, second, moved, seed=3)
    fourth = drawn(studio, third, moved, "a photo of a red circle")
    said = [one["said"] for one in rounds_of(fourth)["list"]]
    place = "moved from (100,100),(400,400) to (600,100),(900,400)"
    assert said == [PROMPT, f"a red circle {place}", "with seed 3", "a photo of a red circle"]
    # What was changed since is told against the picture that is shown.
    assert studio.faults(second, PLAN, PROMPT)[-1].endswith("to (100,100),(400,400)")
    assert not any("Changed" in one for one in studio.faults(second, moved, PROMPT))


def test_what_may_come_next_is_said(studio: Studio) -> None:
    first = drawn(studio, Desk(), PLAN)
    assert drawn_sentence(Desk(), first).startswith("Drawn: round 1: move a box")
    other = drawn(studio, first, PLAN, "a photo of a star")
    assert f'from the plan of "{PROMPT}"' in drawn_sentence(first, other)
    view = studio.plan(first, EDIT, "Make the red circle green.")
    assert "where the picture is to change" in view.said
    edited = drawn(studio, view.desk, view.chain, "Make the red circle green.")
    assert "Draw changes round 1 once more" in drawn_sentence(view.desk, edited)
    back = studio.go_back(edited, 1)
    assert back.mode == NEW and studio.go_back(edited, 2).mode == EDIT


def test_a_new_picture_needs_a_box(studio: Studio) -> None:
    with pytest.raises(PlanError, match="the plan has no box: press Plan"):
        next(studio.draw(Desk(), parse("a quiet sea"), "a quiet sea", 0, {}))


def test_the_model_plans_and_faults_are_repaired(studio: Studio) -> None:
    view = studio.plan(Desk(), NEW, PROMPT)
    assert sorted(one.phrase for one in view.chain.boxes) == ["a blue square", "a red circle"]
    asked = "a photo of a circle left of a square"
    wrong = parse("a circle (600,100),(900,400) and a square (100,100),(400,400)")
    assert any("left of" in one for one in studio.faults(Desk(), wrong, asked))
    repaired = studio.repair(Desk(), wrong, asked)
    assert studio.faults(Desk(), repaired.chain, asked) == ["No faults found."]
    assert repaired.earlier == wrong and "moved from" in repaired.said


def test_boxes_that_nobody_finished_are_told(studio: Studio) -> None:
    begun = parse("a circle (100,100),(400,400), an object (500,500),(900,900) and a star (10,10),(18,400)")
    for prompt in ("", PROMPT):
        told = "\n".join(studio.faults(Desk(), begun, prompt))
        assert "an object (2) says nothing of what is to be there" in told
        assert "a star (3) is too small" in told
        assert "(1) says" not in told and "(1) is too" not in told
    assert f'NEW_PHRASE = "{NEW_PHRASE}"' in (STATIC / "boxes.js").read_text()


def test_an_edit_goes_on_from_the_shown_picture(studio: Studio) -> None:
    desk = drawn(studio, Desk(), PLAN)
    view = studio.plan(desk, EDIT, "Make the red circle green.")
    assert view.desk.source == 1 and view.chain.boxes
    edited = drawn(studio, view.desk, view.chain, "Make the red circle green.", keep_outside=True)
    shown = edited.shown
    assert shown is not None and (shown.parent, shown.source) == (1, 1)
    first = desk.shown
    assert first is not None
    kept = change_outside(first.image, shown.image, [one.box for one in view.chain.boxes])
    assert kept.median <= 1
    back = studio.go_back(edited, 2)
    assert back.desk.source == 1, "drawing again changes the same picture"
    assert back.chain.to_data() == view.chain.to_data()
    with pytest.raises(PlanError, match="no picture to change"):
        studio.plan(Desk(), EDIT, "Make it green.")


def test_a_drawn_picture_opens_with_its_own_plan(studio: Studio) -> None:
    shown = drawn(studio, Desk(), PLAN, seed=5).shown
    assert shown is not None
    view = studio.upload(Desk(), shown.picture)
    assert (view.chain.to_data(), view.prompt, view.seed) == (PLAN.to_data(), PROMPT, 5)


def test_another_prompt_hides_the_last_picture(studio: Studio) -> None:
    desk = drawn(studio, Desk(), PLAN)
    assert picture_of(desk, PROMPT) and picture_of(desk, "a photo of a star") is None
    assert picture_of(replace(desk, source=1), "Remove the circle.")


@pytest.mark.parametrize("value", [None, True, 1.5, -1, float("nan"), 2**53, "1"])
def test_seeds_that_are_none_are_said(value: Any) -> None:
    with pytest.raises(PlanError, match="seed"):
        seed_of(value)


def test_fields_may_be_left_empty() -> None:
    assert [number_of(text, "Steps") for text in (None, "", " ", "8", "1.5", "-2")] == [
        None, None, None, 8, 1.5, -2.0
    ]  # fmt: skip
    with pytest.raises(PlanError, match="Steps must be a number"):
        number_of("many", "Steps")


@pytest.mark.parametrize(
    ("prompt", "settings", "said"),
    [(" ", {}, "write first"), (PROMPT, {"num_inference_steps": 10**9}, "num_inference_steps"),
     (PROMPT, {"text_scale": float("nan")}, "text_scale")],
)  # fmt: skip
def test_what_cannot_be_drawn_is_said(
    studio: Studio, prompt: str, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises((PlanError, PaintingError), match=said):
        drawn(studio, Desk(), PLAN, prompt, **settings)


def test_a_plan_is_given_once_and_only_on_terms(studio: Studio, tmp_path: Path) -> None:
    own = replace(studio, feedback=tmp_path / "given")
    desk = drawn(own, Desk(planned=PLAN.to_data()), move_box(PLAN, 0, Box(600, 100, 900, 400)))
    for refused in (replace(ADA, given=False), replace(ADA, who=" "), replace(ADA, licence="")):
        with pytest.raises(FeedbackError):
            own.give(desk, refused)
    with pytest.raises(PlanError):
        own.give(Desk(), ADA)
    assert own.give(desk, ADA) == own.give(desk, ADA), "the same again is the same row"
    records = list(read_records(str(tmp_path / "given" / "chains.jsonl")))
    assert len(records) == 1 and records[0].values is not None
    row = records[0].values
    assert row["who"] == "ada" and row["planned"] == PLAN.to_data()
    assert (tmp_path / "given" / row["image"]).is_file()


def test_a_given_plan_is_in_the_next_manifest(studio: Studio, tmp_path: Path) -> None:
    given = tmp_path / "given"
    own = replace(studio, feedback=given)
    moved = move_box(PLAN, 0, Box(600, 100, 900, 400))
    own.give(drawn(own, Desk(planned=PLAN.to_data()), moved), ADA)
    storage, config = Storage(f"memory://{uuid.uuid4().hex}"), IngestConfig()
    (shard,) = assign_image_shards(storage, str(given), config)
    raw = ingest_images(storage, str(given), shard, config)
    mapping = read_mapping(T2IMapping, given / "columns.json", {"name": "studio"})
    found = import_files(storage, [str(given / "chains.jsonl")], image_keys(raw, mapping.image_is), mapping)
    assert found == {"rows": 1, "chains": 1, "refused": 0}
    chains = shard_chains(storage, raw)
    selection = select_t2i(chains, raw, CurateConfig())
    manifest = build_manifest({shard: (selection, chains, raw)}, {})
    (row,) = manifest.to_dicts()
    assert (row["prompt"], row["source"], row["licence"]) == (PROMPT, "studio", "CC0-1.0")
    assert parse(row["chain"]) == moved
    queue = review_queue(selection, chains, shard, 1)
    (card,) = make_cards(queue, raw, lambda path: Image.open(given / path))
    assert "600,100" in gallery_page([card], "studio")
