"""A list of prompts of our own in the published format, a folder of pictures, a checkout with a script."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from got_core.evaluate.geneval2.config import GenEval2Config, JudgeConfig
from got_core.evaluate.geneval2.prompts import Samples
from got_core.storage import Storage
from tests.got_core.evaluate.geneval2.viewers import MODEL, WORDS, Group, drawing

GROUPS: list[list[Group]] = [
    [(1, "red", "circle")],
    [(2, "green", "square")],
    [(3, "blue", "triangle")],
    [(2, "red", "square"), (1, "blue", "circle")],
    [(3, "green", "circle"), (4, "red", "triangle")],
    [(5, "blue", "square"), (2, "green", "triangle")],
]


def row(groups: Sequence[Group]) -> dict[str, Any]:
    """A line of the list about these shapes."""
    questions, skills = [], []
    for count, colour, shape in groups:
        one = count == 1
        questions += [
            [f"How many {shape}s are in the image?", WORDS[count]],
            [f"Is the {shape} {colour}?" if one else f"Are the {shape}s {colour}?", "Yes"],
            [f"Are there any {shape}s in the image?", "Yes"],
        ]
        skills += ["count", "attribute", "object"]
    words = [
        f"a {colour} {shape}" if count == 1 else f"{WORDS[count]} {colour} {shape}s"
        for count, colour, shape in groups
    ]
    atoms = sum(2 if count == 1 else 3 for count, _, _ in groups)
    return {"prompt": " and ".join(words), "atom_count": atoms, "vqa_list": questions, "skills": skills}


ROWS = [row(groups) for groups in GROUPS]

SCRIPT = """
def tifa(questions, path):
    for question, answer in questions:
        ask("Not this one: {}".format(question), path)


def soft_tifa(questions, path):
    for question, answer in questions:
        ask('{} Say it in a word.'.format(question), path)
    print("done {0}".format(1), "x".format)
"""


def write_list(path: Path, rows: Sequence[Any] = ROWS) -> Path:
    path.write_text("".join(f"{one if isinstance(one, str) else json.dumps(one)}\n" for one in rows))
    return path


def write_checkout(folder: Path, rows: Sequence[Any] = ROWS, script: str = SCRIPT) -> Path:
    """A list and a script in the published places."""
    folder.mkdir(parents=True, exist_ok=True)
    write_list(folder / "geneval2_data.jsonl", rows)
    (folder / "evaluation.py").write_text(script)
    return folder


def write_tokenizer(path: Path) -> Path:
    """A byte-level tokenizer that keeps digits apart, as Qwen's does, and has no token for `three`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    texts = ["Yes yes No no", *(f"{word} {word.capitalize()}" for word in WORDS if word != "three")] * 20
    trainer = trainers.BpeTrainer(
        vocab_size=500, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([f"{text} {text}" for text in texts], trainer)
    tokenizer.save(str(path))
    return path


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def write_folder(storage: Storage, samples: Samples, groups: Sequence[Sequence[Group]] = GROUPS) -> None:
    """Pictures and the JSON of their paths, under names of somebody else."""
    paths = {}
    for number, (sample, shapes) in enumerate(zip(samples.all, groups, strict=True)):
        paths[sample.prompt] = f"out/picture_{number}.png"
        storage.write_bytes(paths[sample.prompt], encoded(drawing(shapes)))
    storage.write_json("my_paths.json", paths)


def judge_at(url: str, **settings: Any) -> JudgeConfig:
    """A judge with short waits."""
    usual: dict[str, Any] = {
        "model": MODEL,
        "concurrency": 4,
        "timeout": 20.0,
        "patience": 20.0,
        "first_wait": 0.01,
        "longest_wait": 0.05,
    }
    return JudgeConfig(url=url, **(usual | settings))


SMALL = GenEval2Config(bootstrap=50, batch_size=2)
