from __future__ import annotations

import polars as pl
import pytest

from got_core.annotate.annotator import AnnotationError
from got_core.annotate.edit import assemble_edit_chains, describe_edits, follow_steps, ground_edits
from got_core.annotate.scene_annotator import SceneAnnotator
from got_core.annotate.schemas import (
    BOXES,
    CAPTIONS,
    EDIT_BOXES,
    EDIT_CHAINS,
    EDIT_DESCRIPTIONS,
    ENTITIES,
    T2I_CHAINS,
)
from got_core.annotate.t2i import (
    assemble_chains,
    caption_images,
    extract_entities,
    ground_entities,
    write_t2i_chain,
)
from got_core.chain.boxes import Box
from got_core.chain.edits import read_edit_chain
from got_core.chain.grammar import ChainError, parse
from got_core.corpus.schemas import EDIT_PAIRS, RAW_IMAGES, check_schema
from got_core.scenes.edits import apply, instruction
from got_core.scenes.world import FULL, NARROW
from tests.got_core.annotate.scenes_on_hand import (
    edit_shard,
    image_shard,
    multi_turn_shard,
    photograph,
    picture,
    reasoning_shard,
    table,
)

AT = (("red", "circle", 4, 4, 20), ("blue", "square", 36, 30, 16))


def annotate(raw: pl.DataFrame, pictures) -> list[pl.DataFrame]:
    annotator = SceneAnnotator()
    captions = caption_images(raw, pictures, annotator)
    entities = extract_entities(captions, annotator)
    boxes = ground_entities(entities, raw, pictures, annotator)
    return [captions, entities, boxes, assemble_chains(captions, boxes, annotator)]


def annotate_edits(pairs: pl.DataFrame, pictures) -> list[pl.DataFrame]:
    annotator = SceneAnnotator()
    descriptions = describe_edits(pairs, pictures, annotator)
    boxes = ground_edits(pairs, descriptions, pictures, annotator)
    return [descriptions, boxes, assemble_edit_chains(pairs, descriptions, boxes, annotator)]


@pytest.mark.parametrize("world", [NARROW, FULL])
def test_chains_of_scenes_say_what_the_renderer_drew(world) -> None:
    raw, pictures, scenes = image_shard(world, 40, seed=3)
    tables = annotate(raw, pictures)
    for frame, columns in zip(tables, (CAPTIONS, ENTITIES, BOXES, T2I_CHAINS), strict=True):
        check_schema(frame, columns, "table")
        assert frame["error"].null_count() == 40
    overlaps = []
    for row in tables[-1].iter_rows(named=True):
        placed = parse(row["chain"], "data").boxes
        truth = scenes[row["image_id"]].objects
        assert sorted(p.phrase.split(" ", 1)[1] for p in placed) == sorted(
            f"{o.color} {o.shape}" for o in truth
        )
        assert row["boxes"] == len(truth) == len(row["phrases"])
        overlaps += [max(p.box.iou(Box.from_pixels(o.box, 64, 64)) for p in placed) for o in truth]
    assert sum(overlaps) / len(overlaps) > 0.95


def test_a_chain_is_the_caption_with_boxes() -> None:
    raw = table([{"image_id": "i", "path": "i.png"}], RAW_IMAGES)
    captions, _, _, chains = annotate(raw, lambda _: picture(*AT))
    (row,) = chains.rows(named=True)
    first, second = Box.from_pixels((4, 4, 24, 24), 64, 64), Box.from_pixels((36, 30, 52, 46), 64, 64)
    in_order = f"a red circle {first} and a blue square {second} on a grey background"
    turned = f"a blue square {second} and a red circle {first} on a grey background"
    assert row["chain"] in (in_order, turned)
    assert row["caption"] == captions["caption"][0]
    assert len(row["chain_id"]) == 32


def test_bad_rows_carry_their_reason_and_stop_nothing() -> None:
    raw, pictures, _ = image_shard(NARROW, 3, seed=1)
    pictures["0.png"] = photograph()
    del pictures["1.png"]
    bad = table([{"image_id": "z", "path": "z.png", "error": "corrupt: x", "reason": "corrupt"}], RAW_IMAGES)
    captions, entities, _, chains = annotate(pl.concat([raw, bad]), pictures)
    assert captions["reason"].to_list() == ["not_a_scene", "vanished", None]
    assert captions["error"][1] == "vanished: 1.png"
    assert entities["image_id"].to_list() == chains["image_id"].to_list() == ["image-2"]


def test_rows_are_matched_by_id_not_by_place() -> None:
    raw, pictures, _ = image_shard(NARROW, 6, seed=2)
    expected = annotate(raw, pictures)[-1]
    turned = annotate(raw.reverse(), pictures)[-1]
    assert turned.reverse().equals(expected)
    with pytest.raises(ValueError, match="6 rows have no image_id"):
        ground_entities(annotate(raw, pictures)[1], raw.clear(), pictures, SceneAnnotator())


def test_source_and_licence_go_with_every_row() -> None:
    raw, pictures, _ = image_shard(NARROW, 3, 0)
    stated = raw.with_columns(licence=pl.Series(["CC0", "CC-BY", None]))
    for frame in annotate(stated, pictures):
        assert frame.select("image_id", "source", "licence").equals(
            stated.select("image_id", "source", "licence")
        )
    pairs, pictures, _ = edit_shard(NARROW, 1, 0)
    stated = pairs.with_columns(licence=pl.col("pair_id"))
    for frame in annotate_edits(stated, pictures):
        assert frame.select("pair_id", "source", "licence").equals(
            stated.select("pair_id", "source", "licence")
        )


def test_progress_counts_every_row() -> None:
    raw, pictures, _ = image_shard(NARROW, 4, seed=2)
    calls: list[tuple[int, int]] = []
    caption_images(raw, pictures, SceneAnnotator(), progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_names_that_do_not_ground_stay_plain_text() -> None:
    box, other = Box(1, 2, 3, 4), Box(5, 6, 7, 8)
    caption = "A cat and a second cat watch a caterpillar near a dog."
    chain = write_t2i_chain(caption, [("cat", 0, box), ("cat", 1, other), ("wolf", 0, box)])
    assert chain.to_data() == f"A cat {box} and a second cat {other} watch a caterpillar near a dog."
    assert write_t2i_chain(caption, [("caterpillar", 0, box)]).boxes[0].phrase == "a caterpillar"
    with pytest.raises(ChainError):
        write_t2i_chain("a sign that reads (1,2),(3,4)", [])


def test_a_caption_with_coordinates_is_quarantined() -> None:
    captions = table(
        [{"image_id": "i", "prompt": "p", "caption": "a cat at (1,2)", "annotator": "me"}], CAPTIONS
    )
    boxes = table([{"image_id": "i", "boxes": []}], BOXES)
    (row,) = assemble_chains(captions, boxes, SceneAnnotator()).rows(named=True)
    assert row["reason"] == "not_a_chain"
    assert "half a box '(1,2)'" in row["error"]
    assert row["chain_id"] and row["chain"] is None


@pytest.mark.parametrize("world", [NARROW, FULL])
def test_edit_chains_of_scenes(world) -> None:
    pairs, pictures, truth = edit_shard(world, 6, seed=4)
    tables = annotate_edits(pairs, pictures)
    for frame, columns in zip(tables, (EDIT_DESCRIPTIONS, EDIT_BOXES, EDIT_CHAINS), strict=True):
        check_schema(frame, columns, "table")
        assert frame["error"].null_count() == 30
    for row in tables[-1].iter_rows(named=True):
        source, target, op = truth[row["pair_id"]]
        plan = read_edit_chain(parse(row["chain"], "data"))
        (step,) = plan.steps
        shown = target if op.kind == "add" else source
        where = next(o.box for o in shown.objects if (o.color, o.shape) == (op.color, op.shape))
        assert step.boxes[0].iou(Box.from_pixels(where, 64, 64)) > 0.8
        assert op.phrase in step.object
        for scene, text in ((source, plan.source), (target, plan.result)):
            assert all(f"{o.color} {o.shape}" in text for o in scene.objects)
        assert row["instructions"][0] == row["instruction"]
        assert len(row["instructions"]) >= 3
        assert row["boxes"] == (2 if op.kind == "move" else 1)


@pytest.mark.parametrize(
    ("instruction", "after", "chain"),
    [
        (
            "change the red circle to green",
            (("green", "circle", 4, 4, 20), AT[1]),
            "1. a red circle and a blue square on a grey background 2. the red circle 3. {old} "
            "4. change it to green 5. a green circle and a blue square on a grey background",
        ),
        (
            "replace the red circle with an orange cross",
            (("orange", "cross", 4, 4, 20), AT[1]),
            "1. a red circle and a blue square on a grey background 2. the red circle 3. {old} "
            "4. replace it with an orange cross 5. an orange cross and a blue square on a grey background",
        ),
        (
            "remove the red circle",
            (AT[1],),
            "1. a red circle and a blue square on a grey background 2. the red circle 3. {old} "
            "4. remove it 5. a blue square on a grey background",
        ),
        (
            "move the red circle to the bottom left",
            (("red", "circle", 4, 40, 20), AT[1]),
            "1. a red circle and a blue square on a grey background 2. the red circle 3. {old} "
            "4. move it to {new} 5. a red circle and a blue square on a grey background",
        ),
        (
            "add a purple triangle at the bottom left",
            (*AT, ("purple", "triangle", 4, 40, 20)),
            "1. a red circle and a blue square on a grey background 2. a purple triangle 3. {new} "
            "4. add it 5. a purple triangle, a red circle and a blue square on a grey background",
        ),
    ],
)
def test_the_words_of_each_edit(instruction: str, after: tuple, chain: str) -> None:
    pictures = {"a": picture(*AT), "b": picture(*after)}
    row = {"pair_id": "p", "source_path": "a", "target_path": "b", "instruction": instruction}
    chains = annotate_edits(table([row], EDIT_PAIRS), pictures.__getitem__)[-1]
    old, new = (Box.from_pixels((4, y, 24, y + 20), 64, 64) for y in (4, 40))
    assert chains["error"].to_list() == [None]
    assert chains["chain"].to_list() == [chain.format(old=old, new=new)]


def test_pairs_that_do_not_show_their_edit_are_quarantined() -> None:
    pictures = {"a": picture(*AT), "b": picture(AT[1]), "photo": photograph()}
    rows = [
        {"pair_id": "1", "source_path": "b", "target_path": "b", "instruction": "remove the red circle"},
        {
            "pair_id": "2",
            "source_path": "a",
            "target_path": "a",
            "instruction": "change the red circle to green",
        },
        {"pair_id": "3", "source_path": "a", "target_path": "photo", "instruction": "remove the red circle"},
        {"pair_id": "4", "source_path": "a", "target_path": "b", "instruction": "make it winter"},
        {"pair_id": "5", "source_path": "a", "target_path": "b", "instruction": "remove the red circle"},
    ]
    descriptions, boxes, chains = annotate_edits(table(rows, EDIT_PAIRS), pictures.__getitem__)
    assert descriptions["reason"].to_list() == [
        "not_mentioned",
        "not_mentioned",
        "not_a_scene",
        "not_an_instruction",
        None,
    ]
    assert boxes["pair_id"].to_list() == chains["pair_id"].to_list() == ["5"]


@pytest.mark.parametrize("world", [NARROW, FULL])
def test_multi_turn_chains_say_where_each_object_is_by_then(world) -> None:
    pairs, pictures, truth = multi_turn_shard(world, 30, seed=6)
    tables = annotate_edits(pairs, pictures)
    for frame, columns in zip(tables, (EDIT_DESCRIPTIONS, EDIT_BOXES, EDIT_CHAINS), strict=True):
        check_schema(frame, columns, "table")
        assert frame["error"].null_count() == 30
    assert set(tables[0]["task"]) == {"multi_turn"}
    for row in tables[-1].iter_rows(named=True):
        scene, target, op = truth[row["pair_id"]]
        plan = read_edit_chain(parse(row["chain"], "data"))
        assert len(plan.steps) == len(op.steps)
        for read_step, step in zip(plan.steps, op.steps, strict=True):
            after = apply(scene, step)
            shown = after if step.kind == "add" else scene
            where = next(o.box for o in shown.objects if (o.color, o.shape) == (step.color, step.shape))
            assert read_step.boxes[0].iou(Box.from_pixels(where, 64, 64)) > 0.8
            assert step.phrase in read_step.object
            if step.kind == "move":
                moved = parse(read_step.change).boxes[0].box
                assert moved.iou(Box.from_pixels(step.box, 64, 64)) > 0.8
            scene = after
        assert all(f"{o.color} {o.shape}" in plan.result for o in target.objects)
        assert row["boxes"] == sum(2 if step.kind == "move" else 1 for step in op.steps)
        assert row["instructions"][0] == row["instruction"] and len(row["instructions"]) == 3


def test_the_words_of_a_multi_turn_chain() -> None:
    after = (("green", "circle", 4, 40, 20), AT[1], ("red", "cross", 40, 4, 16))
    pictures = {"a": picture(*AT), "b": picture(*after)}
    instruction = (
        "first change the red circle to green, then move the green circle to the bottom left, "
        "then add a red cross at the top right"
    )
    row = {"pair_id": "p", "source_path": "a", "target_path": "b", "instruction": instruction}
    _, boxes, chains = annotate_edits(table([row], EDIT_PAIRS), pictures.__getitem__)
    old, new = (Box.from_pixels((4, y, 24, y + 20), 64, 64) for y in (4, 40))
    cross = Box.from_pixels((40, 4, 56, 20), 64, 64)
    assert chains["error"].to_list() == [None]
    assert chains["chain"].to_list() == [
        "1. a red circle and a blue square on a grey background "
        f"2. the red circle {old}, change it to green 3. the green circle {old}, move it to {new} "
        f"4. a red cross {cross}, add it "
        "5. a red cross, a green circle and a blue square on a grey background"
    ]
    found = [(box["step"], box["image"], box["phrase"]) for box in boxes["boxes"][0]]
    assert found == [
        (0, "source", "red circle"),
        (1, "source", "green circle"),
        (1, "target", "green circle"),
        (2, "target", "red cross"),
    ]


@pytest.mark.parametrize(
    ("instruction", "reason"),
    [
        ("move the red circle to the top, then move the red circle to the left", "place_between"),
        ("add a pink cross at the top, then remove the pink cross", "place_between"),
        ("change the red circle to green, then remove the red circle", "object_gone"),
        ("change the red circle to green, then move the blue square to the right", "not_grounded"),
    ],
)
def test_steps_that_the_two_images_do_not_show_are_quarantined(instruction: str, reason: str) -> None:
    after = (("red", "circle", 4, 40, 20), AT[1])
    row = {"pair_id": "p", "source_path": "a", "target_path": "b", "instruction": instruction}
    pictures = {"a": picture(*AT), "b": picture(*after)}
    _, boxes, chains = annotate_edits(table([row], EDIT_PAIRS), pictures.__getitem__)
    assert boxes["reason"].to_list() == [reason]
    assert chains.is_empty()


def test_a_style_edit_among_several_steps_has_the_whole_frame() -> None:
    steps = [
        {"task": "style", "entities": ["image"]},
        {"task": "replace", "entities": ["dog", "cat"]},
        {"task": "remove", "entities": ["cup"]},
    ]
    seen = {"dog": Box(1, 2, 3, 4), "cat": Box(1, 2, 3, 5), "cup": Box(5, 6, 7, 8)}
    followed = list(follow_steps(steps, lambda _, phrase: seen[phrase]))
    assert followed == [
        (0, "source", "image", Box(0, 0, 999, 999)),
        (1, "source", "dog", seen["dog"]),
        (2, "source", "cup", seen["cup"]),
    ]
    with pytest.raises(AnnotationError, match="object_gone: step 2 needs 'dog'"):
        list(follow_steps([steps[1], steps[1]], lambda _, phrase: seen[phrase]))


@pytest.mark.parametrize("world", [NARROW, FULL])
def test_instructions_that_need_reasoning_have_the_chains_of_their_plain_words(world) -> None:
    pairs, pictures, truth = reasoning_shard(world, 18, seed=8)
    _, _, chains = annotate_edits(pairs, pictures)
    plain = [instruction(truth[name][2]) for name in pairs["pair_id"]]
    _, _, expected = annotate_edits(pairs.with_columns(instruction=pl.Series(plain)), pictures)
    assert chains["chain"].null_count() == 0
    assert chains["chain"].to_list() == expected["chain"].to_list()
    assert chains["instruction"].to_list() == pairs["instruction"].to_list()
    assert chains["instructions"].to_list() == [[text] for text in pairs["instruction"]], "no other wordings"
    steps = [len(read_edit_chain(parse(chain, "data")).steps) for chain in chains["chain"]]
    assert steps == [len(truth[name][2].steps) for name in pairs["pair_id"]] and max(steps) > 1


def test_an_instruction_that_the_picture_does_not_decide_keeps_its_reason() -> None:
    rows = [
        {"pair_id": str(k), "source_path": "a", "target_path": "b", "instruction": text}
        for k, text in enumerate(("remove the largest shape", "remove both circles", "make it nicer"))
    ]
    descriptions = describe_edits(table(rows, EDIT_PAIRS), lambda _: picture(*AT), SceneAnnotator())
    assert descriptions["reason"].to_list() == [None, "not_an_instruction", "not_an_instruction"]
    assert descriptions["error"][1].endswith("in the picture, which shows a red circle, a blue square")
