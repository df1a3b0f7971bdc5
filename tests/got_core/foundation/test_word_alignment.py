"""What an instruction says of its edit chain."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from got_core.chain.boxes import Box
from got_core.chain.edits import read_edit_chain
from got_core.chain.grammar import parse
from got_core.foundation.attention_losses import naming_loss
from got_core.foundation.curriculum import Curriculum, edited_boxes
from got_core.foundation.language_model import fit_tokenizer
from got_core.foundation.word_alignment import WordAlignment, common_subsequence
from got_core.model.build import build_image_processor, build_sequences
from got_core.model.sequence import IGNORED, SequenceBuilder
from got_core.recipes import tiny
from got_core.train.data.samples import TrainingData, training_data
from got_core.train.run import TrainingRun

INSTRUCTION = "remove the red circle, then move the blue square to the left and add a red circle at the top"
CHAIN = parse(
    "1. a red circle and a blue square 2. the red circle (1,2),(3,4), remove it 3. the blue square "
    "(500,0),(999,499), move it to (10,20),(30,40) 4. a red circle (50,60),(70,80), add it 5. a blue square"
)


def sequences_of(data: TrainingData) -> SequenceBuilder:
    recipe = tiny()
    return build_sequences(
        recipe.model, fit_tokenizer(data, 4), build_image_processor(recipe.model.language_model)
    )


@pytest.mark.parametrize(
    ("a", "b", "pairs"),
    [
        ("", "abc", []),
        ("abc", "xyz", []),
        ("abc", "xaxbc", [(0, 1), (1, 3), (2, 4)]),
        ("axbxab", "ababx", [(0, 0), (2, 1), (4, 2), (5, 3)]),
    ],
)
def test_the_longest_common_subsequence(a: str, b: str, pairs: list[tuple[int, int]]) -> None:
    assert common_subsequence(*([ord(letter) for letter in text] for text in (a, b))) == pairs


def test_each_step_finds_its_words_and_its_new_place_in_its_own_clause(training_run: TrainingRun) -> None:
    sequences = sequences_of(training_data(training_run))
    prompt = sequences.prompt(INSTRUCTION, has_image=True)
    sample = sequences.training(prompt, CHAIN.to_model())
    texts = [sequences.tokenizer.decode([token]).strip() for token in sample.ids]
    aligned = WordAlignment(sequences).align(sample, CHAIN, new=[2, 3])
    places = {
        texts[written]: [texts[k] for k in prompted]
        for written, prompted in aligned.items()
        if texts[written].isdigit()
    }
    assert places == {
        **{number: ["left"] for number in ("10", "20", "30", "40")},
        **{number: ["top"] for number in ("50", "60", "70", "80")},
    }
    circles = [prompted for written, prompted in aligned.items() if texts[written] == "circle"]
    assert circles == [[k] for k in range(len(prompt)) if texts[k] == "circle"]


def test_a_chain_that_is_no_edit_finds_the_words_that_its_prompt_has_too(training_run: TrainingRun) -> None:
    sequences = sequences_of(training_data(training_run))
    chain = parse("a red circle (0,0),(499,499) and a blue cross (500,0),(999,499) on a grey background")
    prompt = sequences.prompt("a circle and a blue cross", has_image=False)
    sample = sequences.training(prompt, chain.to_model())
    texts = [sequences.tokenizer.decode([token]).strip() for token in sample.ids]
    instructions = WordAlignment(sequences)
    aligned = instructions.align(sample, chain, new=[])
    assert [(texts[written], texts[prompted]) for written, [prompted] in aligned.items()] == [
        (word, word) for word in ("circle", "blue", "cross")
    ]
    assert all(prompted < len(prompt) <= written for written, [prompted] in aligned.items())
    assert instructions.caption(sample, chain) == slice(len(prompt), len(prompt))


def test_the_caption_of_an_edit_ends_where_its_steps_begin(training_run: TrainingRun) -> None:
    sequences = sequences_of(training_data(training_run))
    sample = sequences.training(sequences.prompt(INSTRUCTION, has_image=True), CHAIN.to_model())
    caption = sample.ids[WordAlignment(sequences).caption(sample, CHAIN)]
    assert sequences.tokenizer.decode(caption) == CHAIN.to_model().split(" 2. ")[0]


def test_batches_tell_of_every_edit_its_names_and_new_places(training_run: TrainingRun) -> None:
    data = training_data(training_run)
    sequences = sequences_of(data)
    config = replace(tiny().foundation, describe_share=0.0, edit_share=1.0)
    curriculum, placed = Curriculum(sequences, data, config), 0
    for step in range(6):
        batch = curriculum.chains(step)
        rows = zip(
            batch.inputs["input_ids"], batch.inputs["labels"], batch.aligned, batch.chains, strict=True
        )
        for ids, labels, aligned, chain in rows:
            prompted = sorted({place for places in aligned.values() for place in places})
            assert (labels[list(aligned)] != IGNORED).all() and (labels[prompted] == IGNORED).all()
            texts = {place: sequences.tokenizer.decode(ids[place]).strip() for place in aligned}
            words = {place: text for place, text in texts.items() if not text.isdigit()}
            assert all(ids[place] == ids[aligned[place][0]] for place in words)
            steps = read_edit_chain(chain).steps
            assert {word for one in steps for word in one.object.split()[1:]} <= set(words.values())
            new = set(range(len(chain.boxes))).difference(*edited_boxes(chain))
            assert len(texts) - len(words) == 4 * len(new)
            placed += len(new)
    assert placed
    drawn = Curriculum(sequences, data, replace(config, edit_share=0.0)).chains(0)
    written = {
        sequences.tokenizer.decode(ids[k])
        for ids, aligned in zip(drawn.inputs["input_ids"], drawn.aligned, strict=True)
        for k in aligned
    }
    assert written and not any(text.isdigit() for text in written)


def test_words_that_name_what_the_picture_shows(training_run: TrainingRun) -> None:
    sequences = sequences_of(training_data(training_run))
    prompt = sequences.prompt("remove the largest, then move the blue square", has_image=True)
    sample = sequences.training(prompt, CHAIN.to_model())
    texts = [sequences.tokenizer.decode([token]).strip() for token in sample.ids]
    seen, repeated = edited_boxes(CHAIN)
    assert [*seen] == [0, 1] and not repeated
    named = WordAlignment(sequences).names(sample, CHAIN, seen)
    assert all(k >= len(prompt) for k in named)
    found = [(texts[k], box) for k, box in sorted(named.items())]
    first, second = seen.values()
    # The caption begins with the object of the first step; the result's words are of what was made.
    assert found == [
        *(("red", first), ("circle", first)),
        *(("red", first), ("circle", first)),
        *(("blue", second), ("square", second)),
    ]


def test_looking_at_the_named_object_costs_nothing(training_run: TrainingRun) -> None:
    sequences = sequences_of(training_data(training_run))
    prompt = sequences.prompt("remove the largest", has_image=True)
    sample = sequences.training(prompt, CHAIN.to_model())
    ids = torch.tensor([sample.ids])
    visual = (ids[0] == sequences.pad_id).nonzero()[:, 0]
    box, token = Box(0, 0, 499, 499), len(prompt) + 2
    attention = torch.zeros(1, 2, len(sample.ids), len(sample.ids))
    # The quarter of the picture that the box covers.
    side = int(len(visual) ** 0.5)
    covered = visual.view(side, side)[: side // 2, : side // 2].flatten()
    attention[0, 0, token - 1, covered] = 1 / len(covered)
    named = [{token: box}]
    assert naming_loss(attention, ids, named, sequences) < 1e-3
    assert naming_loss(attention.flip(1), ids, named, sequences) > 5  # the other heads look elsewhere
