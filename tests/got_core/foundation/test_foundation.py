"""Foundation parts: labels of the auxiliary head, and that each loop moves its part."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from got_core.chain.boxes import Box
from got_core.chain.grammar import BOX_END, BOX_START, parse
from got_core.evaluate.config import EvaluateConfig
from got_core.foundation.attention_losses import instruction_loss, pointing_loss
from got_core.foundation.curriculum import (
    Curriculum,
    CurriculumBatch,
    edited_boxes,
    other_names,
    renamed,
)
from got_core.foundation.drawing import fit_autoencoder, train_unet
from got_core.foundation.language_model import fit_tokenizer, relate_numbers, train_language_model
from got_core.foundation.questions import (
    LIST_PROMPT,
    LOCATE_PROMPT,
    has_choice,
    question,
    question_by_referent,
    question_words,
    repeat_objects,
    share_a_word,
)
from got_core.foundation.train import build_text_encoder, train_foundation
from got_core.foundation.vision import PHRASE_WORDS, cell_labels, whiten_patches
from got_core.model.build import (
    build_autoencoder,
    build_image_processor,
    build_language_model,
    build_projector,
    build_sequences,
    build_unet,
)
from got_core.model.config import LossConfig, SchedulerConfig
from got_core.model.guidance import spatial_latents
from got_core.model.pipeline import GoTPipeline
from got_core.model.sequence import IGNORED
from got_core.recipes import tiny
from got_core.train.data.samples import training_data
from got_core.train.run import TrainingRun
from got_core.train.stage import pretraining
from got_core.train.start import take_published
from got_core.train.trainer import Trainer
from tests.got_core.model.tiny_checkpoints import TINY, write_published

UNSCORED = EvaluateConfig(benchmarks=())

CHAIN = parse("a red circle (0,0),(499,499) and a blue cross (500,0),(999,499) on a grey background")


def silent(part: str, step: int, losses: dict[str, float]) -> None:
    """Nobody listens."""


def test_cells_are_labelled_with_the_object_that_covers_most_of_them(training_run: TrainingRun) -> None:
    recipe, data = tiny(), training_data(training_run)
    tokenizer = fit_tokenizer(data, 4)
    sequences = build_sequences(recipe.model, tokenizer, build_image_processor(recipe.model.language_model))
    side = int(sequences.visual_tokens**0.5)
    labels = cell_labels(CHAIN, sequences).reshape(side, side, PHRASE_WORDS + 6)
    first, last = ([tokenizer.decode([token]) for token in labels[0, column]] for column in (0, -1))
    middle = 500 // side
    assert first == [" red", " circle", "0", "0", "499", "499", str(middle), str(middle)]
    assert last == [" blue", " cross", "500", "0", "999", "499", str(1000 - middle), str(middle)]
    ground = labels[-1, :, : PHRASE_WORDS + 4]
    assert (ground[:, PHRASE_WORDS:] == IGNORED).all() and (labels[..., -2:] != IGNORED).all()
    assert {tokenizer.decode(words) for words in ground[:, :PHRASE_WORDS]} == {" grey background"}
    plain = cell_labels(CHAIN, sequences, ids=False).reshape(side, side, PHRASE_WORDS + 6)
    assert plain[0, -1].tolist() == [*labels[0, -1, :2].tolist(), 500, 0, 999, 499, 1000 - middle, middle]


def test_a_question_asks_for_an_object_that_has_a_name_of_its_own() -> None:
    twins = parse(
        "a red circle (0,0),(99,99), a red circle (200,0),(299,99) and a blue cross (500,0),(999,499)"
    )
    answers = [question(twins, np.random.default_rng(seed)) for seed in range(20)]
    assert {(prompt, answer.to_data()) for prompt, answer in answers} == {
        (LOCATE_PROMPT.format("the blue cross"), " the blue cross (500,0),(999,499)"),
        (LIST_PROMPT.format("the blue cross"), " 2. the blue cross 3. (500,0),(999,499)"),
    }
    asked = {question(CHAIN, np.random.default_rng(seed))[0] for seed in range(40)}
    names = ("the red circle", "the blue cross")
    assert asked == {prompt.format(name) for prompt in (LOCATE_PROMPT, LIST_PROMPT) for name in names}


def test_a_question_may_say_what_is_true_of_an_object_alone_and_the_answer_names_it() -> None:
    chain = parse(
        "a red circle (0,0),(499,499), a red circle (600,0),(799,199) and a blue cross (0,600),(299,899)"
    )
    asked = dict(question_by_referent(chain, np.random.default_rng(seed), 64) for seed in range(200))
    large, small, cross = (str(placed.box) for placed in chain.boxes)
    expected = {
        "the largest shape": f"the red circle {large}",
        "the larger of the two circles": f"the red circle {large}",
        "the right one of the two circles": f"the red circle {small}",
        "the only shape that is not red": f"the blue cross {cross}",
        "the blue one": f"the blue cross {cross}",
    }
    found = {said: answer.to_data().strip() for said, answer in asked.items()}
    assert {LOCATE_PROMPT.format(said): answer for said, answer in expected.items()}.items() <= found.items()
    assert any(said.startswith("Find: ") and answer.startswith("2. the ") for said, answer in found.items())
    photograph = parse("a dog (0,0),(499,499) and a red circle (600,0),(799,199)")
    assert (
        question_by_referent(photograph, np.random.default_rng(1), 64)[0]
        .rstrip(".")
        .endswith(("the dog", "the red circle"))
    )


def test_an_object_is_found_by_name_only_where_there_is_another() -> None:
    assert has_choice(CHAIN)
    assert not has_choice(parse("a red circle (0,0),(99,99)"))
    assert not has_choice(parse("a red circle (0,0),(99,99) and a red circle (200,0),(299,99)"))
    two = "a red circle (0,0),(99,99), a red circle (200,0),(299,99)"
    assert has_choice(parse(f"{two} and a blue cross (500,0),(999,499)"))
    assert not has_choice(parse(f"{two}, a blue cross (500,0),(999,499), a blue cross (0,500),(99,599)"))


def test_objects_alike_differ_in_one_word_only() -> None:
    red_circle = "a red circle (0,0),(99,99)"
    assert share_a_word(parse(f"{red_circle} and a blue circle (500,0),(999,499)"))
    assert share_a_word(parse(f"{red_circle} and a red cross (500,0),(999,499)"))
    assert not share_a_word(CHAIN)
    assert not share_a_word(parse(f"{red_circle} and a red circle (500,0),(999,499)"))


@pytest.mark.parametrize(
    ("chain", "numbers", "again"),
    [
        ("1. a source 2. the red circle 3. (1,2),(3,4) 4. move it to (5,6),(7,8) 5. a result", [0], {}),
        ("1. a source 2. the circles 3. (1,2),(3,4), (5,6),(7,8) 4. remove them 5. a result", [0, 1], {}),
        ("1. a source 2. a red circle 3. (1,2),(3,4) 4. add it 5. a result", [], {}),
        (
            "1. a source 2. the star (1,2),(3,4), remove it 3. the cross (5,6),(7,8), remove it 4. r",
            [0, 1],
            {},
        ),
        (
            "1. a source 2. the star (1,2),(3,4), move it to (5,6),(7,8) "
            "3. the star (5,6),(7,8), paint it 4. the cross (9,9),(10,10), remove it "
            "5. the star (5,6),(7,8), remove it 6. a result",
            [0, 3],
            {2: [1], 4: [1, 2]},
        ),
        ("a red circle (1,2),(3,4)", [], {}),
    ],
)
def test_of_an_edit_the_box_of_what_is_there_is_seen_or_was_said(
    chain: str, numbers: list[int], again: dict[int, list[int]]
) -> None:
    seen, repeated = edited_boxes(parse(chain))
    assert list(seen) == numbers and repeated == again
    assert all(box == parse(chain).boxes[number].box for number, box in seen.items())


def test_batches_know_what_is_seen(training_run: TrainingRun) -> None:
    recipe, data = tiny(), training_data(training_run)
    sequences = build_sequences(
        recipe.model, fit_tokenizer(data, 4), build_image_processor(recipe.model.language_model)
    )
    config = replace(recipe.foundation, locate_steps=4, describe_share=0.0, edit_share=1.0)
    curriculum = Curriculum(sequences, data, config)
    shown = [parse(chain) for chain in (row["chain"] for row in data.rows)]
    for step, condition in ((0, has_choice), (3, share_a_word)):
        batch = curriculum.grounding(step)
        assert batch.cells is not None and len(batch.chains) == config.language_batch_size
        for chain, seen in zip(batch.chains, batch.seen, strict=True):
            [placed] = chain.boxes
            assert seen == {0: placed.box}
            assert any(condition(one) and placed.box in [p.box for p in one.boxes] for one in shown)
    edits = curriculum.chains(0)
    found = list(zip(edits.seen, edits.repeated, strict=True))
    assert edits.cells is None and [edited_boxes(chain) for chain in edits.chains] == found
    again = curriculum.chains(0)
    assert torch.equal(edits.inputs["input_ids"], again.inputs["input_ids"])


def test_batches_of_reading_show_edits_without_picture_and_do_not_ask_what_it_shows(
    training_run: TrainingRun,
) -> None:
    recipe, data = tiny(), training_data(training_run)
    sequences = build_sequences(
        recipe.model, fit_tokenizer(data, 4), build_image_processor(recipe.model.language_model)
    )
    curriculum = Curriculum(sequences, data, replace(recipe.foundation, describe_share=0.0, edit_share=1.0))
    read, looked = curriculum.reading(0), curriculum.chains(0)
    assert "pixel_values" in looked.inputs
    assert set(read.inputs) == {"input_ids", "attention_mask", "labels"} and not any(read.seen)
    assert not (read.inputs["input_ids"] == sequences.pad_id).any()
    untold = 0
    for chain, ids, labels in zip(read.chains, read.inputs["input_ids"], read.inputs["labels"], strict=True):
        said = sequences.tokenizer.decode(ids[labels != IGNORED])
        shown, _ = edited_boxes(chain)
        boxes = ["" if number in shown else str(placed.box) for number, placed in enumerate(chain.boxes)]
        assert re.findall(f"{re.escape(BOX_START)}(.*?){re.escape(BOX_END)}", said) == boxes
        assert said.startswith(" 2. ")
        untold += len(shown)
    assert untold


def test_edits_that_do_not_name_their_objects_are_drawn_apart_and_never_read_without_picture(
    training_run: TrainingRun,
) -> None:
    recipe, edits = tiny(), training_run.manifest["chain"].str.contains(r" 2\. the ")
    asked = pl.when(pl.Series(np.arange(len(edits)) % 2 == 0) & edits).then(
        pl.lit("remove the largest shape")
    )
    manifest = training_run.manifest.with_columns(
        prompt=asked.otherwise("prompt"), instructions=pl.concat_list(asked.otherwise("prompt"))
    )
    data = training_data(replace(training_run, manifest=manifest))
    words = question_words(replace(recipe.foundation, referent_share=0.5))
    assert question_words(recipe.foundation) == () != words
    tokenizer = fit_tokenizer(data, 4, words)
    assert len(tokenizer(" the shape farthest to the right")["input_ids"]) == 6
    sequences = build_sequences(recipe.model, tokenizer, build_image_processor(recipe.model.language_model))
    config = replace(recipe.foundation, describe_share=0.0, edit_share=1.0, reading_steps=1)

    def shares(batches: Callable[[int], CurriculumBatch]) -> set[float]:
        """Of the first batches' instructions, that need reasoning."""
        texts = [tokenizer.batch_decode(batches(step).inputs["input_ids"]) for step in range(12)]
        return {sum("largest" in text for text in batch) / len(batch) for batch in texts}

    assert any(0 < share < 1 for share in shares(Curriculum(sequences, data, config).chains)), "as they come"
    apart = Curriculum(sequences, data, replace(config, reasoning_share=0.5))
    assert shares(apart.reading) == {0.0}
    assert shares(apart.chains) == {0.0, 1.0}


def test_repeat_objects_are_objects_with_a_phrase_of_their_own() -> None:
    twins = parse(
        "a red circle (0,0),(99,99), a blue cross (500,0),(999,499), a red circle (200,0),(299,99) "
        "and a green star (0,500),(99,599)"
    )
    drawn = [repeat_objects(twins, np.random.default_rng(seed)) for seed in range(20)]
    for chain, repeated in drawn:
        boxes = [placed.box for placed in chain.boxes]
        assert boxes[:4] == [placed.box for placed in twins.boxes]
        assert all(boxes[number] == boxes[before] for number, [before] in repeated.items())
    first = "a red circle (0,0),(99,99) a blue cross (500,0),(999,499) a red circle (200,0),(299,99) "
    first += "a green star (0,500),(99,599)"
    cross, star = "the blue cross (500,0),(999,499)", "the green star (0,500),(99,599)"
    assert {(chain.to_data().strip(), str(repeated)) for chain, repeated in drawn} == {
        (f"{first} {cross} {star}", "{4: [1], 5: [3]}"),
        (f"{first} {star} {cross}", "{4: [3], 5: [1]}"),
    }
    alike = parse("a red circle (0,0),(99,99) and a red circle (200,0),(299,99)")
    assert len(repeat_objects(alike, np.random.default_rng(0))[1]) == 2


def test_batches_that_say_boxes_again_ask_for_nothing_else(training_run: TrainingRun) -> None:
    recipe, data = tiny(), training_data(training_run)
    sequences = build_sequences(
        recipe.model, fit_tokenizer(data, 4), build_image_processor(recipe.model.language_model)
    )
    config = replace(recipe.foundation, describe_share=0.0, recall_share=1.0)
    batch = Curriculum(sequences, data, config).chains(0)
    assert not batch.draws and batch.cells is None and not any(batch.seen) and all(batch.repeated)
    assert "pixel_values" not in batch.inputs
    asked = [
        sequences.tokenizer.decode(ids[labels != IGNORED])
        for ids, labels in zip(batch.inputs["input_ids"], batch.inputs["labels"], strict=True)
    ]
    assert asked == [
        "".join(str(chain.boxes[number].box) for number in repeated)
        for chain, repeated in zip(batch.chains, batch.repeated, strict=True)
    ]


def test_names_give_way_to_other_words_in_prompt_and_chain_alike() -> None:
    prompt, rng = "a photo of a red circle and a cross", np.random.default_rng(0)
    drawn = [renamed(prompt, CHAIN, ["object"], rng) for _ in range(60)]
    said = {(text, chain.to_data()) for text, chain in drawn}
    assert said == {
        (
            f"a photo of a red {one} and a {other}",
            f"a red {one} (0,0),(499,499) and a blue {other} (500,0),(999,499) on a grey background",
        )
        for one in ("circle", "object")
        for other in ("cross", "object")
    }
    # What the chain alone says could not be copied from the prompt.
    assert {renamed("two things", CHAIN, ["object"], rng)[1] for _ in range(9)} == {CHAIN}
    nameless = parse("(0,0),(499,499) is a circle")
    assert renamed(prompt, nameless, ["object"], rng) == (prompt, nameless)


def test_other_names_are_words_of_text_to_image_batches_only_where_asked_for(
    training_run: TrainingRun,
) -> None:
    recipe, data = tiny(), training_data(training_run)
    tokenizer = fit_tokenizer(data, 4)
    sequences = build_sequences(recipe.model, tokenizer, build_image_processor(recipe.model.language_model))
    words = set(other_names(tokenizer, data)) - {"it"}  # which edits say before a box: "move it to ..."
    assert words and not words & {"circle", "red", "photo", "background"}
    for share, edit_share in ((1.0, 0.0), (1.0, 1.0), (0.0, 0.0)):
        config = replace(
            recipe.foundation, renamed_share=share, edit_share=edit_share, describe_share=0.0, seed=3
        )
        curriculum = Curriculum(sequences, data, config)
        names = {
            placed.phrase.split()[-1]
            for step in range(8)
            for chain in curriculum.chains(step).chains
            for placed in chain.boxes
        }
        assert bool(names & words) == (share > edit_share)


def test_pointing_is_looking_at_the_object_whose_place_is_said(training_run: TrainingRun) -> None:
    recipe, data = tiny(), training_data(training_run)
    sequences = build_sequences(
        recipe.model, fit_tokenizer(data, 4), build_image_processor(recipe.model.language_model)
    )
    prompt = sequences.prompt("Find it.", has_image=True, template="{}")
    answers = [sequences.answer(prompt, CHAIN.to_model()), sequences.answer(prompt, "nothing")]
    image = Image.fromarray(data[0].target)
    ids = sequences.collate(answers, [image, image])["input_ids"]
    seen: list[dict[int, Box]] = [{number: placed.box for number, placed in enumerate(CHAIN.boxes)}, {}]
    nothing: list[dict[int, list[int]]] = [{}, {}]
    side = int(sequences.visual_tokens**0.5)
    visual = (ids[0] == sequences.pad_id).nonzero()[:, 0].reshape(side, side)
    starts = (ids[0] == sequences.tokenizer.convert_tokens_to_ids(BOX_START)).nonzero()[:, 0].tolist()

    def looking(at: list[torch.Tensor]) -> float:
        """Loss where, inside each box, every token looks evenly at some tokens."""
        attention = torch.zeros(2, 2, ids.shape[1], ids.shape[1])
        for start, tokens in zip(starts, at, strict=True):
            attention[0, 0, start : start + 12, tokens.flatten()] = 1 / tokens.numel()
        return float(pointing_loss(attention, ids, seen, nothing, sequences))

    half = side // 2
    circle, cross = visual[:half, :half], visual[:half, half:]
    assert looking([circle, cross]) == pytest.approx(0, abs=1e-3)
    assert looking([cross, circle]) == pytest.approx(-np.log(1e-4), rel=1e-3)
    assert looking([visual[:half], visual[:half]]) == pytest.approx(np.log(2), rel=1e-3)


def test_pointing_is_also_looking_at_the_coordinate_that_was_said_before(training_run: TrainingRun) -> None:
    recipe, data = tiny(), training_data(training_run)
    sequences = build_sequences(
        recipe.model, fit_tokenizer(data, 4), build_image_processor(recipe.model.language_model)
    )
    chain = "the star (10,20),(30,40), then (50,60),(70,80), and the star (50,60),(70,80)"
    prompt = sequences.prompt("Find it.", has_image=True, template="{}")
    answer = sequences.answer(prompt, parse(chain).to_model())
    ids = sequences.collate([answer], [Image.fromarray(data[0].target)])["input_ids"]
    tokens = sequences.tokenizer.convert_ids_to_tokens(ids[0].tolist())

    def looking(numbers: str) -> float:
        """Loss where the token before each coordinate of the last box looks at these numbers in order."""
        attention = torch.zeros(1, 2, len(tokens), len(tokens))
        for coordinate, said in zip(("50", "60", "70", "80"), numbers.split(), strict=True):
            last = len(tokens) - 1 - tokens[::-1].index(coordinate)
            attention[0, 0, last - 1, tokens.index(said)] = 1
        return float(pointing_loss(attention, ids, [{}], [{2: [1]}], sequences))

    assert looking("50 60 70 80") == pytest.approx(0, abs=1e-3)
    assert looking("10 20 30 40") == pytest.approx(-np.log(1e-4), rel=1e-3)
    # The first coordinate counts five times.
    assert looking("10 60 70 80") == pytest.approx(-np.log(1e-4) * 5 / 8, rel=1e-3)
    assert looking("50 60 70 40") == pytest.approx(-np.log(1e-4) / 8, rel=1e-3)


def test_near_numbers_have_near_embeddings(training_run: TrainingRun) -> None:
    tokenizer = fit_tokenizer(training_data(training_run), 4)
    model = build_language_model(tiny().model.language_model, tokenizer)
    before = model.lm_head.weight.detach().clone()
    relate_numbers(model, tokenizer, 0)
    ids = tokenizer.convert_tokens_to_ids([str(number) for number in range(1000)])
    for weight in (model.get_input_embeddings().weight, model.lm_head.weight):
        near, far = (
            torch.cosine_similarity(weight[ids[:-k]], weight[ids[k:]]).mean().item() for k in (5, 300)
        )
        assert near > 0.9
        assert abs(far) < 0.3
    others = [k for k in range(len(before)) if k not in set(ids)]
    assert torch.equal(model.lm_head.weight[others], before[others])
    assert model.lm_head.weight[ids].std().item() == pytest.approx(float(before[ids].std()), rel=0.2)


def test_the_tokenizer_knows_every_word_of_the_manifest(training_run: TrainingRun) -> None:
    data = training_data(training_run)
    tokenizer = fit_tokenizer(data, 4)
    for row in data.rows:
        words = row["prompt"].split()
        ids = [tokenizer.encode(f" {word}", add_special_tokens=False) for word in words]
        assert all(len(token) == 1 for token in ids), row["prompt"]


def test_autoencoder_and_unet_learn_something_in_a_few_steps(training_run: TrainingRun) -> None:
    data, recipe = training_data(training_run), tiny()
    torch.manual_seed(0)
    vae, unet = build_autoencoder(recipe.model), build_unet(recipe.model)
    before = {name: p.detach().clone() for name, p in unet.named_parameters()}
    figures = fit_autoencoder(vae, data, recipe.model.autoencoder.balance, recipe.foundation, silent)
    encoder = build_text_encoder(recipe.model)
    figures |= train_unet(unet, vae, encoder, data, recipe.model, recipe.foundation, silent)
    assert figures["psnr"] > 15
    assert np.isfinite(figures["diffusion_loss"])
    moved = [name for name, p in unet.named_parameters() if not torch.equal(p, before[name])]
    assert len(moved) > 0.9 * len(before)


def test_a_unet_that_sees_edits_reads_all_conditions_from_the_start(training_run: TrainingRun) -> None:
    data, recipe = training_data(training_run), tiny()
    loss = LossConfig(dropped_weight=0.1, kept_weight=10.0)
    config = replace(recipe.foundation, unet_steps=6, unet_edit_share=0.5, unet_loss=loss)
    torch.manual_seed(0)
    vae, unet = build_autoencoder(recipe.model), build_unet(recipe.model)
    encoder = build_text_encoder(recipe.model)
    figures = train_unet(unet, vae, encoder, data, recipe.model, config, silent)
    assert np.isfinite(figures["diffusion_loss"])
    channels = recipe.model.autoencoder.latent_channels
    noisy, reference, spatial = unet.conv_in.weight.split(channels, dim=1)
    assert noisy.any() and reference.any() and spatial.any()


def test_the_black_of_canvases_is_no_outlier_to_the_autoencoder(training_run: TrainingRun) -> None:
    data, recipe = training_data(training_run), tiny()
    vae = build_autoencoder(recipe.model)
    fit_autoencoder(vae, data, recipe.model.autoencoder.balance, recipe.foundation, silent)
    # Fitted on pictures alone, the latents of these canvases have components beyond 15.
    assert spatial_latents(vae, [CHAIN], 64, 64).abs().max() < 8


def test_image_tokens_learn_to_say_what_the_text_encoder_says(training_run: TrainingRun) -> None:
    data, recipe = training_data(training_run), tiny()
    config = replace(recipe.foundation, vision_steps=1, language_steps=40, edit_share=0.2, describe_share=0.1)
    tokenizer = fit_tokenizer(data, recipe.model.image_tokens)
    torch.manual_seed(0)
    model = build_language_model(recipe.model.language_model, tokenizer)
    sequences = build_sequences(recipe.model, tokenizer, build_image_processor(recipe.model.language_model))
    losses: list[float] = []

    def listen(part: str, step: int, values: dict[str, float]) -> None:
        losses.append(values.get("alignment", float("nan")))

    projector, encoder = build_projector(recipe.model), build_text_encoder(recipe.model)
    figures = train_language_model(model, projector, encoder, sequences, data, config, listen)
    assert figures["alignment_loss"] < 0.7 * np.nanmax(losses)


def test_alignment_weighs_as_much_as_configured(training_run: TrainingRun) -> None:
    data, recipe = training_data(training_run), tiny()
    tokenizer = fit_tokenizer(data, recipe.model.image_tokens)
    sequences = build_sequences(recipe.model, tokenizer, build_image_processor(recipe.model.language_model))
    encoder = build_text_encoder(recipe.model)

    def first_loss(weight: float) -> float:
        config = replace(
            recipe.foundation, vision_steps=1, language_steps=1, describe_share=0.0, alignment_weight=weight
        )
        torch.manual_seed(0)
        model = build_language_model(recipe.model.language_model, tokenizer)
        projector = build_projector(recipe.model)
        found = train_language_model(model, projector, encoder, sequences, data, config, silent)
        return found["alignment_loss"]

    assert first_loss(3.0) == pytest.approx(3 * first_loss(1.0), rel=1e-4)


def test_following_an_instruction_is_looking_at_what_is_about_to_be_said() -> None:
    aligned = [{5: [1], 6: [3, 2]}, {}]
    attention = torch.zeros(2, 4, 8, 8)
    attention[0, 2:, 4, 1] = attention[0, 2, 5, 3] = attention[0, 3, 5, 2] = 1
    assert float(instruction_loss(attention, aligned)) == pytest.approx(0, abs=1e-3)
    attention[0, 3, 5, 2] = 0
    assert float(instruction_loss(attention, aligned)) == pytest.approx(np.log(2) / 2, rel=1e-3)
    # The other half of the heads has other things to look at.
    assert float(instruction_loss(attention.flip(1), aligned)) == pytest.approx(-np.log(1e-4), rel=1e-3)


def test_the_language_model_learns_to_point(training_run: TrainingRun) -> None:
    data, recipe = training_data(training_run), tiny()
    config = replace(
        recipe.foundation, language_steps=40, edit_share=0.3, locate_share=0.7, pointing_weight=1.0
    )
    model_config = replace(recipe.model, language_model=replace(recipe.model.language_model, layers=2))
    tokenizer = fit_tokenizer(data, recipe.model.image_tokens)
    torch.manual_seed(0)
    model = build_language_model(model_config.language_model, tokenizer)
    sequences = build_sequences(model_config, tokenizer, build_image_processor(model_config.language_model))
    losses: list[float] = []
    words: list[float] = []

    def listen(part: str, step: int, values: dict[str, float]) -> None:
        losses.extend([values["pointing"]] if "pointing" in values else [])
        words.extend([values["words"]] if "words" in values else [])

    projector, encoder = build_projector(model_config), build_text_encoder(model_config)
    figures = train_language_model(model, projector, encoder, sequences, data, config, listen)
    assert figures["pointing_loss"] < 0.7 * losses[0]
    assert words[-1] < 0.9 * words[0]
    shallow = build_language_model(recipe.model.language_model, tokenizer)
    with pytest.raises(ValueError, match="two layers or more, this one has 1"):
        train_language_model(shallow, projector, encoder, sequences, data, config, listen)


def test_whitened_patches_weigh_every_component_the_same(training_run: TrainingRun) -> None:
    data, recipe = training_data(training_run), tiny()
    sequences = build_sequences(
        recipe.model, fit_tokenizer(data, 4), build_image_processor(recipe.model.language_model)
    )
    model = build_language_model(recipe.model.language_model, sequences.tokenizer)

    @torch.no_grad()
    def spread() -> float:
        """Largest standard deviation of an embedded patch's components, as a multiple of the median."""
        images = [Image.fromarray(data[k].target) for k in range(len(data))]
        patches = sequences.chat.image_processor(images, return_tensors="pt")["pixel_values"]
        deviations = model.model.visual.patch_embed(patches).std(dim=0)
        return float(deviations.max() / deviations.median())

    before = spread()
    whiten_patches(model, sequences, data, recipe.foundation)
    assert spread() < 2 < before


def test_the_vision_tower_alone_learns_what_its_tokens_show(training_run: TrainingRun) -> None:
    data, recipe = training_data(training_run), tiny()
    config = replace(recipe.foundation, tower_steps=60, vision_steps=1, language_steps=1, optimizer="muon")
    tokenizer = fit_tokenizer(data, recipe.model.image_tokens)
    torch.manual_seed(0)
    model = build_language_model(recipe.model.language_model, tokenizer)
    sequences = build_sequences(recipe.model, tokenizer, build_image_processor(recipe.model.language_model))
    first: dict[str, float] = {}

    def listen(part: str, step: int, values: dict[str, float]) -> None:
        if part == "vision tower" and step == 0:
            first.update(values)

    projector, encoder = build_projector(recipe.model), build_text_encoder(recipe.model)
    figures = train_language_model(model, projector, encoder, sequences, data, config, listen)
    for name in ("phrase", "ground", "edges"):
        assert figures[f"tower_{name}"] < 0.6 * first[name], name


def test_published_folders_are_a_foundation_that_a_stage_starts_from(
    training_run: TrainingRun, tmp_path: Path
) -> None:
    folders = write_published(tmp_path)
    published_model = replace(TINY, scheduler=SchedulerConfig(prediction="epsilon"))
    stage = replace(
        tiny().stage("pretrain").config,
        steps=1,
        loss=LossConfig(prediction="epsilon"),
        workers=1,
        mixture={"t2i": 1.0},
    )
    run = replace(
        training_run,
        recipe=replace(tiny(), model=published_model, evaluate=UNSCORED, stages=(pretraining(stage),)),
        published=(str(folders.sdxl), str(folders.qwen)),
    )
    reference = take_published(run)
    assert reference["stage"] == "published"
    folder = run.storage().download(reference["folder"])
    pipeline = GoTPipeline.from_pretrained(folder)
    assert pipeline.config.resolution == TINY.resolution
    assert pipeline.config.prediction == "epsilon"
    data = training_data(run, stage)
    assert Trainer(pipeline, data, stage).run(1, lambda step, losses: None) is None
    assert take_published(run)["weights_hash"] == reference["weights_hash"]


def test_a_recipe_of_published_parts_says_what_it_starts_from(training_run: TrainingRun) -> None:
    run = replace(training_run, recipe=replace(tiny(), name="big", model=TINY, evaluate=UNSCORED))
    with pytest.raises(ValueError, match="'big' starts from published weights: set GOT_SDXL and GOT_QWEN"):
        train_foundation(run)
