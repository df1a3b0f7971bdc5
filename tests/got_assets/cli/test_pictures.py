"""`got generate`, `plan`, `draw` and `edit` with a model of the real classes."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from PIL import Image

from got_core.chain.boxes import Box
from got_core.chain.grammar import parse
from got_core.model.config import GuidanceReuse
from got_core.model.pipeline import GoTPipeline
from got_core.registry.log import register
from got_core.registry.promote import CHAMPION
from got_core.registry.tracking import connect

from .conftest import Result

Got = Callable[..., Result]
PROMPT = "a photo of a red circle"
CHAIN = "a red circle (100,100),(400,400) on grey"


def shown(path: str | Path) -> bytes:
    """The pixels of a picture's file."""
    return Image.open(path).tobytes()


def pixels(image: Image.Image) -> bytes:
    return image.tobytes()


@pytest.fixture(scope="module")
def pipeline(model: Path) -> GoTPipeline:
    return GoTPipeline.from_pretrained(model)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(seed)


def test_a_picture_is_what_the_pipeline_draws(got: Got, model: Path, pipeline: GoTPipeline) -> None:
    done = got(
        "generate", PROMPT, "--model", model, "--seed", 5, "--steps", 3, "--text-scale", 2, "-o", "a.png"
    )
    assert done.status == 0, done.err
    made = pipeline(PROMPT, generator=seeded(5), num_inference_steps=3, text_scale=2.0)
    assert shown("a.png") == pixels(made.images[0])
    assert done.out == f"a.png  {made.chains[0].to_data()}\n"
    assert got("generate", PROMPT, "--model", model, "--seed", 6, "-o", "a.png").status == 0
    assert shown("a.png") != pixels(made.images[0]), "a name that was given is replaced"


def test_guidance_may_be_left_out_of_steps_and_reused(got: Got, model: Path, pipeline: GoTPipeline) -> None:
    chosen = ("--guidance-from", 0.25, "--guidance-until", 0.75, "--guidance-every", 2)
    given = ("--model", model, "--seed", 5, "--steps", 8, *chosen)
    reuse = GuidanceReuse(interval=(0.25, 0.75), every=2)

    def drawn(**options: Any) -> Image.Image:
        return pipeline(generator=seeded(5), num_inference_steps=8, **options).images[0]

    assert got("generate", PROMPT, *given, "-o", "a.png").status == 0
    assert shown("a.png") == pixels(drawn(prompt=PROMPT, guidance_reuse=reuse))
    assert shown("a.png") != pixels(drawn(prompt=PROMPT))
    source = Image.open("a.png").convert("RGB")
    assert got("edit", "a.png", "make it blue", *given, "-o", "b.png").status == 0
    made = pixels(drawn(prompt="make it blue", image=source, guidance_reuse=reuse))
    assert shown("b.png") == made
    Path("plan.txt").write_text(CHAIN)
    assert got("draw", "plan.txt", "--prompt", PROMPT, *given, "-o", "c.png").status == 0
    (picture,) = pipeline.draw(
        parse(CHAIN), PROMPT, generator=seeded(5), num_inference_steps=8, guidance_reuse=reuse
    )
    assert shown("c.png") == pixels(picture)
    refused = got("generate", PROMPT, "--guidance-from", 0.5, "--guidance-until", 0.5)
    assert refused.status == 2 and "GuidanceReuse.interval" in refused.err


def test_a_picture_is_drawn_again_from_its_own_file(got: Got, model: Path) -> None:
    chosen = ("--seed", 5, "--steps", 3, "--text-scale", 2.5, "--guidance-every", 2)
    assert got("generate", PROMPT, "--model", model, *chosen, "-o", "a.png").status == 0
    again = got("draw", "--from", "a.png", "--model", model, "-o", "b.png", "--json")
    assert again.status == 0, again.err
    assert shown("b.png") == shown("a.png") and again.json["prompt"] == PROMPT
    assert got("edit", "a.png", "remove it", "--model", model, "--keep-outside", "-o", "c.png").status == 0
    done = got("draw", "--from", "c.png", "--image", "a.png", "--model", model)
    assert done.status == 0, done.err
    assert shown("c-again.png") == shown("c.png")
    assert got("draw", "--from", "a.png", "--seed", 6, "--model", model, "-o", "d.png").status == 0
    assert shown("d.png") != shown("a.png")
    Image.open("a.png").save("plain.png")
    for arguments, status, told in (
        (["--from", "plain.png"], 1, "plain.png cannot be drawn again: it does not say how it was drawn"),
        (["--from", "a.png"], 1, "drawn by a folder named 'pipeline'"),
        (["--from", "c.png", "--model", model], 1, "give the picture that was edited"),
        (["--from", "c.png", "--model", model, "--image", "plain.png", "--seed", "1"], 0, ""),
        (["--from", "c.png", "--model", model, "--image", "d.png"], 1, "has other pixels"),
        (["--from", "gone.png"], 2, "does not exist"),
        (["plan.json", "--from", "a.png"], 2, "give a plan's file, or --from"),
        ([], 2, "give a plan's file, or --from"),
    ):
        refused = got("draw", *arguments)
        assert refused.status == status and told in refused.err, refused.err


def test_a_picture_stays_where_its_plan_does(got: Got, model: Path) -> None:
    Path("old.txt").write_text(CHAIN, encoding="utf-8")
    Path("new.txt").write_text(CHAIN.replace("(1", "(2", 1), encoding="utf-8")
    asked = ("--prompt", PROMPT, "--model", model)
    assert got("draw", "old.txt", *asked, "-o", "old.png").status == 0
    assert got("draw", "new.txt", *asked, "-o", "anew.png").status == 0
    done = got("draw", "new.txt", *asked, "--earlier", "old.png", "-o", "kept.png")
    assert done.status == 0 and shown("kept.png") != shown("anew.png"), done.err
    again = got("draw", "--from", "kept.png", "--earlier", "old.png", "--model", model, "-o", "again.png")
    assert again.status == 0 and shown("again.png") == shown("kept.png"), again.err
    refused = got("draw", "--from", "kept.png", "--model", model)
    assert refused.status == 1 and "keeps a part of an earlier one" in refused.err


def test_names_that_nobody_gave_are_free_ones(got: Got, model: Path) -> None:
    Path("picture.png").write_bytes(b"mine")
    first = got("generate", PROMPT, "--model", model, "--json").json
    second = got("generate", PROMPT, "--model", model, "--json").json
    assert [Path(one["picture"]).name for one in (first, second)] == ["picture-2.png", "picture-3.png"]
    assert Path("picture.png").read_bytes() == b"mine"
    assert first["model"] == str(model) and first["seed"] == 0
    assert sorted(path.name for path in Path().iterdir()) == ["picture-2.png", "picture-3.png", "picture.png"]


def test_a_plan_changed_by_hand_is_drawn(got: Got, model: Path, pipeline: GoTPipeline) -> None:
    """From the document that `got plan` prints, through one changed number, to the picture."""
    document = got("plan", PROMPT, "--model", model, "--json").json
    assert document["prompt"] == PROMPT and document["image"] is None
    assert document["chain"] == pipeline.plan(PROMPT)[0].to_data()
    changed = document | {"chain": CHAIN}  # this model's own plans are noise without boxes
    Path("plan.json").write_text(json.dumps(changed))
    done = got("draw", "plan.json", "--model", model, "--seed", 2, "--json")
    assert done.json["boxes"] == [{"phrase": "a red circle", "box": [100, 100, 400, 400]}]
    moved = done.json["boxes"][0] | {"box": [500, 100, 800, 400]}
    Path("plan.json").write_text(json.dumps({**done.json, "boxes": [moved]}))
    again = got("draw", "plan.json", "--model", model, "--seed", 2, "--out", "moved.png")
    assert again.status == 0, again.err
    chain = parse("a red circle (500,100),(800,400) on grey")
    assert chain.boxes[0].box == Box(500, 100, 800, 400)
    assert shown("moved.png") == pixels(pipeline.draw(chain, PROMPT, generator=seeded(2))[0])
    assert shown("moved.png") != shown(done.json["picture"])


def test_a_chain_alone_is_drawn_from_a_file_and_from_stdin(
    got: Got, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("chain.txt").write_text(f"{CHAIN}\n")
    assert got("draw", "chain.txt", "--prompt", PROMPT, "--model", model, "-o", "file.png").status == 0
    monkeypatch.setattr("sys.stdin", io.StringIO(parse(CHAIN).to_model()))
    assert got("draw", "-", "--prompt", PROMPT, "--model", model, "-o", "stdin.png").status == 0
    assert shown("file.png") == shown("stdin.png")


def test_an_edit_keeps_what_lies_outside(got: Got, model: Path, pipeline: GoTPipeline) -> None:
    source = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8))
    source.save("scene.png")
    done = got("edit", "scene.png", "remove the red circle", "--model", model, "--keep-outside", "--json")
    assert done.status == 0, done.err
    assert Path(done.json["picture"]).name == "scene-edited.png"
    made = pipeline("remove the red circle", source, generator=seeded(0), keep_outside=True)
    assert shown(done.json["picture"]) == pixels(made.images[0])
    planned = got("plan", "remove the red circle", "--image", "scene.png", "--model", model, "--json")
    assert planned.json == {name: done.json[name] for name in planned.json}
    assert done.json["image"] == str(Path("scene.png").absolute())
    Path("plan.json").write_text(done.out)
    again = got("draw", "plan.json", "--keep-outside", "--model", model, "-o", "again.png")
    assert again.status == 0, again.err
    assert shown("again.png") == pixels(made.images[0]), "the document names the picture to edit"


def test_the_plan_is_written_beside_the_picture(got: Got, model: Path) -> None:
    for name in ("plan.json", "plan.txt"):
        assert got("generate", PROMPT, "--model", model, "-o", "a.png", "--chain-out", name).status == 0
    document = json.loads(Path("plan.json").read_text())
    assert Path("plan.txt").read_text() == document["chain"] + "\n"
    printed = got("plan", PROMPT, "--model", model)
    assert printed.out == document["chain"] + "\n"
    assert printed.err.splitlines()[0] == document["faults"][0] == "expected circle >= 1, found 0"
    drawn = got("generate", PROMPT, "--model", model)
    assert (drawn.err, len(drawn.out.splitlines())) == (printed.err, 1), "told beside the picture, too"


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["generate"], 2, "Missing argument 'PROMPT'"),
        (["generate", "x", "--steps", "0"], 2, "Invalid value for '--steps'"),
        (["generate", "x", "--seed", str(2**64)], 2, "is not between -2**63 and 2**64-1"),
        (["generate", "x", "-o", "a.jpg"], 2, "a.jpg: pictures are written as PNG"),
        (["generate", "x", "-o", "no/where.png"], 2, "there is no folder no"),
        (["generate", "x", "--chain-out", "no/where.json"], 2, "there is no folder no"),
        (["generate", "x"], 1, "there is no models:/got@champion in sqlite:///"),
        (["plan", "x", "--model", "models:/got"], 1, "write models:/got@champion or models:/got/3"),
        (["plan", "x", "--model", "nothing"], 1, "nothing is not there: name the folder"),
        (["plan", "x", "--model", "."], 1, "is no saved pipeline: it has no model_index.json"),
        (["plan", " "], 2, "the prompt is blank"),
        (["edit", "words.txt", "\udcff"], 2, "the prompt is no valid UTF-8 at character 0"),
        (["draw", "gone.json"], 1, "gone.json: No such file or directory"),
        (["draw", "words.txt"], 2, "words.txt does not say what it answers; give --prompt"),
        (["draw", "bad.txt"], 1, "bad.txt is no plan: half a box '(1,2)'"),
        (["edit", "words.txt", "x"], 1, "words.txt cannot be used: not_an_image"),
        (["edit", "gone.png", "x"], 2, "'gone.png' does not exist"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    got: Got, home: Path, arguments: list[str], status: int, told: str
) -> None:
    Path("words.txt").write_text("a circle")
    Path("bad.txt").write_text("a circle (1,2),(3")
    done = got(*arguments)
    assert (done.status, done.out) == (status, "")
    assert told in done.err and len(done.err.splitlines()) == 1
    assert not home.exists(), "asking makes nothing"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning:mlflow.*")
@pytest.mark.filterwarnings("ignore::UserWarning:pydantic.*")
def test_a_registered_model_is_named_by_alias_and_version(got: Got, home: Path, model: Path) -> None:
    uri = f"sqlite:///{home / 'mlflow' / 'mlflow.db'}"
    version = register(model, tracking_uri=uri, tags={"weights_hash": "w1"})
    connect(uri).set_registered_model_alias("got", CHAMPION, version)
    by_folder = got("generate", PROMPT, "--model", model, "-o", "folder.png")
    by_alias = got("generate", PROMPT, "-o", "alias.png", "--json")
    by_version = got("generate", PROMPT, "--model", f"models:/got/{version}", "-o", "version.png")
    assert (by_folder.status, by_alias.status, by_version.status) == (0, 0, 0), by_alias.err + by_version.err
    assert by_alias.json["model"] == "models:/got/1"
    assert len({shown(f"{name}.png") for name in ("folder", "alias", "version")}) == 1
    again = got("draw", "--from", "alias.png", "-o", "again.png", "--json")
    assert again.status == 0 and shown("again.png") == shown("alias.png"), again.err
    assert again.json["model"] == "models:/got/1", "the picture says which version drew it"
    connect(uri).set_model_version_tag("got", "1", "weights_hash", "other")
    assert "has other weights" in got("draw", "--from", "alias.png").err
    missing = got("generate", PROMPT, "--model", "models:/got/7")
    assert missing.status == 1 and "there is no models:/got/7" in missing.err
    assert mlflow.get_tracking_uri() != uri, "put back afterwards"
