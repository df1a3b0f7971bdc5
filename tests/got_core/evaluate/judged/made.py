"""Tiny downloads of judged benchmarks in their published formats, and a judge that looks at pictures."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from got_core.evaluate.judges.canary_pairs import SIDE
from got_core.evaluate.judges.config import JudgeConfig
from got_core.storage import Storage
from tests.got_core.annotate.chat_server import ChatServer

MODEL = "eyes"
COLOURS = ((200, 30, 30), (30, 160, 60), (40, 60, 200), (210, 200, 40), (150, 60, 160), (90, 90, 90))


def encoded(colour: tuple[int, int, int], size: tuple[int, int] = (24, 16), kind: str = "PNG") -> bytes:
    """A picture of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, kind)
    return buffer.getvalue()


def shade(level: int) -> tuple[int, int, int]:
    """A grey from which `looking` makes the score `level` of 10."""
    return (25 * level, 25 * level, 25 * level)


# -- downloads ---------------------------------------------------------------------------------------

PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def held(data: bytes | None) -> dict[str, Any]:
    """A picture as the hub keeps it in a row."""
    return {"bytes": data, "path": None}


def imagenhub(place: Path, count: int = 4) -> Path:
    """Parquet of the split `filtered`, and of another one; two turns of each picture."""
    rows = [
        {
            "img_id": str(100 + number // 2),
            "turn_index": number % 2 + 1,
            "source_img": held(encoded(COLOURS[number // 2 % len(COLOURS)])),
            "mask_img": held(encoded((0, 0, 0))),
            "instruction": f"make it grey, {number}",
            "source_global_caption": "a colour",
            "target_global_caption": "a grey",
            "target_local_caption": "grey",
            "target_img": held(encoded((9, 9, 9))),
        }
        for number in range(count)
    ]
    schema = pa.schema(
        [
            ("img_id", pa.string()),
            ("turn_index", pa.int32()),
            ("source_img", PICTURE),
            ("mask_img", PICTURE),
            ("instruction", pa.string()),
            ("source_global_caption", pa.string()),
            ("target_global_caption", pa.string()),
            ("target_local_caption", pa.string()),
            ("target_img", PICTURE),
        ]
    )
    folder = place / "imagenhub/data"
    folder.mkdir(parents=True)
    table = pa.Table.from_pylist(rows, schema)
    pq.write_table(table, folder / "filtered-00000-of-00001-719c41326f14b0d2.parquet")
    pq.write_table(table.slice(0, 1), folder / "dev-00000-of-00001-e162115722f1be56.parquet")
    return place


GEDIT_TASKS = ("background_change", "subject-add")


def gedit_rows() -> list[dict[str, Any]]:
    """Two samples of each of two tasks in each language; one of each task is in the intersection set."""
    return [
        {
            "task_type": task,
            "key": f"{language}{number}{task[0]}",
            "instruction": f"{'make it grey' if language == 'en' else '把它变成灰色'} {number}",
            "instruction_language": language,
            "input_image": held(encoded(COLOURS[number])),
            "input_image_raw": held(encoded(COLOURS[number])),
            "Intersection_exist": number == 0,
        }
        for task in GEDIT_TASKS
        for language in ("en", "cn")
        for number in range(2)
    ]


GEDIT_SCHEMA = pa.schema(
    [
        ("task_type", pa.string()),
        ("key", pa.string()),
        ("instruction", pa.string()),
        ("instruction_language", pa.string()),
        ("input_image", PICTURE),
        ("input_image_raw", PICTURE),
        ("Intersection_exist", pa.bool_()),
    ]
)


def gedit(place: Path, *, arrow: bool = True) -> Path:
    """As `datasets` saves it to disk, or as parquet."""
    table = pa.Table.from_pylist(gedit_rows(), GEDIT_SCHEMA)
    if arrow:
        folder = place / "GEdit-Bench/train"
        folder.mkdir(parents=True)
        for number in range(2):
            path = folder / f"data-0000{number}-of-00002.arrow"
            with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, GEDIT_SCHEMA) as writer:
                writer.write_table(table.slice(number * 4, 4))
    else:
        folder = place / "GEdit-Bench/data"
        folder.mkdir(parents=True)
        pq.write_table(table, folder / "train-00000-of-00001.parquet")
    return place


IMGEDIT = {
    "1082": {"id": "animal/000342021.jpg", "prompt": "make it grey", "edit_type": "adjust"},
    "673": {"id": "style/000278574.jpg", "prompt": "draw it in grey", "edit_type": "style"},
    "97": {"id": "animal/000342021.jpg", "prompt": "add a grey cloud", "edit_type": "add"},
}


def imgedit(place: Path) -> Path:
    """The list in a clone, and the unpacked pictures."""
    write(place / "ImgEdit/Benchmark/Basic/basic_edit.json", json.dumps(IMGEDIT))
    for row in IMGEDIT.values():
        write(place / "imgedit_pictures" / row["id"], encoded(COLOURS[1], kind="JPEG"))
    return place


RISE: list[dict[str, Any]] = [
    {
        "index": "temporal_reasoning_1",
        "category": "temporal_reasoning",
        "instruction": "a year later",
        "image": "temporal_reasoning_images/1.png",
        "reference": "it is grey",
        "reasoning_img": None,
    },
    {
        "index": "causal_reasoning_1",
        "category": "causal_reasoning",
        "instruction": "after the fire",
        "image": "causal_reasoning_images/1.png",
        "reference": "it is ash",
        "reasoning_img": True,
        "consistency_free": True,
    },
    {
        "index": "spatial_reasoning_1",
        "category": "spatial_reasoning",
        "instruction": "from above",
        "image": "spatial_reasoning_images/1.png",
        "reference_img": "spatial_reasoning_images/1_ref.png",
    },
    {
        "index": "logical_reasoning_1",
        "category": "logical_reasoning",
        "instruction": "which is next",
        "image": "logical_reasoning_images/1.png",
        "reference_img": "logical_reasoning_images/1_ref.png",
    },
    {
        "index": "logical_reasoning_2",
        "category": "logical_reasoning",
        "instruction": "how many",
        "image": "logical_reasoning_images/2.png",
        "reference_txt": "three",
    },
]


def risebench(place: Path) -> Path:
    """The list with what was unpacked from data.zip."""
    write(place / "risebench/datav2_total_w_subtask.json", json.dumps(RISE))
    for number, row in enumerate(RISE):
        for name in ("image", "reference_img"):
            if name in row:
                write(place / "risebench/data" / row[name], encoded(COLOURS[number]))
    return place


REASON_FOLDERS = {
    "1-Left-Right": "Left_Right_text.txt",
    "2-Relative-Size": "Size_text.txt",
    "3-Mirror": "Mirror_text.txt",
    "4-Color": "Color_text.txt",
    "5-Multiple-Objects": "MultipleObjects_text.txt",
    "6-Reasoning": "Reason_text.txt",
}


def reason_edit(place: Path, count: int = 2) -> Path:
    """Six folders of pictures with masks and a text file."""
    for folder, text in REASON_FOLDERS.items():
        lines = []
        for number in range(1, count + 1):
            write(place / "reason_edit" / folder / f"{number:03d}.png", encoded(COLOURS[number]))
            write(
                place / "reason_edit" / folder / f"{number:03d}_mask.jpg",
                encoded((255, 255, 255), kind="JPEG"),
            )
            lines.append(f"Make thing {number} grey. CLIP: a grey thing {number}\n")
        write(place / "reason_edit" / folder / text, "".join(lines))
    return place


ALL = (imagenhub, gedit, imgedit, risebench, reason_edit)


def write_judged(place: Path) -> Path:
    """The downloads and checkouts of all judged benchmarks."""
    for one in (*ALL, write_checkouts):
        one(place)
    return place


def write(path: Path, data: bytes | str) -> Path:
    """A file with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


# -- checkouts with prompts of our own under the published names ---------------------------------------

VIE = '''
raise SystemExit("this file is parsed, not run")
_context_no_delimit = """Look at the pictures. {
"score" : [...]
}"""
_prompts_0shot_two_image_edit_rule = "Two pictures."
_prompts_0shot_tie_rule_SC = "\\nHow well was <instruction> done, and with how much restraint?"
_prompts_0shot_rule_PQ = "How natural, and how clean?"
'''
RISE_NAMES = (
    "consist", "reasoning", "reasoning_w_input", "generation", "spatial_ref", "spatial_ref_img",
    "spatial_ref_w_input", "spatial_qual", "spatial_cons", "logical_cons_ans", "logical_cons", "logical_txt",
    "logical_img_wo_q",
)  # fmt: skip


def write_checkouts(place: Path) -> Path:
    """Clones of VIEScore, Step1X-Edit and RISEBench, and the prompts of ImgEdit's."""
    write(place / "VIEScore/viescore/vie_prompts.py", VIE)
    write(place / "Step1X-Edit/GEdit-Bench/viescore/vie_prompts.py", VIE)
    prompts = {
        row["edit_type"]: f"Rate the {row['edit_type']} of: <edit_prompt>." for row in IMGEDIT.values()
    }
    write(place / "ImgEdit/Benchmark/Basic/prompts.json", json.dumps(prompts))
    told = {name: "Rate {instruct} against {reference}." for name in RISE_NAMES}
    write(
        place / "RISEBench/utils.py",
        "import json\n\n"
        + "".join(f'prompt_{name} = """{name}: {text} Final Score"""\n' for name, text in told.items()),
    )
    return place


# -- the judge ---------------------------------------------------------------------------------------


def pictures_in(body: Mapping[str, Any]) -> list[Image.Image]:
    """What a request shows, in order."""
    parts = body["messages"][0]["content"]
    urls = [one["image_url"]["url"] for one in parts if one["type"] == "image_url"]
    return [Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB") for url in urls]


def about_samples(server: ChatServer) -> list[dict[str, Any]]:
    """The requests that are not the canary's, whose pictures have a size of their own."""
    return [one for one in server.bodies if pictures_in(one)[-1].size != (SIDE, SIDE)]


def asked_in(body: Mapping[str, Any]) -> str:
    """The text of a request."""
    return "".join(one["text"] for one in body["messages"][0]["content"] if one["type"] == "text")


def level_of(image: Image.Image) -> int:
    """The score of ten that a grey stands for (`shade`)."""
    return min(10, round(image.getpixel((0, 0))[0] / 25))


def scores_for(body: Mapping[str, Any]) -> list[int]:
    """An honest judge's: the level of the last picture, and one more for the second score; within the scale
    that the prompt names."""
    text, level = asked_in(body), level_of(pictures_in(body)[-1])
    if "whole number from 1 to 5" in text or "Rate " in text:
        level = min(5, max(1, level))
        count = 3 if "three scores" in text or "Rate the" in text else 1
        return [level] * count
    return [level, min(10, level + 1)]


def looking(body: dict[str, Any]) -> str:
    """A judge's reply in the form that its prompt asks for."""
    scores, text = scores_for(body), asked_in(body)
    if "Final Score" in text:
        level = min(1, scores[0] // 5) if "logical" in text else scores[0]
        return f"It is so.\n\n**Final Score:** **{level}**"
    if "Rate the" in text:
        return "Brief reasoning: so.\n" + "".join(f"Axis {k}: {one}\n" for k, one in enumerate(scores))
    return f"```json\n{json.dumps({'score': scores, 'reasoning': 'because of ' + str(scores)})}\n```"


def judge_at(server: ChatServer, **settings: Any) -> JudgeConfig:
    """A judge with short waits."""
    usual: dict[str, Any] = {
        "model": MODEL,
        "concurrency": 4,
        "timeout": 20.0,
        "patience": 20.0,
        "first_wait": 0.01,
        "longest_wait": 0.05,
    }
    return JudgeConfig(url=server.url, **(usual | settings))


def fill(folder: Storage, places: Mapping[str, str], levels: Callable[[int], int] = lambda k: k + 3) -> None:
    """Edited pictures in a layout, each a grey that the judge reads a score from."""
    for number, place in enumerate(places.values()):
        folder.write_bytes(f"{place}.png", encoded(shade(levels(number))))


def words(text: str) -> set[str]:
    """Of a text, in small letters."""
    return set(re.findall(r"[a-z]+", text.lower()))
