"""Which words of a prompt a chain repeats, and of an edit the words that tell a new place.

Belongs here: comparing the two texts of one sample. Does not belong here: which samples there are
(`curriculum`), and what is made of it (`vision`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from transformers import BatchEncoding

from got_core.chain.boxes import Box
from got_core.chain.edits import is_edit_chain
from got_core.chain.grammar import BOX_END, BOX_START, Chain
from got_core.model.sequence import IGNORED, Sample, SequenceBuilder

WORD = re.compile(" (?!the$|and$)[a-z]{3,}")
CLAUSE_ENDS = {",", " and", "<|im_end|>"}
STEPS = re.compile(r" 2\. .* (?=\d+\. )", re.DOTALL)
"""Of an edit chain in its model form: between the caption of the source and that of the result."""

Alignment = dict[int, list[int]]
"""Positions of chain tokens, each with the positions of the prompt's words for it."""


class WordAlignment:
    """Compares chains with their instructions, in the tokens of one tokenizer."""

    def __init__(self, sequences: SequenceBuilder) -> None:
        self._sequences = sequences
        vocabulary = sequences.tokenizer.get_vocab().values()
        texts = {index: sequences.tokenizer.decode([index]) for index in vocabulary}
        self._words = {index for index, text in texts.items() if WORD.fullmatch(text)}
        self._numbers = {index for index, text in texts.items() if text.isdecimal()}
        self._clause_ends = {index for index, text in texts.items() if text in CLAUSE_ENDS}

    def align(self, sample: Sample, chain: Chain, new: Iterable[int]) -> Alignment:
        """The prompt's words for a chain's tokens.

        Args:
            sample: prompt and chain; labels begin with the chain.
            chain: the same chain.
            new: the boxes, by number, that are new places.

        Of each word of the chain (of an edit, of its steps) that the prompt has, too, the word there; of each
        coordinate of a new place all words from what is placed to the end of its clause.
        """
        start = _start(sample)
        words = self._aligned_words(sample, chain, start)
        aligned: Alignment = {written: [prompted] for written, prompted in words.items()}
        for span in box_spans(sample, new, self._sequences):
            # Between the name and the new place stand at most a box and words that the instruction lacks.
            named = [prompted for written, prompted in words.items() if written < span.start]
            where = self._clause(sample.ids[:start], named[-1] + 1) if named else []
            if where:
                aligned |= {k: where for k in range(span.start, span.stop) if sample.ids[k] in self._numbers}
        return aligned

    def _aligned_words(self, sample: Sample, chain: Chain, start: int) -> dict[int, int]:
        text = chain.to_model()
        steps = STEPS.search(text)
        begin, end = steps.span() if steps else (0, len(text))
        tokens = self._tokens(text)
        written = [
            start + k
            for k, (first, last) in enumerate(tokens["offset_mapping"])
            if begin <= first
            and last <= end
            and tokens["input_ids"][k] in self._words
            # Verbs stand before the name in the instruction and after it in the chain.
            and not text.startswith(" it", last)
        ]
        prompted = [k for k in range(start) if sample.ids[k] in self._words]
        common = common_subsequence([sample.ids[k] for k in written], [sample.ids[k] for k in prompted])
        return {written[a]: prompted[b] for a, b in common}

    def caption(self, sample: Sample, chain: Chain) -> slice:
        """Where an edit chain says what the source shows; nowhere where the chain is no edit's."""
        text, start = chain.to_model(), _start(sample)
        steps = STEPS.search(text)
        end = steps.start() if steps else 0
        return slice(start, start + sum(last <= end for _, last in self._tokens(text)["offset_mapping"]))

    def names(self, sample: Sample, chain: Chain, seen: Mapping[int, Box]) -> dict[int, Box]:
        """Positions of the chain's words that name objects of the picture, each with the object's place.

        ``seen``: these objects' boxes by number. The words are those before a box; of an edit also those with
        which the caption of the source begins, if it begins with the object of the first step.
        """
        named: dict[int, Box] = {}
        for span, box in zip(box_spans(sample, seen, self._sequences), seen.values(), strict=True):
            named |= dict.fromkeys(self._words_before(sample, span.start - 1), box)
        if 0 in seen and is_edit_chain(chain):
            first = self._words_before(sample, box_spans(sample, [0], self._sequences)[0].start - 1)
            caption = self.caption(sample, chain)
            words = [k for k in range(caption.start, caption.stop) if sample.ids[k] in self._words]
            opening = words[: len(first)]
            if [sample.ids[k] for k in opening] == [sample.ids[k] for k in first]:
                named |= dict.fromkeys(opening, seen[0])
        return named

    def _words_before(self, sample: Sample, place: int) -> list[int]:
        """Positions of the last words before a box, which may have a number between."""
        found: list[int] = []
        for k in reversed(range(place)):
            if sample.ids[k] in self._words:
                found.insert(0, k)
            elif found:
                break
        return found

    def _tokens(self, text: str) -> BatchEncoding:
        return self._sequences.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)

    def _clause(self, prompt: Sequence[int], first: int) -> list[int]:
        """The words from a place on to the end of the clause."""
        ends = (k for k in range(first, len(prompt)) if prompt[k] in self._clause_ends)
        return [k for k in range(first, next(ends, len(prompt))) if prompt[k] in self._words]


def _start(sample: Sample) -> int:
    """Where the chain begins, and with it the labels."""
    return next(k for k, label in enumerate(sample.labels) if label != IGNORED)


def box_spans(sample: Sample, numbers: Iterable[int], sequences: SequenceBuilder) -> list[slice]:
    """Where a sample says the coordinates of boxes, which are given by number."""
    start_id, end_id = sequences.tokenizer.convert_tokens_to_ids([BOX_START, BOX_END])
    starts = [place for place, token in enumerate(sample.ids) if token == start_id]
    return [slice(starts[k] + 1, sample.ids.index(end_id, starts[k])) for k in numbers]


def common_subsequence(a: Sequence[int], b: Sequence[int]) -> list[tuple[int, int]]:
    """The longest common subsequence, as pairs of places in both."""
    longest = np.zeros((len(a) + 1, len(b) + 1), dtype=int)
    for i in reversed(range(len(a))):
        for k in reversed(range(len(b))):
            same = longest[i + 1, k + 1] + 1 if a[i] == b[k] else 0
            longest[i, k] = max(same, longest[i + 1, k], longest[i, k + 1])
    pairs, i, k = [], 0, 0
    while i < len(a) and k < len(b):
        if a[i] == b[k] and longest[i, k] == longest[i + 1, k + 1] + 1:
            pairs.append((i, k))
            i, k = i + 1, k + 1
        elif longest[i, k] == longest[i + 1, k]:
            i += 1
        else:
            k += 1
    return pairs
