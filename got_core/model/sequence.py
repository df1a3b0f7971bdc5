"""Token sequences: from prompts, chains and source images to the tensors the language model reads.

Sequence (specification, section 1): chat template, chain, start token, image tokens, end token, end of text.
Batches are padded on the left, so the image tokens stand at the same place in every row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from got_core.model.backbones.protocols import ChatFormat
from got_core.model.tokens import (
    EDIT_PROMPT,
    END_OF_TEXT,
    GENERATE_PROMPT,
    IMAGE_END,
    IMAGE_START,
    as_plain_words,
    image_token,
)

IGNORED = -100


@dataclass(frozen=True)
class Sample:
    """One token sequence: ids, and labels in which the positions without a loss are ``IGNORED``."""

    ids: list[int]
    labels: list[int]


class SequenceBuilder:
    """Builds the sequences of one tokenizer, in a planner's chat format."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, chat: ChatFormat, image_tokens: int) -> None:
        self.tokenizer = tokenizer
        self.chat = chat
        self.image_tokens = image_tokens
        self.start_id, self.end_id, self.eos_id, self.pad_id = tokenizer.convert_tokens_to_ids(
            [IMAGE_START, IMAGE_END, END_OF_TEXT, chat.picture]
        )
        self.image_ids = tokenizer.convert_tokens_to_ids([image_token(k) for k in range(image_tokens)])

    @property
    def visual_tokens(self) -> int:
        """Tokens that a picture becomes."""
        return self.chat.visual_tokens

    def prompt(self, text: str, *, has_image: bool, template: str | None = None) -> list[int]:
        """Ids of the user message and the opening of the answer.

        ``template`` replaces the prompt around the text; by default the released one for the task. Tokens
        of chat, vision or image generation in the text are taken for words.
        """
        template = template or (EDIT_PROMPT if has_image else GENERATE_PROMPT)
        words = as_plain_words(text, self.chat.reserved)
        content: list[dict[str, str]] = [{"type": "text", "text": template.format(words)}]
        if has_image:
            content.insert(0, {"type": "image"})
        rendered = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        rendered = rendered.replace(self.chat.picture, self.chat.picture * self.visual_tokens)
        return self.tokenizer.encode(rendered, add_special_tokens=False)

    def chain(self, text: str) -> list[int]:
        """Ids of a chain in its model form."""
        return self.tokenizer.encode(text, add_special_tokens=False)

    def drawing(self, prompt: list[int], chain: str) -> Sample:
        """The sequence whose hidden states guide the drawing; it ends with the image tokens."""
        ids = [*prompt, *self.chain(chain), self.start_id, *self.image_ids]
        return Sample(ids, [IGNORED] * len(ids))

    def training(self, prompt: list[int], chain: str) -> Sample:
        """The whole sequence; the loss covers the chain, the start token and the two end tokens."""
        answer = [*self.chain(chain), self.start_id]
        ending = [self.end_id, self.eos_id]
        labels = [IGNORED] * len(prompt) + answer + [IGNORED] * self.image_tokens + ending
        return Sample([*prompt, *answer, *self.image_ids, *ending], labels)

    def answer(self, prompt: list[int], chain: str) -> Sample:
        """Prompt, chain and start token alone: what a language model without image tokens learns."""
        answer = [*self.chain(chain), self.start_id]
        return Sample([*prompt, *answer], [IGNORED] * len(prompt) + answer)

    def image_span(self, *, training: bool) -> slice:
        """Where the image tokens stand in a left-padded batch."""
        return slice(-self.image_tokens - 2, -2) if training else slice(-self.image_tokens, None)

    def collate(
        self,
        samples: Sequence[Sample],
        images: Sequence[Image.Image] | None = None,
        multiple: int = 1,
    ) -> dict[str, Tensor]:
        """Left-padded ``input_ids``, ``attention_mask``, ``labels`` (B, L), and what images add to them.

        L is rounded up to a multiple: fewer different shapes, so fewer compiled kernels and less memory.
        """
        longest = max(len(sample.ids) for sample in samples)
        length = -(-longest // multiple) * multiple
        rows = [length - len(sample.ids) for sample in samples]
        batch = {
            "input_ids": torch.tensor(
                [[self.eos_id] * pad + s.ids for pad, s in zip(rows, samples, strict=True)]
            ),
            "attention_mask": torch.tensor(
                [[0] * pad + [1] * (length - pad) for pad in rows], dtype=torch.long
            ),
            "labels": torch.tensor(
                [[IGNORED] * pad + s.labels for pad, s in zip(rows, samples, strict=True)]
            ),
        }
        if images is not None:
            batch |= self.chat.pictures(images, batch["input_ids"] == self.pad_id)
        return batch
