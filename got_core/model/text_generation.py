"""Writing chains: prompts and source images in, the language model's text out.

Belongs here: one call of ``generate`` for a batch of prompts. Not here: token sequences (`sequence`), the
draw of a token (`sampling`), and reading the text as a chain (``chain.grammar``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from transformers import LogitsProcessorList

from got_core.model.inputs import Generators
from got_core.model.memory import onload
from got_core.model.options import PlanningOptions
from got_core.model.sampling import SeededSampling
from got_core.model.sequence import IGNORED, Sample, SequenceBuilder


def write_texts(
    mllm: Any,
    sequences: SequenceBuilder,
    prompts: Sequence[str],
    sources: Sequence[Image.Image] | None,
    options: PlanningOptions,
    *,
    max_new_tokens: int,
    generator: Generators,
    device: torch.device,
) -> list[str]:
    """What the language model writes for each prompt, up to the token that starts an image.

    ``max_new_tokens`` holds where the options name no number.
    """
    heads = [sequences.prompt(text, has_image=sources is not None) for text in prompts]
    batch = sequences.collate([Sample(ids, [IGNORED] * len(ids)) for ids in heads], sources)
    batch.pop("labels")
    batch = {key: value.to(device) for key, value in batch.items()}
    # Not by its own hook: `generate` runs the vision tower before it calls `forward`.
    onload(mllm)
    ids = mllm.generate(
        **batch,
        max_new_tokens=options.max_new_tokens or max_new_tokens,
        logits_processor=_sampling(options, generator),
        # The checkpoint's own generation settings must not decide: a penalty on repeated tokens, which some
        # ship, would fall on the digits of coordinates.
        do_sample=False,
        num_beams=1,
        temperature=None,
        top_k=None,
        top_p=None,
        repetition_penalty=1.0,
        eos_token_id=[sequences.start_id, sequences.eos_id],
        pad_token_id=sequences.eos_id,
    )
    answers = ids[:, batch["input_ids"].shape[1] :].tolist()
    return [_text(sequences, answer) for answer in answers]


def _sampling(options: PlanningOptions, generator: Generators) -> LogitsProcessorList:
    if not options.samples:
        return LogitsProcessorList()
    return LogitsProcessorList([SeededSampling(options.temperature or 1.0, options.top_p, generator)])


def _text(sequences: SequenceBuilder, ids: list[int]) -> str:
    stops = (sequences.start_id, sequences.eos_id)
    length = next((k for k, token in enumerate(ids) if token in stops), len(ids))
    return sequences.tokenizer.decode(ids[:length], clean_up_tokenization_spaces=False)
