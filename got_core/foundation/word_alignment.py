"""Where a prompt says what its chain is about to say: words, and of an edit the words for a new place.

Belongs here: comparing the two texts of one sample. Does not belong here: which samples there are
(`curriculum`), and what is made of it (`vision`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
from transformers import BatchEncoding

from got_core.chain.grammar import BOX_END, BOX_START, Chain
from got_core.model.sequence import IGNORED, Sample, SequenceBuilder

WORD = re.compile(" (?!the$|and$)[a-z]{3,}")
CLAUSE_ENDS = {",", " and", "<|im_end|>"}
STEPS = re.compile(r" 2\. .* (?=\d+\. )", re.DOTALL)
"""Of an edit chain in its model form: between the caption of the source and that of the result."""

Told = dict[int, list[int]]
"""Places of tokens that are said, each with those of what the instruction says of it."""


class WordAlignment:
    """Compares chains with their instructions, in the tokens of one tokenizer."""

    def __init__(self, sequences: SequenceBuilder) -> None:
        self._sequences = sequences
        vocabulary = sequences.tokenizer.get_vocab().values()
        texts = {index: sequences.tokenizer.decode([index]) for index in vocabulary}
        self._words = {index for index, text in texts.items() if WORD.fullmatch(text)}
        self._numbers = {index for index, text in texts.items() if text.isdecimal()}
        self._clause_ends = {index for index, text in texts.items() if text in CLAUSE_ENDS}

    def told(self, sample: Sample, chain: Chain, new: Iterable[int]) -> Told:
        """What the prompt says of a chain's tokens.

        Args:
            sample: prompt and chain; labels begin with the chain.
            chain: the same chain.
            new: the boxes, by number, that are new places.

        Of each word of the chain (of an edit, of its steps) that the prompt has, too, the word there; of each
        coordinate of a new place all words from what is placed to the end of its clause.
        """
        start = _start(sample)
        words = self._words_told(sample, chain, start)
        told: Told = {said: [asked] for said, asked in words.items()}
        for span in box_spans(sample, new, self._sequences):
            # Between the name and the new place stand at most a box and words that the instruction lacks.
            named = [asked for said, asked in words.items() if said < span.start]
            where = self._clause(sample.ids[:start], named[-1] + 1) if named else []
            if where:
                told |= {k: where for k in range(span.start, span.stop) if sample.ids[k] in self._numbers}
        return told

    def _words_told(self, sample: Sample, chain: Chain, start: int) -> dict[int, int]:
        text = chain.to_model()
        steps = STEPS.search(text)
        begin, end = steps.span() if steps else (0, len(text))
        read = self._read(text)
        said = [
            start + k
            for k, (first, last) in enumerate(read["offset_mapping"])
            if begin <= first
            and last <= end
            and read["input_ids"][k] in self._words
            # Verbs stand before the name in the instruction and after it in the chain.
            and not text.startswith(" it", last)
        ]
        asked = [k for k in range(start) if sample.ids[k] in self._words]
        common = common_subsequence([sample.ids[k] for k in said], [sample.ids[k] for k in asked])
        return {said[a]: asked[b] for a, b in common}

    def caption(self, sample: Sample, chain: Chain) -> slice:
        """Where an edit chain says what the source shows; nowhere where the chain is no edit's."""
        text, start = chain.to_model(), _start(sample)
        steps = STEPS.search(text)
        end = steps.start() if steps else 0
        return slice(start, start + sum(last <= end for _, last in self._read(text)["offset_mapping"]))

    def _read(self, text: str) -> BatchEncoding:
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
