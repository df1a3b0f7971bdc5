"""Addresses of cells: what is written is read back, and a shell takes it for one word."""

from __future__ import annotations

import shlex

import pytest

from got_core.evaluate.why.address import (
    Address,
    AddressError,
    cell_name,
    parse_address,
    same_sample,
    sample_address,
    why_command,
)

NAMES = ("geneval", "geneval/scenes", "geneval2", "emu_edit/base")


@pytest.mark.parametrize(
    ("benchmark", "sample"),
    [
        ("geneval/scenes", "00012"),
        ("geneval", "00007-00002"),
        ("geneval", "scenes-are-not-meant"),
        ("emu_edit/base", "1234/clip_t"),
        ("emu_edit/base", "a b; rm -rf / #"),
        ("emu_edit/base", "100%_cotton%41"),
        ("emu_edit/base", "esc\x1b[31m\n\u202egnp"),
        ("emu_edit/base", "Ärger's 图"),
    ],
)
def test_what_is_written_is_read_back(benchmark: str, sample: str) -> None:
    words = shlex.split(why_command(benchmark, sample))
    assert words[:2] == ["got", "why"] and len(words) == 3
    assert words[2].isprintable() and " " not in words[2]
    assert parse_address(words[2], NAMES) == Address(benchmark, sample)


def test_the_longest_benchmark_counts() -> None:
    assert parse_address("geneval/scenes/3", NAMES) == Address("geneval/scenes", "3")
    assert parse_address("geneval/3", NAMES) == Address("geneval", "3")
    assert sample_address("geneval/scenes", "3") == str(Address("geneval/scenes", "3"))


def test_a_model_goes_along() -> None:
    assert why_command("geneval", "1", model="models:/got/3") == "got why geneval/1 --model models:/got/3"


@pytest.mark.parametrize("text", ["", "geneval", "geneval/", "scenes/3", "\x1b[2J/3", "x" * 500])
def test_what_is_no_address_is_one_clear_error(text: str) -> None:
    with pytest.raises(AddressError, match="geneval/scenes/00012") as raised:
        parse_address(text, NAMES)
    assert "\x1b" not in str(raised.value) and len(str(raised.value)) < 400


def test_half_a_surrogate_pair_does_no_harm() -> None:
    assert why_command("geneval", "a\ud800b") == "got why 'geneval/a?b'"


def test_names_of_a_row() -> None:
    assert cell_name({"index": 12, "sample_id": "0123abcd"}) == "00012"
    assert cell_name({"sample_id": "00007-00002"}) == "00007-00002"
    assert cell_name({"sample": "key"}) == "key"


def test_leading_zeros_do_not_matter() -> None:
    assert same_sample("12", "00012") and same_sample("7-2", "00007-00002") and same_sample("0", "00000")
    assert not same_sample("12", "00120") and not same_sample("a", "b")
