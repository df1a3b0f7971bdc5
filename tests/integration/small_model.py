"""A small Qwen2.5-VL checkpoint that a server can load, and that knows by heart what replies look like.

The network and the tokenizer are the library's own; beside them a server wants the settings of Qwen's
processors. The model is shown the annotator's real questions about a few scenes, with the scene reader's
answers, until it can write such answers; they are well formed more often than they are true. It never learns
how an edit chain is written.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import torch
from PIL import Image
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase, Qwen2_5_VLForConditionalGeneration

from got_core.annotate import edit, t2i
from got_core.annotate.config import OpenAIConfig
from got_core.annotate.openai_annotator import _PARSED, ChatAnnotator
from got_core.annotate.pictures import size_sent
from got_core.annotate.prompt_files import prompt, prompt_names
from got_core.annotate.scene_annotator import SceneAnnotator
from got_core.model.backbones.qwen2_5_vl import END_OF_TEXT, IMAGE_PAD
from got_core.model.build import build_image_processor, build_language_model
from got_core.model.config import LanguageModelConfig
from got_core.model.tokens import train_tokenizer

SIZES = LanguageModelConfig(
    hidden_size=128,
    layers=2,
    heads=4,  # 32 channels a head: vLLM serves no smaller ones
    key_value_heads=4,
    intermediate_size=256,
    mrope_section=(4, 6, 6),
    max_positions=8192,
    vision_hidden_size=64,
    vision_layers=2,
    vision_heads=2,
    vision_intermediate_size=128,
    image_size=64,
)


class Teacher(ChatAnnotator):
    """Puts the annotator's questions to the scene reader and keeps them with the replies."""

    def __init__(self, config: OpenAIConfig) -> None:
        self.config, self.scenes = config, SceneAnnotator()
        self.lessons: list[tuple[str, Image.Image | None, str]] = []

    def _answer(
        self, name: str, read: Callable[[str], Any], image: Image.Image | None = None, **texts: str
    ) -> Any:
        reply = self._reply(name, image, texts)
        self.lessons.append((prompt(name).filled(**texts), image, reply))
        return read(reply)

    def _is_answered(
        self, name: str, read: Callable[[str], Any], image: Image.Image | None = None, **texts: str
    ) -> bool:
        return False

    def _size(self, image: Image.Image) -> tuple[int, int]:
        return size_sent(image.width, image.height, self.config)

    def _reply(self, name: str, image: Any, texts: dict[str, str]) -> str:
        scenes, instruction = self.scenes, texts.get("instruction", "")
        if name.startswith("edit_parse_"):
            named = scenes.parse_edit(instruction)[1]
            return json.dumps(dict(zip(_PARSED[name.removeprefix("edit_parse_")], named, strict=False)))
        answers: dict[str, Callable[[], Any]] = {
            "t2i_prompt": lambda: scenes.concise_prompt(image),
            "t2i_caption": lambda: scenes.detailed_caption(image, texts["prompt"]),
            "t2i_entities": lambda: {"entities": scenes.extract_entities(texts["caption"])},
            "ground": lambda: _found(scenes.ground(image, texts["phrase"])),
            "edit_steps": lambda: {"steps": scenes.split_steps(instruction)},
            "edit_task": lambda: {"task": _task(scenes.parse_edit(instruction)[0])},
            "edit_describe": lambda: scenes.describe(image, texts["mention"]),
            "edit_describe_whole": lambda: scenes.describe(image, ""),
            "edit_rewrite": lambda: {"instructions": scenes.rewrite(instruction)},
            "edit_crop": lambda: "a red circle",
        }
        answer = answers[name]()
        return answer if isinstance(answer, str) else json.dumps(answer)


def _found(box: Any) -> dict[str, Any]:
    return {"found": box is not None, "box": [box.x1, box.y1, box.x2, box.y2] if box else None}


def _task(kind: str) -> str:
    return {"recolour": "attribute"}.get(kind, kind)


def lessons_on(
    images: pl.DataFrame, pairs: pl.DataFrame, reader: Callable[[str], Image.Image], config: OpenAIConfig
) -> list[tuple[str, Image.Image | None, str]]:
    """The questions that annotating these tables asks, without chains: text, picture, reply to give.

    Moves are left out: they are no task that the annotator knows.
    """
    teacher = Teacher(config)
    captions = t2i.caption_images(images, reader, teacher)
    t2i.ground_entities(t2i.extract_entities(captions, teacher), images, reader, teacher)
    known = pairs.filter(~pl.col("pair_id").str.starts_with("move"))
    descriptions = edit.describe_edits(known, reader, teacher)
    edit.ground_edits(known, descriptions, reader, teacher)
    return teacher.lessons


def write_model(
    folder: Path, lessons: list[tuple[str, Image.Image | None, str]], steps: int, seed: int = 0
) -> None:
    """Write the checkpoint of a model that was trained on the lessons."""
    torch.manual_seed(seed)
    texts = [prompt(name).text for name in prompt_names()] + [reply for _, _, reply in lessons]
    tokenizer = train_tokenizer(texts, image_tokens=4)
    model = build_language_model(SIZES, tokenizer)
    _train(model, tokenizer, lessons, steps, seed)
    model.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids(END_OF_TEXT)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _write_processors(folder)


def _write_processors(folder: Path) -> None:
    """What Qwen's own folders hold beside the model, at the sizes of this one."""
    sizes = {
        "processor_class": "Qwen2_5_VLProcessor",
        "patch_size": SIZES.patch_size,
        "temporal_patch_size": 2,
        "merge_size": SIZES.merge_size,
        "size": {"shortest_edge": SIZES.image_size**2, "longest_edge": SIZES.image_size**2},
    }
    for name, kind in (("", "image"), ("video_", "video")):
        settings = sizes | {f"{kind}_processor_type": f"Qwen2VL{kind.capitalize()}Processor"}
        (folder / f"{name}preprocessor_config.json").write_text(json.dumps(settings))


def _train(
    model: Qwen2_5_VLForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    lessons: list[tuple[str, Image.Image | None, str]],
    steps: int,
    seed: int,
) -> None:
    samples = [_sample(tokenizer, *lesson) for lesson in lessons]
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    draw = random.Random(seed)
    for _ in range(steps):
        # One kind of sample a step: padding a short question to a long one costs more than it teaches.
        about = draw.choice(samples)
        near = sorted(samples, key=lambda one: abs(len(one["input_ids"]) - len(about["input_ids"])))[:24]
        loss = model(**_batch(draw.sample(near, min(6, len(near))))).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()


def _sample(
    tokenizer: PreTrainedTokenizerBase, text: str, image: Image.Image | None, reply: str
) -> dict[str, Tensor]:
    """One question as the server writes it, and its reply; only the reply is learned."""
    pad = tokenizer.convert_tokens_to_ids(IMAGE_PAD)
    shown: dict[str, Tensor] = {}
    content: Any = text
    if image is not None:
        content = [{"type": "image"}, {"type": "text", "text": text}]
        features = build_image_processor(SIZES)(images=[image.convert("RGB")], return_tensors="pt")
        shown = {key: features[key] for key in ("pixel_values", "image_grid_thw")}
    question = tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    if image is not None:
        count = int(shown["image_grid_thw"].prod()) // SIZES.merge_size**2
        question = question.replace(IMAGE_PAD, IMAGE_PAD * count)
    question_ids, reply_ids = (tokenizer(part)["input_ids"] for part in (question, reply + END_OF_TEXT))
    ids = torch.tensor(question_ids + reply_ids)
    labels = torch.tensor([-100] * len(question_ids) + reply_ids)
    return {"input_ids": ids, "labels": labels, "mm_token_type_ids": (ids == pad).int(), **shown}


def _batch(samples: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    def padded(key: str, value: int) -> Tensor:
        return pad_sequence([one[key] for one in samples], batch_first=True, padding_value=value)

    batch = {"input_ids": padded("input_ids", 0), "labels": padded("labels", -100)}
    batch["mm_token_type_ids"] = padded("mm_token_type_ids", 0)
    whole = [torch.ones(len(one["input_ids"]), dtype=torch.long) for one in samples]
    batch["attention_mask"] = pad_sequence(whole, batch_first=True)
    for key in ("pixel_values", "image_grid_thw"):
        if found := [one[key] for one in samples if key in one]:
            batch[key] = torch.cat(found)
    return batch
