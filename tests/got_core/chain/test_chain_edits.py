from __future__ import annotations

import pytest

from got_core.chain.boxes import Box
from got_core.chain.edits import (
    EditPlan,
    EditStep,
    add,
    is_edit_chain,
    move_box,
    names_objects,
    read_edit_chain,
    remove,
    replace_phrase,
    write_edit_chain,
    write_multi_turn,
)
from got_core.chain.grammar import ChainError, parse

A, B, C = "a red circle (1,2),(3,4)", "a blue square (5,6),(7,8)", "a cross (9,9),(10,10)"
NEW = Box(20, 21, 22, 23)


def test_single_turn_chain_is_a_numbered_list() -> None:
    chain = write_edit_chain("a red circle", "the red circle", NEW, "move it to (1,2),(3,4)", "a red circle")
    text = "1. a red circle 2. the red circle 3. (20,21),(22,23) 4. move it to (1,2),(3,4) 5. a red circle"
    assert chain.to_data() == text
    step = EditStep("the red circle", (NEW,), "move it to (1,2),(3,4)")
    assert read_edit_chain(parse(text)) == EditPlan("a red circle", (step,), "a red circle")
    assert read_edit_chain(parse(chain.to_model())) == read_edit_chain(chain)


def test_multi_turn_chain_has_one_item_a_step() -> None:
    steps = (
        EditStep("the red circle", (NEW,), "change it to blue"),
        EditStep("the cats", (NEW, Box(0, 0, 5, 5)), "remove them"),
        EditStep("a dog", (Box(1, 1, 2, 2),), "move it to (3,3),(4,4)"),
    )
    chain = write_multi_turn("a scene of 4. July", steps, "the result")
    assert read_edit_chain(chain) == EditPlan("a scene of 4. July", steps, "the result")
    assert read_edit_chain(write_multi_turn("s", steps[:1], "r")).steps == steps[:1]


def test_merged_items_of_real_data_are_read() -> None:
    plan = read_edit_chain(
        parse("1. A dog runs.\n2. The dog (1,2),(3,4)\n3. Make it blue.\n4. A blue dog runs.")
    )
    assert plan == EditPlan(
        "A dog runs.", (EditStep("The dog", (Box(1, 2, 3, 4),), "Make it blue."),), "A blue dog runs."
    )


@pytest.mark.parametrize(
    ("middle", "step"),
    [
        (
            "2. The dog (1,2),(3,4) 3. Move it to (5,6),(7,8).",
            EditStep("The dog", (Box(1, 2, 3, 4),), "Move it to (5,6),(7,8)."),
        ),
        (
            "2. The dog (1,2),(3,4) 3. (1,2),(3,4) 4. Make it blue.",
            EditStep("The dog", (Box(1, 2, 3, 4),), "Make it blue."),
        ),
        (
            "2. The dog (1,2),(3,4) on grass 3. Make it blue.",
            EditStep("The dog", (Box(1, 2, 3, 4),), "on grass Make it blue."),
        ),
    ],
)
def test_items_with_boxes_in_several_of_them_are_one_step(middle: str, step: EditStep) -> None:
    last = middle.count(". ") + 2
    plan = read_edit_chain(parse(f"1. A dog. {middle} {last}. Result."))
    assert plan == EditPlan("A dog.", (step,), "Result.")


def test_a_second_object_is_a_second_step() -> None:
    plan = read_edit_chain(
        parse("1. A room. 2. Remove the chair (1,2),(3,4) 3. Add a lamp (5,6),(7,8). 4. Another room.")
    )
    assert [(step.object, step.first) for step in plan.steps] == [("Remove the chair", 0), ("Add a lamp", 1)]


def test_steps_tell_which_of_the_chains_boxes_are_theirs() -> None:
    chain = parse("1. A dog (0,0),(9,9). 2. The dog (1,2),(3,4) 3. (1,2),(3,4) 4. Make it blue. 5. Result.")
    (step,) = read_edit_chain(chain).steps
    assert step.first == 2
    assert chain.boxes[step.first].box == step.boxes[0]


def test_mask_colours_follow_the_palette_after_removing_and_adding() -> None:
    three = parse(
        "a cat <|box_start|>(1,1),(9,9)<|box_end|> (red), a dog <|box_start|>(20,1),(29,9)<|box_end|> (lime) "
        "and a cow <|box_start|>(40,1),(49,9)<|box_end|> (pink)"
    )
    fewer = remove(three, 0)
    assert fewer.colors == ["red", "pink"]
    assert add(fewer, "a pig", NEW).colors == ["red", "pink", "blue"]


def test_what_is_no_edit_chain_is_refused() -> None:
    with pytest.raises(ChainError, match="at least three"):
        read_edit_chain(parse(A))
    with pytest.raises(ChainError, match="no box") as caught:
        read_edit_chain(parse("1. a 2. the dog, change it 3. b"))
    assert caught.value.position == 8
    assert is_edit_chain(parse("1. a 2. the dog (1,2),(3,4) 3. b"))
    assert not is_edit_chain(parse(A))


def test_items_that_would_be_misread_are_refused() -> None:
    with pytest.raises(ValueError, match="item 4 of an edit chain is empty"):
        write_edit_chain("a", "b", NEW, " ", "c")
    with pytest.raises(ValueError, match="holds the next item's number"):
        write_edit_chain("first 2. second", "b", NEW, "c", "d")
    with pytest.raises(ValueError, match="at least one step"):
        write_multi_turn("a", [], "b")


def test_moving_and_renaming() -> None:
    chain = parse(f"{A}, {B} and {C} on a table")
    assert move_box(chain, 1, NEW).to_data() == f"{A}, a blue square {NEW} and {C} on a table"
    assert (
        replace_phrase(chain, 2, " a  green dog ").to_data()
        == f"{A}, {B} and a green dog (9,9),(10,10) on a table"
    )
    marked = parse(chain.to_marked())
    assert replace_phrase(marked, 0, "a cat").boxes[0].phrase == "a cat"
    with pytest.raises(IndexError, match="box 3 of a chain with 3 boxes"):
        move_box(chain, 3, NEW)
    with pytest.raises(ValueError, match="no phrase"):
        replace_phrase(parse("(1,2),(3,4)"), 0, "a cat")
    with pytest.raises(ValueError, match="must not be empty"):
        replace_phrase(chain, 0, " ")


def test_moving_keeps_a_written_colour() -> None:
    chain = parse("a cat <|box_start|>(1,2),(3,4)<|box_end|> (teal)")
    assert move_box(chain, 0, NEW).to_model() == f"a cat <|box_start|>{NEW}<|box_end|> (teal)"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("on a table", "a star {} on a table"),
        ("", "a star {}"),
        (f"{A} on a table", f"{A} and a star {{}} on a table"),
        (f"{A} and {B} on a table", f"{A}, {B} and a star {{}} on a table"),
        (f"{A}, {B} and {C}", f"{A}, {B}, {C} and a star {{}}"),
    ],
)
@pytest.mark.parametrize("marked", [False, True])
def test_adding_an_object(before: str, after: str, marked: bool) -> None:
    chain = parse(parse(before).to_marked()) if marked else parse(before)
    changed = add(chain, "a star", NEW)
    assert changed.to_data() == after.format(NEW)
    assert changed.boxes[len(chain.boxes)].phrase == "a star"


@pytest.mark.parametrize(
    ("before", "index", "after"),
    [
        (f"{A}, {B} and {C} on a table", 0, f"{B} and {C} on a table"),
        (f"{A}, {B} and {C} on a table", 1, f"{A} and {C} on a table"),
        (f"{A}, {B} and {C} on a table", 2, f"{A} and {B} on a table"),
        (f"{A} and {B} on a table", 0, f"{B} on a table"),
        (f"{A} and {B} on a table", 1, f"{A} on a table"),
        (f"{A} on a table", 0, "on a table"),
        (A, 0, ""),
        (f"There is {A}.", 0, "There is ."),
    ],
)
@pytest.mark.parametrize("marked", [False, True])
def test_removing_an_object(before: str, index: int, after: str, marked: bool) -> None:
    chain = parse(parse(before).to_marked()) if marked else parse(before)
    assert remove(chain, index).to_data() == after


def test_removing_what_was_added_gives_the_chain_back() -> None:
    for text in (f"{A} on a table", f"{A} and {B} on a table", f"{A}, {B} and {C} on a table"):
        chain = parse(text)
        assert remove(add(chain, "a star", NEW), len(chain.boxes)) == chain


@pytest.mark.parametrize(
    ("instruction", "named"),
    [
        ("Change the red circle to blue, then move the blue circle!", True),
        ("change the circle to blue, then move it", False),
        ("change the largest shape to blue", False),
    ],
)
def test_an_instruction_names_objects_or_leaves_them_to_the_picture(instruction: str, named: bool) -> None:
    chain = parse(
        "1. a red circle 2. the red circle (1,2),(3,4), change it to blue 3. the blue circle (1,2),(3,4), "
        "move it to (5,6),(7,8) 4. a green star (0,0),(1,1), add it 5. a blue circle and a green star"
    )
    assert names_objects(read_edit_chain(chain), instruction) is named
