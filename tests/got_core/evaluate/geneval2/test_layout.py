"""Pictures by their prompts: what is read, what is refused and named, what is drawn."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from got_core.evaluate.geneval.layout import LayoutError
from got_core.evaluate.geneval2.benchmark import GenEval2
from got_core.evaluate.geneval2.prompts import Samples
from got_core.storage import Storage, local_path
from tests.got_core.evaluate.geneval2.lists import GROUPS, ROWS, SMALL, encoded, write_folder, write_list
from tests.got_core.evaluate.geneval2.viewers import drawing
from tests.got_core.tiny_pipeline import tiny_pipeline

BENCHMARK = GenEval2(config=SMALL)
LISTING = "my_paths.json"


@pytest.fixture
def samples(tmp_path: Path) -> Samples:
    return BENCHMARK.read(write_list(tmp_path / "list.jsonl"))


@pytest.fixture
def folder(tmp_path: Path, samples: Samples) -> Storage:
    made = Storage(f"file://{tmp_path / 'pictures'}")
    write_folder(made, samples)
    return made


def paths(folder: Storage) -> dict[str, str]:
    return folder.read_json(LISTING)


def relist(folder: Storage, change: Callable[[dict], object]) -> None:
    listing = paths(folder)
    change(listing)
    folder.write_json(LISTING, listing)


def test_pictures_are_found_by_their_prompts(folder: Storage, samples: Samples) -> None:
    root = local_path(folder.url)
    relist(folder, lambda one: one.update({ROWS[0]["prompt"]: f"{root}/out/./picture_0.png"}))
    folder.write_bytes("out/photo.jpg", encoded(drawing(GROUPS[1]), "JPEG"))
    folder.delete("out/picture_1.png")
    relist(folder, lambda one: one.update({ROWS[1]["prompt"]: "./out/photo.jpg"}))
    pictures = BENCHMARK.read_layout(samples, folder)
    assert sorted(pictures.found) == [f"{number:05d}" for number in range(6)]
    assert pictures.found["00000"].name == "out/picture_0.png" and not pictures.problems
    assert pictures.image("00002").tobytes() == drawing(GROUPS[2]).tobytes()
    assert pictures.image("00001").size == (256, 256)
    folder.write_bytes("out/picture_2.png", encoded(drawing(GROUPS[0])))
    with pytest.raises(LayoutError, match="has changed since"):
        pictures.image("00002")


SPOILED: dict[str, tuple[Callable[[Storage], object], str, str]] = {
    "picture gone": (
        lambda f: f.delete("out/picture_2.png"),
        r"out/picture_2.png: is missing \('three",
        "00002",
    ),
    "prompt gone": (
        lambda f: relist(f, lambda one: one.pop(ROWS[2]["prompt"])),
        "my_paths.json: has no picture of 'three blue triangles'",
        "00002",
    ),
    "no picture": (
        lambda f: f.write_bytes("out/picture_2.png", b"GIF89a"),
        "picture_2.png: cannot be read",
        "00002",
    ),
    "cut off": (
        lambda f: f.write_bytes("out/picture_2.png", f.read_bytes("out/picture_2.png")[:-40]),
        "picture_2.png: cannot be read",
        "00002",
    ),
    "another size": (
        lambda f: f.write_bytes("out/picture_2.png", encoded(Image.new("RGB", (64, 64)))),
        "is 64x64 pixels, most are 256x256",
        "00002",
    ),
    "two prompts": (
        lambda f: relist(f, lambda one: one.update({ROWS[2]["prompt"]: "out/picture_1.png"})),
        "out/picture_1.png: is the picture of two prompts, 'three blue triangles' and 'two green squares'",
        "00001 00002",
    ),
    "outside": (
        lambda f: relist(f, lambda one: one.update({ROWS[2]["prompt"]: "../../secret.png"})),
        r"names '../../secret.png', which is no file within",
        "00002",
    ),
    "elsewhere": (
        lambda f: relist(f, lambda one: one.update({ROWS[2]["prompt"]: "/etc/passwd"})),
        "names '/etc/passwd'",
        "00002",
    ),
    "no path": (
        lambda f: relist(f, lambda one: one.update({ROWS[2]["prompt"]: None})),
        "names 'None'",
        "00002",
    ),
    "a list of paths": (
        lambda f: relist(f, lambda one: one.update({ROWS[2]["prompt"]: ["out/picture_2.png"]})),
        "no file within",
        "00002",
    ),
    "one too many": (
        lambda f: f.write_bytes("out/more.png", b"x"),
        "out/more.png: is named by no prompt",
        "",
    ),
    "an unknown prompt": (
        lambda f: relist(f, lambda one: one.update({"a dog": "out/picture_9.png"})),
        "has the prompt 'a dog', which the list does not have",
        "",
    ),
}


@pytest.mark.parametrize("name", SPOILED)
def test_what_is_wrong_is_named_and_refused(name: str, folder: Storage, samples: Samples) -> None:
    spoil, match, lost = SPOILED[name]
    spoil(folder)
    with pytest.raises(LayoutError, match=match) as caught:
        BENCHMARK.read_layout(samples, folder)
    assert "mend the folder, or ask for a partial score" in str(caught.value)
    pictures = BENCHMARK.read_layout(samples, folder, partial=True)
    assert set(pictures.found) == {f"{number:05d}" for number in range(6)} - set(lost.split())
    assert pictures.problems


def test_a_prompt_twice_in_the_json(folder: Storage, samples: Samples) -> None:
    text = folder.read_bytes(LISTING).decode().rstrip().removesuffix("}")
    first = json.dumps(ROWS[0]["prompt"])
    folder.write_bytes(LISTING, f'{text}, {first}: "out/picture_1.png"}}'.encode())
    with pytest.raises(LayoutError, match="'a red circle' twice"):
        BENCHMARK.read_layout(samples, folder)
    assert "00000" not in BENCHMARK.read_layout(samples, folder, partial=True).found, "which one is not known"


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"[]", "is no JSON object"),
        (b'[["a", "b"]]', "is no JSON object"),
        (b"{", "is not JSON"),
        (b'"x"', "is no JSON object"),
        (b"[" * 100_000, "is not JSON"),
    ],
)
def test_a_listing_that_is_none(folder: Storage, samples: Samples, data: bytes, match: str) -> None:
    folder.write_bytes(LISTING, data)
    with pytest.raises(LayoutError, match=match):
        BENCHMARK.read_layout(samples, folder, partial=True)


def test_which_json_is_the_listing(folder: Storage, samples: Samples) -> None:
    folder.write_json("scores.json", {})
    with pytest.raises(LayoutError, match=r"its JSON files are my_paths.json, scores.json"):
        BENCHMARK.read_layout(samples, folder)
    with pytest.raises(LayoutError, match=r"scores.json: is named by no prompt of my_paths.json"):
        BENCHMARK.read_layout(samples, folder, listing=LISTING)
    folder.delete("scores.json")
    folder.delete(LISTING)
    with pytest.raises(LayoutError, match="there is no JSON file at its top"):
        BENCHMARK.read_layout(samples, folder)
    with pytest.raises(LayoutError, match=r"x.json is not there"):
        BENCHMARK.read_layout(samples, folder, listing="x.json")


def test_a_size_may_be_asked_for(folder: Storage, samples: Samples) -> None:
    with pytest.raises(LayoutError, match="is 256x256 pixels, asked for are 512x512"):
        BENCHMARK.read_layout(samples, folder, size=(512, 512))


def test_a_drawn_folder_is_read_again_and_belongs_to_one_model(tmp_path: Path, samples: Samples) -> None:
    folder, pipeline = Storage(f"file://{tmp_path / 'drawn'}"), tiny_pipeline()
    options = {"sampler": {"num_inference_steps": 1, "max_new_tokens": 4}, "weights_hash": "w"}
    assert BENCHMARK.write_layout(samples, pipeline, folder, **options) == 6
    listing = folder.read_json("image_paths.json")
    assert listing[samples.all[3].prompt] == "pictures/00003.png" and len(listing) == 6
    pictures = BENCHMARK.read_layout(samples, folder)
    assert len({one.sha256 for one in pictures.found.values()}) == 6
    folder.delete("pictures/00003.png")
    assert BENCHMARK.write_layout(samples, pipeline, folder, **options) == 1
    assert BENCHMARK.read_layout(samples, folder).found == pictures.found, "the same picture"
    with pytest.raises(LayoutError, match="of another model"):
        BENCHMARK.write_layout(samples, pipeline, folder, **{**options, "weights_hash": "x"})
    fewer = BENCHMARK.read(write_list(tmp_path / "fewer.jsonl", ROWS[:3]))
    with pytest.raises(LayoutError, match="of another list of prompts"):
        BENCHMARK.write_layout(fewer, pipeline, folder, **options)
    assert BENCHMARK.read_layout(samples, folder).found == pictures.found, "nothing was overwritten"
