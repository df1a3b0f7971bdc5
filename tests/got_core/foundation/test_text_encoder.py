"""The frozen text encoder: what its tokens stand for, and that they can be told apart."""

from __future__ import annotations

import torch

from got_core.chain.boxes import Box
from got_core.chain.edits import write_edit_chain
from got_core.chain.grammar import Chain, parse
from got_core.foundation.text_encoder import PhraseEncoder

RED_BLUE = parse("a red circle (0,0),(499,499) and a blue cross (500,0),(999,499) on a grey background")
BLUE_RED = parse("a blue cross (500,0),(999,499) and a red circle (0,0),(499,499) on a grey background")


def encoder(tokens: int = 4, seed: int = 0) -> PhraseEncoder:
    return PhraseEncoder(tokens, 32, 16, seed)


def test_a_token_a_box_and_one_for_the_rest() -> None:
    words = ["a red circle", "a blue cross", "", " on a grey background"]
    assert encoder().texts(RED_BLUE) == [(text, "") for text in words]
    assert encoder(tokens=2).texts(RED_BLUE) == [("a red circle", ""), (" on a grey background", "")]


def test_an_edit_says_what_becomes_of_its_object() -> None:
    chain = write_edit_chain(
        "A red circle.", "the red circle", Box(10, 20, 30, 40), "it becomes blue", "A blue circle."
    )
    wanted = [("the red circle", "it becomes blue"), ("", ""), ("", ""), ("A blue circle.", "")]
    assert encoder().texts(chain) == wanted


def test_a_phrase_sounds_the_same_in_every_place_but_for_the_place() -> None:
    encode = encoder()
    (first, second), pooled = encode([RED_BLUE, BLUE_RED])
    assert first.shape == (4, 32) and pooled.shape == (2, 16)
    places = 0.5 * encode.slots
    torch.testing.assert_close(first[0] - places[0], second[1] - places[1])
    assert (first[0] - second[0]).abs().max() > 0.5
    torch.testing.assert_close(first[3], second[3])


def test_articles_numbers_and_coordinates_do_not_count() -> None:
    moved = parse("the red circle (10,20),(30,40) and a blue cross (500,0),(999,499) on a grey background")
    torch.testing.assert_close(encoder()([RED_BLUE])[0], encoder()([moved])[0])


def test_the_seed_decides_and_a_chain_without_boxes_is_all_rest() -> None:
    assert torch.equal(encoder()([RED_BLUE])[0], encoder()([RED_BLUE])[0])
    assert not torch.equal(encoder()([RED_BLUE])[0], encoder(seed=1)([RED_BLUE])[0])
    assert encoder().texts(Chain(())) == [("", "")] * 4


def test_a_word_has_its_vector_whatever_was_read_before() -> None:
    experienced = encoder()
    experienced([BLUE_RED])
    assert torch.equal(experienced([RED_BLUE])[0], encoder()([RED_BLUE])[0])
