"""Rows drawn together: copies and their seeds, plans alone, memory that runs out, pictures drawn again."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from got_core.chain.grammar import parse
from got_core.model.pipeline import GoTPipeline
from got_core.registry import loading
from got_core.registry.loading import BatchSize, LoadOptions, load_pipeline
from got_core.registry.picture_file import NoNoteError, PictureNote, picture_bytes, pixels_hash, read_note
from got_core.registry.request import COLUMNS, Params, PictureLimits, Row, read_row
from got_core.registry.rows import Made, RowDrawer, redrawn
from tests.got_core.pictures.awkward import halves
from tests.got_core.tiny_pipeline import sees_its_conditions, tiny_pipeline

CHAIN = "a red circle (100,100),(400,400)"
STEPS = {"num_inference_steps": 2}


@pytest.fixture(scope="module")
def pipeline() -> GoTPipeline:
    made = sees_its_conditions(tiny_pipeline())
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture
def drawer(pipeline: GoTPipeline) -> RowDrawer:
    return RowDrawer(pipeline, name="models:/got/3", weights_hash="w1")


def row(prompt: str = "a star", **cells: Any) -> Row:
    given = dict.fromkeys(COLUMNS) | {"prompt": prompt} | cells
    return read_row(0, given, reasoning=True, limits=PictureLimits())


def pixels(made: Made) -> bytes:
    assert made.error is None and made.image is not None
    return made.image.tobytes()


def test_copies_of_a_row_have_seeds_of_their_own(drawer: RowDrawer) -> None:
    two = Params(settings=STEPS, images=2)
    made = drawer.answer([row(chain=CHAIN, seed=5), row(chain=CHAIN, seed=2**64 - 1)], two)
    assert [one.seed for one in made] == [5, 6, 2**64 - 1, -(2**63)]
    (alone,) = drawer.answer([row(chain=CHAIN, seed=6)], Params(settings=STEPS))
    assert pixels(made[1]) == pixels(alone) != pixels(made[0])


def test_a_plan_alone_draws_nothing(drawer: RowDrawer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(type(drawer.pipeline), "draw")
    (made,) = drawer.answer([row(chain=CHAIN)], Params(settings={}, plan_only=True))
    assert (made.image, made.plan.chain.to_data()) == (None, CHAIN)


def test_a_call_that_runs_out_of_memory_is_made_in_halves(
    drawer: RowDrawer, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw, calls = type(drawer.pipeline).draw, []

    def small(chains: Any, *rest: Any, **options: Any) -> Any:
        calls.append(len(chains))
        if len(chains) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return draw(drawer.pipeline, chains, *rest, **options)

    monkeypatch.setattr(drawer.pipeline, "draw", small)
    rows = [row(chain=CHAIN, seed=seed) for seed in range(5)]
    made = drawer.answer(rows, Params(settings=STEPS))
    assert calls == [5, 2, 2, 1] and [one.seed for one in made] == list(range(5))
    assert drawer.batch.now(64, 64) == 2, "and no call tries more again"
    calls.clear()
    monkeypatch.setattr(drawer.pipeline, "draw", lambda *_, **__: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(MemoryError):
        drawer.answer(rows[:1], Params(settings=STEPS))


def test_calls_have_as_many_pictures_as_free_memory_holds(
    pipeline: GoTPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = loading.picture_bytes_needed(pipeline, 64, 64)
    for pictures, expected in ((0.4, 1), (3.5, 3), (1000, loading.MOST)):
        monkeypatch.setattr(loading, "free_bytes", lambda _, share=pictures: int(2 * share * needed))
        assert BatchSize(pipeline).now(64, 64) == expected
        assert BatchSize(pipeline, chosen=40).now(64, 64) == 40
    monkeypatch.setattr(loading, "free_bytes", lambda _: 8 * needed)
    assert BatchSize(pipeline).now(128, 64) == 2, "larger pictures are fewer"


PROMPTS = ("a star", "a photo of a red circle above a blue square", "x")


@pytest.mark.parametrize("edit", [False, True])
def test_a_picture_is_drawn_again_from_its_file(drawer: RowDrawer, edit: bool) -> None:
    """Also one that was drawn among others: with prompts of other lengths, its last bits are others."""
    sources = [halves(size=(96, 64)) for _ in PROMPTS] if edit else [None] * len(PROMPTS)
    rows = [
        Row(number=k, prompt=prompt, seed=k, chain=row(chain=CHAIN).chain if k == 1 else None, source=source)
        for k, (prompt, source) in enumerate(zip(PROMPTS, sources, strict=True))
    ]
    settings = {"num_inference_steps": 3, "text_scale": 2.5}
    for one in drawer.answer(rows, Params(settings=settings)):
        assert one.image is not None
        note = read_note(picture_bytes(one.image, one.note))
        assert (note.model, note.weights_hash, note.place[1]) == ("models:/got/3", "w1", 3)
        again = redrawn(drawer.pipeline, note, one.row.source)
        assert again.size == one.image.size and again.tobytes() == one.image.tobytes()
        if edit:
            with pytest.raises(ValueError, match="give the picture that was edited"):
                redrawn(drawer.pipeline, note)
            with pytest.raises(ValueError, match="has other pixels"):
                redrawn(drawer.pipeline, note, Image.new("RGB", (96, 64)))


def test_a_picture_that_keeps_a_part_of_another_is_drawn_again(drawer: RowDrawer) -> None:
    (first,) = drawer.answer([row(chain=CHAIN)], Params(settings=STEPS))
    assert first.image is not None
    file = base64.b64encode(picture_bytes(first.image, first.note)).decode()
    moved = CHAIN.replace("100,100", "10,100")
    rows = [row(chain=moved, earlier=file), row(chain=moved)]
    made, anew = drawer.answer(rows, Params(settings=STEPS))
    assert pixels(made) != pixels(anew) and made.image is not None and made.note is not None
    text = made.note.to_json()
    assert json.loads(text)["format"] == 2, "who does not know of earlier pictures does not draw another one"
    note = PictureNote.from_json(text)
    assert note.earlier_plan().to_data() == CHAIN
    assert redrawn(drawer.pipeline, note, earlier=first.image).tobytes() == pixels(made)
    with pytest.raises(ValueError, match="a part of an earlier one: give that"):
        redrawn(drawer.pipeline, note)
    with pytest.raises(ValueError, match="earlier picture has other pixels"):
        redrawn(drawer.pipeline, note, earlier=halves(size=(64, 64)))
    assert anew.note is not None and json.loads(anew.note.to_json())["format"] == 1
    with pytest.raises(ValueError, match="keeps nothing of an earlier one"):
        redrawn(drawer.pipeline, anew.note, earlier=first.image)


def test_a_size_that_was_asked_for_is_drawn_again(drawer: RowDrawer) -> None:
    settings = STEPS | {"height": 32, "width": 64}
    (made,) = drawer.answer([row(chain=CHAIN, seed=-4)], Params(settings=settings))
    assert made.image is not None and made.image.size == (64, 32)
    note = read_note(picture_bytes(made.image, made.note))
    assert redrawn(drawer.pipeline, note).tobytes() == made.image.tobytes()


# -- notes --------------------------------------------------------------------------------------------


def note(**changed: Any) -> str:
    good = {"format": 1, "prompt": "a", "chain": "", "seed": 1, "settings": {}}
    return json.dumps({name: value for name, value in (good | changed).items() if value != "gone"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[]", "not of format 1"),
        (note(format=3), "not of format 1 or 2"),
        (note(prompt=5), "`prompt`"),
        (note(seed="gone"), "`seed`"),
        (note(seed=1.0), "`seed`"),
        (note(seed=True), "`seed`"),
        (note(seed=2**64), "`seed`"),
        (note(settings=[1]), "`settings`"),
        (note(place=[1, 1]), "`place`"),
        (note(place=[0, 10**9]), "`place`"),
        (note(place="x"), "`place`"),
        (note(source=3), "`source`"),
        (note(earlier=3), "`earlier`"),
    ],
)
def test_a_note_that_cannot_be_used_is_named(text: str, message: str) -> None:
    with pytest.raises(NoNoteError, match=message):
        PictureNote.from_json(text)


def test_settings_of_a_note_are_checked_like_those_of_a_request(pipeline: GoTPipeline) -> None:
    for settings in ({"num_inference_steps": 10**9}, {"text_scale": "x"}, {"callback": 1}):
        with pytest.raises(Exception, match=next(iter(settings))):
            redrawn(pipeline, PictureNote(prompt="a", chain="", seed=0, settings=settings))
    with pytest.raises(NoNoteError, match="chain"):
        redrawn(pipeline, PictureNote(prompt="a", chain="a (1,2) b", seed=0))
    many = parse("a (1,2),(3,4) " * 101).to_model()
    with pytest.raises(ValueError, match="has 101 boxes; at most 100"):
        redrawn(pipeline, PictureNote(prompt="a", chain=many, seed=0))


def test_a_note_that_asks_for_more_than_memory_holds_is_refused(
    pipeline: GoTPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = loading.picture_bytes_needed(pipeline, 64, 64)
    monkeypatch.setattr(loading, "free_bytes", lambda _: 4 * needed)
    monkeypatch.setattr(pipeline, "draw", lambda chains, *_, **__: list(range(len(chains))))
    notes = [PictureNote(prompt="a", chain="", seed=0, place=(0, count)) for count in (1, 2, 3)]
    assert [redrawn(pipeline, note) for note in notes[:2]] == [0, 0]
    with pytest.raises(ValueError, match="drawn among 3, and memory holds 2"):
        redrawn(pipeline, notes[2])


def test_a_containers_memory_counts(tmp_path: Path) -> None:
    info = tmp_path / "meminfo"
    info.write_text("MemTotal: 9000 kB\nMemAvailable: 4000 kB\n")
    assert loading._free_memory(info, tmp_path) == 4000 * 1024, "there is no limit"
    (tmp_path / "memory.current").write_text("900\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 300\n")
    for limit, free in (("max", 4000 * 1024), ("1000", 400), ("100", 0), (str(1 << 40), 4000 * 1024)):
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        assert loading._free_memory(info, tmp_path) == free
    assert loading._free_memory(tmp_path / "gone", tmp_path) > 1 << 30


def test_files_without_a_note_say_so() -> None:
    plain = picture_bytes(halves())
    for data, message in ((b"GIF89a", "no PNG"), (plain, "does not say"), (plain[:20], "cannot be read")):
        with pytest.raises(NoNoteError, match=message):
            read_note(data)
    kept = PictureNote(prompt="a \u2603\n\x00", chain="", seed=-5, settings={"height": None}, place=(2, 3))
    assert read_note(picture_bytes(halves(), kept)) == kept
    assert pixels_hash(halves()) != pixels_hash(halves().transpose(Image.Transpose.FLIP_LEFT_RIGHT))


# -- loading ------------------------------------------------------------------------------------------


def test_a_model_is_loaded_as_it_is_wanted(pipeline: GoTPipeline, tmp_path: Any) -> None:
    pipeline.save_pretrained(tmp_path)
    assert load_pipeline(tmp_path, LoadOptions(device="cpu")).unet.dtype == torch.float32
    assert load_pipeline(tmp_path, LoadOptions(device="cpu", dtype="bfloat16")).mllm.dtype == torch.bfloat16
    if not torch.cuda.is_available():
        for options in (LoadOptions(offload="model"), LoadOptions(device="cuda")):
            with pytest.raises(ValueError, match="GPU"):
                load_pipeline(tmp_path, options)


@pytest.mark.parametrize(
    "given",
    [
        {"device": 5}, {"dtype": "int8"}, {"offload": "some"}, {"eight_bits": 1}, {"batch": 0},
        {"batch": True}, {"batch": "many"}, {"layers": 3},
    ],
)  # fmt: skip
def test_a_load_option_that_cannot_be_used_is_named(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(given))):
        LoadOptions.of(given)
