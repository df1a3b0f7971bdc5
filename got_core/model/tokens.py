"""Special tokens, prompts and the tokenizer of the small language model.

The names, their order and the prompts are those of the released inference code (specification, section 1).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from got_core.model.backbones.qwen2_5_vl import CHAT_TEMPLATE, END_OF_TEXT, SPECIAL_TOKENS, TEMPLATE_WORDS

GENERATE_PROMPT = "Follow the caption to generate an image through a chain of thought process: {}"
EDIT_PROMPT = "Follow the instruction to edit the given image through a chain of thought process: {}"

IMAGE_START = "<|im_gen_start|>"
IMAGE_END = "<|im_gen_end|>"

# What every sequence repeats word for word costs one token a piece in the small tokenizer.
_FIXED = (
    *TEMPLATE_WORDS,
    GENERATE_PROMPT.removesuffix(" {}"),
    EDIT_PROMPT.removesuffix(" {}"),
)
# So do whole numbers and the colour word behind a box.
_PIECES = r" ?\(\p{L}+\)|\p{N}{1,3}| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+"


def as_plain_words(text: str, reserved: Iterable[str]) -> str:
    """The text with a space in reserved markers ("< |im_end|>").

    They would end its message, or stand for a picture that is not there.
    """
    return re.sub(rf"<\|(?=(?:{'|'.join(map(re.escape, reserved))}))", "< |", text)


def image_token(index: int) -> str:
    """Name of the image token with this index, counted from 0."""
    return f"<|im_gen_{index:04d}|>"


def generation_tokens(count: int) -> list[str]:
    """The tokens that GoT adds to a planner's vocabulary, in their order: start, end, image tokens."""
    return [IMAGE_START, IMAGE_END, *(image_token(k) for k in range(count))]


def train_tokenizer(texts: Iterable[str], image_tokens: int) -> PreTrainedTokenizerFast:
    """Train a small byte-level BPE tokenizer that holds the published planner's and GoT's special tokens.

    Every whole number from 0 to 999 becomes one token. Unknown words fall back to bytes, so any text
    can be encoded and decoded without loss.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex("|".join([*map(re.escape, _FIXED), _PIECES])), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=8192,
        min_frequency=1,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[*SPECIAL_TOKENS, *generation_tokens(image_tokens)],
        show_progress=False,
    )
    lexicon = [*(str(n) for n in range(1000)), *_FIXED]
    tokenizer.train_from_iterator([*lexicon, *texts], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        padding_side="left",
        chat_template=CHAT_TEMPLATE,
    )
