from __future__ import annotations

import pickle
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from got_core.chain.boxes import Box
from got_core.chain.faults import BOX_END, BOX_START, OBJ_END, OBJ_START
from got_core.chain.grammar import (
    Boxed,
    Chain,
    ChainError,
    PlacedBox,
    Text,
    parse,
    parse_tolerant,
    spelling_of,
)
from got_core.chain.palette import PALETTE

DATA = "a red circle (120,340),(380,600), a blue square (1,2),(3,4) on a table"
MODEL = (
    "a red circle <|box_start|>(120,340),(380,600)<|box_end|> (red), "
    "a blue square <|box_start|>(1,2),(3,4)<|box_end|> (lime) on a table"
)
MARKED = (
    "<|obj_start|>a red circle<|obj_end|> <|box_start|>(120,340),(380,600)<|box_end|>, "
    "<|obj_start|>a blue square<|obj_end|> <|box_start|>(1,2),(3,4)<|box_end|> on a table"
)
WORDS = [
    "a", "the", "red", "vase", "and", "left of", "it's", "3.", "2", "(brown)", "two", "-", "Ünï", "画", "\n",
    "  ", ",", ".", "(", ")", "(12", "(1994, Paris)", "(3, 4)", "<", "|>", "x < y", "12,40", "(red)", "1000",
    ",(", "),(",
]  # fmt: skip
GARBAGE = [
    "(", ")", ",", "<|", "|>", "<|box_start|>", "<|box_end|>", "<|obj_start|>", "<|obj_end|>", "(1,2)",
    "(5,5),(2,2)", "(0,0),(1000,5)", "(01,2),(3,4)", "(1, 2), (3, 4)", "(1.5,2),(3,4)", "(-1,2),(3,4)",
    " (red)", "(foo)", "9", "0", "<|im_end|>", "\x00", "\uff19", "(1,2),(3", "9" * 5000,
]  # fmt: skip


def random_box(rng: random.Random) -> Box:
    x1, x2 = sorted(rng.choices(range(1000), k=2))
    y1, y2 = sorted(rng.choices(range(1000), k=2))
    return Box(x1, y1, x2, y2)


def random_chain(rng: random.Random) -> Chain:
    """Any parts that make a chain: combinations that the grammar rules out are drawn again."""
    while True:
        colored, marked = rng.random() < 0.3, rng.random() < 0.3
        parts: list[Text | Boxed] = []
        for _ in range(rng.randrange(6)):
            parts.append(Text(" ".join(rng.choices(WORDS, k=rng.randrange(6))) + rng.choice(["", " "])))
            phrase = " ".join(rng.choices(WORDS, k=rng.randrange(1, 4))) if marked else None
            color = rng.choice(PALETTE) if colored else None
            parts.append(Boxed(random_box(rng), color, phrase, rng.choice(["", " "]) if phrase else ""))
        parts.append(Text(" ".join(rng.choices(WORDS, k=rng.randrange(4)))))
        try:
            return Chain(tuple(parts))
        except ChainError:
            continue


def test_three_spellings_of_one_chain() -> None:
    chain = parse(DATA)
    assert (chain.to_data(), chain.to_model(), chain.to_marked()) == (DATA, MODEL, MARKED)
    assert [parse(text).to_data() for text in (MODEL, MARKED)] == [DATA, DATA]
    assert parse(MARKED).to_model() == MODEL
    assert parse(MODEL).to_marked() == MARKED
    assert [spelling_of(text) for text in (DATA, MODEL, MARKED)] == ["data", "model", "marked"]


def test_boxes_have_phrase_and_colour_in_every_spelling() -> None:
    expected = [
        PlacedBox(Box(120, 340, 380, 600), "red", "a red circle"),
        PlacedBox(Box(1, 2, 3, 4), "lime", "a blue square"),
    ]
    assert [parse(text).boxes for text in (DATA, MODEL, MARKED)] == [expected] * 3


def test_ten_thousand_chains_round_trip() -> None:
    rng = random.Random(20250)
    boxes = 0
    for _ in range(10_000):
        chain = random_chain(rng)
        boxes += len(chain.boxes)
        data, model, marked = chain.to_data(), chain.to_model(), chain.to_marked()
        assert parse(data, "data").to_data() == data
        assert parse(model, "model").to_model() == model
        assert parse(marked, "marked").to_marked() == marked
        placed = [p.box for p in chain.boxes]
        for text, spelling in ((data, "data"), (model, "model"), (marked, "marked")):
            again = parse(text, spelling)
            assert [p.box for p in again.boxes] == placed
            assert again.to_data() == data
        assert parse_tolerant(model) == (parse(model), [])
    assert boxes > 20_000


def test_ten_thousand_corrupted_chains_raise_chain_errors_only() -> None:
    rng = random.Random(20251)
    refused = 0
    for _ in range(10_000):
        chain = random_chain(rng)
        text = corrupted(rng, rng.choice([chain.to_data, chain.to_model, chain.to_marked])())
        try:
            kept = parse(text)
        except ChainError as error:
            refused += 1
            assert 0 <= error.position <= len(text)
            read, dropped = parse_tolerant(text)
            for piece in dropped:
                assert piece.text and piece.reason
            assert parse(read.to_model(), "model").to_data() == read.to_data()
        else:
            assert text in (kept.to_data(), kept.to_model(), kept.to_marked())
    assert refused > 3_000


def corrupted(rng: random.Random, text: str) -> str:
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(text) + 1)
        change = rng.randrange(4)
        if change == 0:
            text = text[:at]
        elif change == 1:
            text = text[:at] + text[at + rng.randrange(1, 9) :]
        elif change == 2:
            text = text[:at] + rng.choice(GARBAGE) + text[at:]
        else:
            end = min(len(text), at + rng.randrange(1, 30))
            text = text[:end] + text[at:end] + text[end:]
    return text


@given(st.text())
@settings(max_examples=300, deadline=None)
def test_any_text_is_kept_exactly_or_refused(text: str) -> None:
    try:
        assert parse(text, "data").to_data() == text
    except ChainError as error:
        assert 0 <= error.position < len(text)


@given(st.lists(st.sampled_from([*WORDS, *GARBAGE, "(1,2),(3,4)", BOX_START, BOX_END, OBJ_START, OBJ_END])))
@settings(max_examples=300, deadline=None)
def test_tolerant_reading_never_raises_and_gives_a_chain(pieces: list[str]) -> None:
    chain, dropped = parse_tolerant("".join(pieces))
    assert parse(chain.to_data(), "data").to_data() == chain.to_data()
    assert [d.position for d in dropped] == sorted(d.position for d in dropped)


@pytest.mark.parametrize(
    ("text", "position", "message"),
    [
        ("a cat (1,2),(3", 6, "half a box"),
        ("a cat (1,2),(3,4000)", 15, "outside 0..999"),
        ("a cat (1,2),(3," + "9" * 5000 + ")", 15, "outside 0..999"),
        ("a cat (01,2),(3,4)", 7, "leading zero"),
        ("a cat (9,2),(3,4)", 6, "corners swapped"),
        ("a cat (1, 2), (3, 4)", 6, "without spaces"),
        ("a cat (1,2),(3,4.5)", 6, "whole numbers"),
        ("a cat (-1,2),(3,4)", 6, "whole numbers"),
        ("a cat (120,", 6, "unfinished"),
        ("a cat <|box_start|>(1,2),(3,4)<|box_end|>(red)", 6, "no mask colour"),
        ("a cat <|box_start|>(1,2),(3,4)<|box_end|> (reddish)", 43, "unknown mask colour"),
        ("a cat <|box_start|>(1,2),(3,4) (red)", 6, "never closed"),
        ("a cat <|box_start|>(1,2)<|box_end|> (red)", 6, "malformed box"),
        ("a cat (1,2),(3,4)<|box_end|> (red)", 6, "without <|box_start|>"),
        ("a cat <|box_end|> (red)", 6, "without its start"),
        ("a <|box_start|>(1,2),(3,4)<|box_end|> (red) b (1,2),(3,4)", 46, "without <|box_start|>"),
        ("<|obj_start|>a cat<|obj_end|> sits", 0, "without its box"),
        ("<|obj_start|>a (1,2)<|obj_end|> <|box_start|>(1,2),(3,4)<|box_end|>", 15, "half a box"),
        ("a cat<|im_end|>", 5, "<|im_end|>"),
    ],
)
def test_errors_say_where_and_what(text: str, position: int, message: str) -> None:
    with pytest.raises(ChainError) as caught:
        parse(text)
    assert caught.value.position == position
    assert message in caught.value.message
    assert str(position) in str(caught.value)


def test_model_spelling_can_be_demanded() -> None:
    bare = "a cat <|box_start|>(1,2),(3,4)<|box_end|> on a mat"
    assert parse(bare).to_marked() == bare
    assert parse(parse(bare).to_data()).to_marked() == bare.replace("a cat", f"{OBJ_START}a cat{OBJ_END}")
    with pytest.raises(ChainError, match="no mask colour"):
        parse(bare, "model")


@pytest.mark.parametrize(
    ("text", "data", "dropped"),
    [
        ("a cat <|box_start|>( 1, 02),(3,4)<|box_end|> on it", "a cat (1,2),(3,4) on it", []),
        ("a cat (1,2),(3,4), a dog (5,6),(7", "a cat (1,2),(3,4), a dog ", ["(5,6),(7"]),
        (
            "a cat <|box_start|>(1,2),(3,4000)<|box_end|> (red) b",
            "a cat  b",
            ["<|box_start|>(1,2),(3,4000)<|box_end|> (red)"],
        ),
        ("a cat (9,2),(3,4) b <|im_end|>", "a cat  b ", ["(9,2),(3,4)", "<|im_end|>"]),
        ("<|obj_start|>a cat<|obj_end|> on", "a cat on", ["<|obj_start|>", "<|obj_end|>"]),
    ],
)
def test_tolerant_reading_keeps_the_words_and_lists_what_went(
    text: str, data: str, dropped: list[str]
) -> None:
    chain, lost = parse_tolerant(text)
    assert chain.to_data() == data
    assert [piece.text for piece in lost] == dropped
    assert [text.index(piece.text) for piece in lost] == [piece.position for piece in lost]


def test_tolerant_reading_keeps_a_box_whose_colour_is_unknown() -> None:
    chain, lost = parse_tolerant("a cat <|box_start|>(1,2),(3,4)<|box_end|> (reddish) b")
    assert chain.to_model() == "a cat <|box_start|>(1,2),(3,4)<|box_end|> (red) b"
    assert [piece.text for piece in lost] == [" (reddish)"]


def test_long_malformed_text_is_read_in_reasonable_time() -> None:
    for piece in ("(1,2),", "<|box_start|>", "<|obj_start|>", "( ", "(1,2),(3,", ". "):
        chain, _ = parse_tolerant(piece * 400)
        assert parse(chain.to_data(), "data") == chain


def test_parts_that_cannot_be_spelled_are_refused() -> None:
    box = Boxed(Box(1, 2, 3, 4))
    for parts in [
        (Text("a (1,2),(3,4)"),),
        (Text("a <|box_start|>"), box),
        (Text("a"), Boxed(box.box, "no colour")),
        (Boxed(box.box, None, "a cat", " on "),),
        (Text("(1,2"), Boxed(box.box, None, ") cat", " ")),
    ]:
        with pytest.raises(ChainError):
            Chain(parts)


def test_equal_chains_compare_equal() -> None:
    assert Chain((Text("a "), Text(""), Text("cat "), Boxed(Box(1, 2, 3, 4)))) == parse("a cat (1,2),(3,4)")


@pytest.mark.parametrize(
    ("before", "phrase"),
    [
        ("On the left, a big brown dog ", "a big brown dog"),
        (" sits next to the old man's hat ", "the old man's hat"),
        ("two cats ", "two cats"),
        ("yellow vase ", "yellow vase"),
        (". Beyond it are wooden boats: ", "wooden boats"),
        ("1. a table 2. the red circle 3. ", "the red circle"),
        (" 4. move it to ", "it"),
        (" and ", ""),
        ("", ""),
    ],
)
def test_the_phrase_before_a_box(before: str, phrase: str) -> None:
    assert parse(f"{before}(1,2),(3,4)").boxes[0].phrase == phrase


def test_errors_survive_pickling() -> None:
    error = pickle.loads(pickle.dumps(ChainError(7, "half a box")))
    assert (error.position, error.message) == (7, "half a box")


def test_the_first_of_two_faults_is_reported() -> None:
    with pytest.raises(ChainError, match="half a box") as caught:
        parse("a (1,2) b (9,2),(3,4)")
    assert caught.value.position == 2


def test_what_a_removal_brings_together_is_dropped_where_it_stood() -> None:
    text = "oh (1,<|x|>2) cat"
    chain, dropped = parse_tolerant(text)
    assert chain.to_data() == "oh  cat"
    assert [(d.position, d.text) for d in dropped] == [(3, "(1,<|x|>2)"), (6, "<|x|>")]


def test_a_marked_phrase_that_loses_its_box_is_listed_with_its_marker() -> None:
    text = "<|obj_start|>a cat<|obj_end|> <|box_start|>(9,2),(3,4)<|box_end|> sits"
    chain, dropped = parse_tolerant(text)
    assert chain.to_data() == "a cat  sits"
    assert [(d.position, d.reason.split(" ")[0]) for d in dropped] == [(0, "mark"), (30, "box")]
