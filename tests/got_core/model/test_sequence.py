"""Token sequences: lossless chains, whole-number tokens, labels where the loss belongs."""

from __future__ import annotations

import torch
from PIL import Image

from got_core.chain.grammar import parse
from got_core.model.sequence import IGNORED
from tests.got_core.tiny_pipeline import TINY, tiny_pipeline

MODEL_FORM = parse("a red circle (12,345),(678,999) and a zebra (0,7),(500,501)").to_model()


def test_any_text_survives_the_tokenizer() -> None:
    sequences = tiny_pipeline().sequences
    for text in (MODEL_FORM, "Ångström, 漢字 and\ttabs", "x" * 50):
        ids = sequences.chain(text)
        assert sequences.tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


def test_every_coordinate_is_one_token() -> None:
    tokenizer = tiny_pipeline().tokenizer
    assert all(len(tokenizer.encode(str(n), add_special_tokens=False)) == 1 for n in range(1000))


def test_released_token_order() -> None:
    tokenizer = tiny_pipeline().tokenizer
    start = tokenizer.convert_tokens_to_ids("<|im_gen_start|>")
    names = ["<|im_gen_end|>", "<|im_gen_0000|>", "<|im_gen_0001|>"]
    assert tokenizer.convert_tokens_to_ids(names) == [start + 1, start + 2, start + 3]


def test_a_prompt_is_the_published_one_in_the_chat_template_with_the_picture_first() -> None:
    sequences = tiny_pipeline().sequences
    opening = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    picture = f"<|vision_start|>{'<|image_pad|>' * sequences.visual_tokens}<|vision_end|>"
    generate = "Follow the caption to generate an image through a chain of thought process: "
    edit = "Follow the instruction to edit the given image through a chain of thought process: "
    closing = "<|im_end|>\n<|im_start|>assistant\n"
    for has_image, before in ((False, generate), (True, picture + edit)):
        ids = sequences.prompt("make it {blue}", has_image=has_image)
        text = sequences.tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        assert text == f"{opening}{before}make it {{blue}}{closing}"


def test_tokens_of_templates_are_words_in_a_prompt() -> None:
    sequences = tiny_pipeline().sequences
    text = "add <|image_pad|> <|im_end|><|im_gen_start|><|endoftext|> or <|vision_start|>"
    ids = sequences.prompt(text, has_image=True)
    assert ids.count(sequences.pad_id) == sequences.visual_tokens
    for name in ("<|im_gen_start|>", "<|endoftext|>"):
        assert sequences.tokenizer.convert_tokens_to_ids(name) not in ids
    said = sequences.tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    assert text.replace("<|", "< |") in said
    boxes = "a cat <|box_start|>(1,2),(3,4)<|box_end|>"
    assert boxes in sequences.tokenizer.decode(sequences.prompt(boxes, has_image=False))


def test_the_loss_covers_chain_start_and_end_but_not_the_image_tokens() -> None:
    sequences = tiny_pipeline().sequences
    prompt = sequences.prompt("a red circle", has_image=False)
    sample = sequences.training(prompt, MODEL_FORM)
    labelled = [label for label in sample.labels if label != IGNORED]
    assert labelled == [*sequences.chain(MODEL_FORM), sequences.start_id, sequences.end_id, sequences.eos_id]
    assert len(sample.ids) == len(sample.labels) == len(prompt) + len(labelled) + TINY.image_tokens


def test_batches_are_padded_on_the_left_and_image_tokens_stand_together() -> None:
    sequences = tiny_pipeline().sequences
    samples = [
        sequences.training(sequences.prompt(text, has_image=False), MODEL_FORM)
        for text in ("a", "a much longer one")
    ]
    batch = sequences.collate(samples)
    images = batch["input_ids"][:, sequences.image_span(training=True)]
    assert images.tolist() == [sequences.image_ids] * 2
    assert batch["attention_mask"].sum(1).tolist() == [len(sample.ids) for sample in samples]


def test_a_source_image_fills_its_place_holders() -> None:
    sequences = tiny_pipeline().sequences
    sample = sequences.drawing(sequences.prompt("make it blue", has_image=True), MODEL_FORM)
    batch = sequences.collate([sample], [Image.new("RGB", (100, 40))])
    assert int(batch["mm_token_type_ids"].sum()) == sequences.visual_tokens
    side = TINY.language_model.image_size // TINY.language_model.patch_size
    assert batch["image_grid_thw"].tolist() == [[1, side, side]]
    assert torch.isfinite(batch["pixel_values"]).all()
