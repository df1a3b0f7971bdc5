"""The curriculum of the small language model: batches of descriptions, named objects, edits and chains.

Belongs here: which samples and questions, and what of them is known besides the text. Does not belong here:
losses (`vision`, `language_model`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from got_core.chain.boxes import Box
from got_core.chain.edits import is_edit_chain, read_edit_chain
from got_core.chain.grammar import Chain, parse
from got_core.foundation.config import FoundationConfig
from got_core.foundation.questions import (
    CAPTION_PROMPT,
    RECALL_PROMPT,
    caption_of,
    has_choice,
    question,
    question_by_referent,
    repeat_objects,
    share_a_word,
)
from got_core.foundation.vision import DESCRIBE_PROMPT, cell_labels
from got_core.foundation.word_alignment import Alignment, WordAlignment, box_spans
from got_core.model.sequence import IGNORED, Sample, SequenceBuilder
from got_core.model.tokens import EDIT_PROMPT
from got_core.train.data.passes import LENGTH_MULTIPLE
from got_core.train.data.samples import TrainingData, TrainingSample, draw_rows, step_generator

Edited = tuple[dict[int, Box], dict[int, list[int]]]
"""See :func:`edited_boxes`."""


@dataclass(frozen=True)
class CurriculumBatch:
    """Language inputs with labels, and the chains they hold."""

    inputs: dict[str, Tensor]
    chains: list[Chain]
    seen: list[dict[int, Box]]
    """Of each chain, the boxes by number that are the place of something in the picture."""
    repeated: list[dict[int, list[int]]]
    """Of each chain, the boxes by number that it has said before, and their numbers there."""
    aligned: list[Alignment] = field(default_factory=list)
    """Of each row, the prompt's words for its chain (see :meth:`WordAlignment.align`)."""
    named: list[dict[int, Box]] = field(default_factory=list)
    """Of each row, the chain's words that name what the picture shows, and where that is (see
    :meth:`WordAlignment.names`)."""
    draws: bool = True
    """Whether the image tokens follow the chains."""
    cells: Tensor | None = None
    """What visual tokens should say, where that is known (see :func:`cell_labels`)."""


class Curriculum:
    """Batches, each of one kind: descriptions of pictures, named objects to be found in them or in what was
    said, edit chains, or text-to-image chains.

    The first three are text alone; chains are followed by the image tokens.
    """

    def __init__(self, sequences: SequenceBuilder, data: TrainingData, config: FoundationConfig) -> None:
        self.sequences, self.data, self.config = sequences, data, config
        locates = config.locate_steps + config.locate_share + config.recall_share > 0 or not config.chains
        pictures = data.of_kind["t2i"].tolist() if locates else []
        shown = {k: parse(data.manifest.row(k)["chain"]) for k in pictures}
        # Where there is nothing to choose from, an object is found without reading its name; where all forms
        # differ, without reading its colour.
        choices = [k for k, chain in shown.items() if has_choice(chain)]
        alike = [k for k in choices if share_a_word(shown[k])]
        self._choices = np.array(choices) if choices else np.arange(len(data))
        self._alike = np.array(alike) if alike else self._choices
        edits = data.of_kind["edit"]
        apart = config.reading_steps > 0 or config.reasoning_share > 0
        pointing = np.isin(edits, data.manifest.of_group("reasoning") if apart else [])
        self._edits, self._pointing, self._naming = edits, edits[pointing], edits[~pointing]
        self._words = WordAlignment(sequences)
        self._other_names = other_names(sequences.tokenizer, data) if config.renamed_share > 0 else []

    def grounding(self, step: int) -> CurriculumBatch:
        """Named objects, to be found in pictures that show others too; in the second half of the steps, in
        pictures of objects that are alike."""
        alike = step >= self.config.locate_steps // 2
        return self._grounding_batch(step_generator(self.config.seed, 8, step), alike)

    def reading(self, step: int) -> CurriculumBatch:
        """As :meth:`chains`, but edits are shown without their pictures, and only those whose instruction
        names their objects."""
        return self._chain_batch(step_generator(self.config.seed, 9, step), pictures=False)

    def chains(self, step: int) -> CurriculumBatch:
        """Chains for the most part, in the configured shares."""
        return self._chain_batch(step_generator(self.config.seed, 3, step), pictures=True)

    def captions(self, step: int) -> CurriculumBatch:
        """What a picture shows, named objects in it, and what to draw for a prompt, by thirds: no chains."""
        rng = step_generator(self.config.seed, 10, step)
        draw, size = rng.random(), self.config.language_batch_size
        if draw < 1 / 3:
            return self._grounding_batch(rng, alike=bool(rng.random() < 0.5))
        samples = self.data.draw(rng, "t2i", size)
        return self._caption_batch(samples) if draw < 2 / 3 else self._words_batch(samples, rng)

    def _chain_batch(self, rng: np.random.Generator, pictures: bool) -> CurriculumBatch:
        config, draw = self.config, rng.random()
        if draw < config.describe_share:
            return self._answer_batch(self.data.draw(rng, "t2i", config.language_batch_size))
        if draw < config.describe_share + config.locate_share:
            return self._grounding_batch(rng, alike=bool(rng.random() < 0.5))
        draw -= config.recall_share
        if draw < config.describe_share + config.locate_share:
            return self._recall_batch(rng, alike=bool(rng.random() < 0.5))
        edit = draw < config.describe_share + config.locate_share + config.edit_share
        rows = self._edit_rows(rng, pictures) if edit else self._edits[:0]
        edit = len(rows) > 0
        samples = (
            [self.data[int(k)] for k in draw_rows(rng, rows, config.language_batch_size)]
            if edit
            else self.data.draw(rng, "t2i", config.language_batch_size)
        )
        pairs = [(str(rng.choice(list(sample.prompts))), sample.chain) for sample in samples]
        if self._other_names and not edit:
            pairs = [self._perhaps_renamed(*pair, rng) for pair in pairs]
        if edit and not pictures:
            return self._text_batch(pairs)
        return self._picture_batch(pairs, [s.source for s in samples if s.source is not None])

    def _edit_rows(self, rng: np.random.Generator, pictures: bool) -> np.ndarray:
        """Which edits a batch is drawn from."""
        share = self.config.reasoning_share
        if not pictures:
            return self._naming
        if not (share > 0 and len(self._pointing) and len(self._naming)):
            return self._edits
        return self._pointing if rng.random() < share else self._naming

    def _perhaps_renamed(self, prompt: str, chain: Chain, rng: np.random.Generator) -> tuple[str, Chain]:
        if rng.random() < self.config.renamed_share:
            return renamed(prompt, chain, self._other_names, rng)
        return prompt, chain

    def _text_batch(self, pairs: list[tuple[str, Chain]]) -> CurriculumBatch:
        """Edits without their pictures."""
        chains = [chain for _, chain in pairs]
        boxes = [edited_boxes(chain) for chain in chains]
        tokens = [self._without_picture(*pair, seen) for pair, (seen, _) in zip(pairs, boxes, strict=True)]
        inputs = self.sequences.collate(tokens, None, LENGTH_MULTIPLE)
        return CurriculumBatch(inputs, chains, [{} for _ in chains], [repeated for _, repeated in boxes])

    def _picture_batch(self, pairs: list[tuple[str, Chain]], sources: list[np.ndarray]) -> CurriculumBatch:
        """Chains for prompts, or for instructions with the pictures to edit."""
        chains = [chain for _, chain in pairs]
        boxes = [edited_boxes(chain) for chain in chains]
        images = [Image.fromarray(source) for source in sources]
        tokens = [
            self.sequences.training(self.sequences.prompt(prompt, has_image=bool(images)), chain.to_model())
            for prompt, chain in pairs
        ]
        inputs = self.sequences.collate(tokens, images or None, LENGTH_MULTIPLE)
        aligned = self._align(tokens, chains, boxes, inputs)
        seen, repeated = [one for one, _ in boxes], [again for _, again in boxes]
        named = self._names(tokens, chains, seen, inputs)
        return CurriculumBatch(inputs, chains, seen, repeated, aligned, named)

    def _align(
        self, samples: list[Sample], chains: list[Chain], boxes: list[Edited], inputs: dict[str, Tensor]
    ) -> list[Alignment]:
        """The prompts' words for their chains, as positions in the rows of a batch."""
        length, aligned = inputs["input_ids"].shape[1], list[Alignment]()
        for sample, chain, (seen, repeated) in zip(samples, chains, boxes, strict=True):
            numbers = range(len(chain.boxes)) if is_edit_chain(chain) else ()
            new = [number for number in numbers if number not in {*seen, *repeated}]
            found, padding = self._words.align(sample, chain, new), length - len(sample.ids)
            aligned.append({padding + token: [padding + k for k in words] for token, words in found.items()})
        return aligned

    def _names(
        self,
        samples: list[Sample],
        chains: list[Chain],
        seen: list[dict[int, Box]],
        inputs: dict[str, Tensor],
    ) -> list[dict[int, Box]]:
        """Words that name what pictures show, as positions in the rows of a batch."""
        length, named = inputs["input_ids"].shape[1], list[dict[int, Box]]()
        for sample, chain, boxes in zip(samples, chains, seen, strict=True):
            found, padding = self._words.names(sample, chain, boxes), length - len(sample.ids)
            named.append({padding + token: box for token, box in found.items()})
        return named

    def _without_picture(self, instruction: str, chain: Chain, seen: Iterable[int]) -> Sample:
        """An edit's text alone; the boxes, by number, that only the picture shows are not asked for, nor is
        its caption."""
        prompt = self.sequences.prompt(instruction, has_image=False, template=EDIT_PROMPT)
        sample = self.sequences.training(prompt, chain.to_model())
        labels = list(sample.labels)
        caption = self._words.caption(sample, chain)
        for places in (caption, *box_spans(sample, seen, self.sequences)):
            labels[places] = [IGNORED] * len(labels[places])
        return replace(sample, labels=labels)

    def _recall_batch(self, rng: np.random.Generator, alike: bool) -> CurriculumBatch:
        """Objects with their places, and again in any order: text alone, and only what comes again is asked.

        An edit of several steps comes back to an object too, but edits alone hardly teach it.
        """
        indices = draw_rows(rng, self._alike if alike else self._choices, self.config.language_batch_size)
        repeats = [repeat_objects(self.data[int(k)].chain, rng) for k in indices]
        prompt = self.sequences.prompt(RECALL_PROMPT, has_image=False, template="{}")
        samples = []
        for chain, repeated in repeats:
            sample = self.sequences.answer(prompt, chain.to_model())
            labels = [IGNORED] * len(sample.labels)
            for places in box_spans(sample, repeated, self.sequences):
                labels[places] = sample.ids[places]
            samples.append(replace(sample, labels=labels))
        return CurriculumBatch(
            self.sequences.collate(samples, None, LENGTH_MULTIPLE),
            [chain for chain, _ in repeats],
            [{} for _ in repeats],
            [repeated for _, repeated in repeats],
            draws=False,
        )

    def _grounding_batch(self, rng: np.random.Generator, alike: bool) -> CurriculumBatch:
        pool = self._alike if alike else self._choices
        indices = draw_rows(rng, pool, self.config.language_batch_size)
        return self._answer_batch([self.data[int(k)] for k in indices], rng)

    def _answer_batch(
        self, samples: list[TrainingSample], rng: np.random.Generator | None = None
    ) -> CurriculumBatch:
        """Descriptions, or answers to questions if there is a generator for them."""
        asked = [self._question(s.chain, rng) if rng else (DESCRIBE_PROMPT, s.chain) for s in samples]
        return self._answers(samples, asked)

    def _caption_batch(self, samples: list[TrainingSample]) -> CurriculumBatch:
        """Descriptions without a place."""
        return self._answers(samples, [(CAPTION_PROMPT, caption_of(sample.chain)) for sample in samples])

    def _words_batch(self, samples: list[TrainingSample], rng: np.random.Generator) -> CurriculumBatch:
        """Image tokens right after their prompts."""
        tokens = [
            self.sequences.training(
                self.sequences.prompt(str(rng.choice(list(s.prompts))), has_image=False), ""
            )
            for s in samples
        ]
        inputs = self.sequences.collate(tokens, None, LENGTH_MULTIPLE)
        nothing: list[dict] = [{} for _ in samples]
        return CurriculumBatch(inputs, [sample.chain for sample in samples], nothing, nothing)

    def _answers(self, samples: list[TrainingSample], questions: list[tuple[str, Chain]]) -> CurriculumBatch:
        """Questions about pictures with their answers."""
        answers = [
            self.sequences.answer(
                self.sequences.prompt(prompt, has_image=True, template="{}"), chain.to_model()
            )
            for prompt, chain in questions
        ]
        images = [Image.fromarray(sample.target) for sample in samples]
        chains = [chain for _, chain in questions]
        seen = [dict(enumerate(placed.box for placed in chain.boxes)) for chain in chains]
        inputs = self.sequences.collate(answers, images, LENGTH_MULTIPLE)
        return CurriculumBatch(
            inputs,
            chains,
            seen,
            [{} for _ in chains],
            named=self._names(answers, chains, seen, inputs),
            draws=False,
            cells=torch.stack([cell_labels(sample.chain, self.sequences) for sample in samples]),
        )

    def _question(self, chain: Chain, rng: np.random.Generator) -> tuple[str, Chain]:
        share = self.config.referent_share
        if share > 0 and rng.random() < share:
            return question_by_referent(chain, rng, self.data.resolution, lists=self.config.chains)
        return question(chain, rng, lists=self.config.chains)


def other_names(tokenizer: PreTrainedTokenizerBase, data: TrainingData) -> list[str]:
    """Words of one token that no prompt or chain of text to image holds: for `renamed`."""
    used: set[str] = set()
    for row in map(data.manifest.row, data.of_kind["t2i"].tolist()):
        used.update(re.findall(r"[^\W\d_]+", f"{row['prompt']} {row['chain']}"))
    words = (tokenizer.decode([index]) for index in sorted(tokenizer.get_vocab().values()))
    return [word[1:] for word in words if re.fullmatch(r" [a-z]{2,}", word) and word[1:] not in used]


def renamed(prompt: str, chain: Chain, words: list[str], rng: np.random.Generator) -> tuple[str, Chain]:
    """Prompt and chain in which every second name that stands in both is replaced by any of the words.

    A name is the last word of a box's phrase. Only text can say what to write then, so copying is learned,
    and not which names go together.
    """
    text = chain.to_data()
    for name in sorted({placed.phrase.split()[-1] for placed in chain.boxes if placed.phrase}):
        whole = re.compile(rf"\b{re.escape(name)}\b")
        if whole.search(prompt) and rng.random() < 0.5:
            word = words[int(rng.integers(len(words)))]
            prompt, text = whole.sub(word, prompt), whole.sub(word, text)
    return prompt, parse(text, "data")


def edited_boxes(chain: Chain) -> Edited:
    """Where the boxes, by number, of an edit chain's objects that are there already ("the ...") are found.

    In the source picture, or else in the chain, under the numbers given: a place that was said before may
    have been made or moved to by an earlier step.
    """
    if not is_edit_chain(chain):
        return {}, {}
    seen: dict[int, Box] = {}
    repeated: dict[int, list[int]] = {}
    boxes = [placed.box for placed in chain.boxes]
    for step in read_edit_chain(chain).steps:
        for number, box in enumerate(step.boxes, start=step.first):
            if not step.object.startswith("the "):
                continue
            before = [other for other in range(number) if boxes[other] == box]
            if before:
                repeated[number] = before
            else:
                seen[number] = box
    return seen, repeated
