"""GenEval planned and drawn apart: plans judged without a picture, pictures against their plans."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest
from PIL import Image, PngImagePlugin

from got_core.evaluate.apart.followed import followed_figures, overlaps
from got_core.evaluate.apart.geneval import pictures_and_plans, plans_of_geneval
from got_core.evaluate.apart.geneval_plans import judge_plans, plan_protocol, plan_scores
from got_core.evaluate.apart.writing import KeptPlans, PlanRequest, read_plan, write_plans
from got_core.evaluate.geneval.benchmark import GenEval
from got_core.evaluate.geneval.config import GenEvalConfig
from got_core.evaluate.geneval.prompts import Samples
from got_core.evaluate.geneval.saved import SavedDetections
from got_core.evaluate.scores import IncompleteRunError
from got_core.model.config import ModelConfig
from got_core.planning.geneval import Detection
from got_core.storage import Storage
from tests.got_core.evaluate.geneval.lists import ROWS, write_folder, write_list
from tests.got_core.tiny_pipeline import TINY, tiny_pipeline

BENCHMARK = GenEval(config=GenEvalConfig(images_per_prompt=1, bootstrap=100))

RIGHT = [
    "A photo of a dog (100,100),(500,500).",
    "A mug (100,100),(300,300) beside a small dog (500,100),(900,500).",
    "One bench (0,0),(300,300) and another bench (500,500),(900,900).",
    "A red clock (200,200),(600,600) on a wall.",
    "A dog (600,200),(900,600) and a cup (100,200),(300,600).",
    "A blue cup (100,100),(300,300), a white remote control (500,100),(800,200).",
]
WRONG = [
    "A cat (100,100),(500,500).",
    "A cup (100,100),(300,300).",
    "Benches (0,0),(300,300), a bench (1,1),(300,300), a bench (500,500),(900,900).",
    "A clock (200,200),(600,600) that is red.",
    "A dog (100,200),(300,600) and a cup (600,200),(900,600).",
    "A white cup (100,100),(300,300), a blue tv remote (500,100),(800,200).",
]


@pytest.fixture
def samples(tmp_path: Path) -> Samples:
    return BENCHMARK.read(write_list(tmp_path / "list.jsonl"))


def judged(samples: Samples, texts: Sequence[str]) -> pl.DataFrame:
    return judge_plans(samples, dict(enumerate(map(read_plan, texts))), BENCHMARK.rules)


def test_right_plans_are_right_and_wrong_ones_fail_by_the_check_they_miss(samples: Samples) -> None:
    right = judged(samples, RIGHT)
    assert right["correct"].to_list() == [True] * 6, right["reason"].to_list()
    wrong = judged(samples, WRONG)
    assert wrong["correct"].to_list() == [False] * 6
    checks = [["count"], ["count"], ["count"], ["color"], ["position"], ["color"] * 2]
    assert wrong["failed"].to_list() == checks
    assert wrong["reason"][0] == "expected dog >= 1, found 0"
    assert json.loads(right["objects"][5])[1] == ["tv remote", "white", [500, 100, 800, 200]]


def test_scores_of_plans(samples: Samples) -> None:
    protocol = plan_protocol(BENCHMARK, samples)
    scores = plan_scores(BENCHMARK, judged(samples, RIGHT[:3] + WRONG[3:]), protocol=protocol)
    assert scores["overall"] == 0.5 and scores["of"] == "6 / 6" and not scores["partial"]
    assert scores["tasks"]["colors"]["failed"] == {"color": 1}
    assert scores["protocol"] == f"geneval/plans/prompts-{samples.sha256[:12]}"
    shorter = plan_protocol(BENCHMARK, samples, sampler={"max_new_tokens": 9})
    assert scores["protocol_digest"] != shorter.digest()
    assert scores["plans"]["without_boxes"]["mean"] == 0
    assert scores["plans"]["boxes"]["mean"] == pytest.approx(10 / 6)


def test_what_cannot_be_read_is_counted_and_a_missing_plan_refused(samples: Samples) -> None:
    texts = ["a gryphon (1,1),(9,9) and a dog (1,1),(99,99) (1200,3),(4,5)", *RIGHT[1:5]]
    frame = judged(samples, texts)
    assert frame["unread"][0].to_list() == ["a gryphon"] and frame["malformed"][0] == 1
    with pytest.raises(IncompleteRunError, match=r"5 / 6 prompts have a plan; not judged: 00005 \(there"):
        plan_scores(BENCHMARK, frame)
    scores = plan_scores(BENCHMARK, frame, partial=True)
    assert scores["of"] == "5 / 6" and scores["partial"] and scores["overall"] is None
    assert scores["plans"]["unread"]["mean"] == pytest.approx(0.2)


def test_a_box_without_area_plans_nothing_and_the_first_written_objects_count(samples: Samples) -> None:
    two_clocks = "a red clock (1,1),(9,9), a blue clock (1,1),(9,9)"
    texts = ["a dog (1,1),(1,9)", *RIGHT[1:3], two_clocks, *RIGHT[4:]]
    assert judged(samples, texts)["correct"].to_list() == [False, True, True, True, True, True]


class Counting:
    """A pipeline that counts the prompts that it plans, and stops in the middle once."""

    def __init__(self, most: int = 1000) -> None:
        self.pipeline, self.planned, self.most = tiny_pipeline(), [], most
        self.config = self.pipeline.config

    def write_chains(self, prompts, sources, **options) -> list[str]:
        if len(self.planned) >= self.most:
            raise KeyboardInterrupt
        self.planned += prompts
        return self.pipeline.write_chains(prompts, sources, **options)


def test_plans_are_written_once_and_go_on_after_an_interruption(samples: Samples, tmp_path: Path) -> None:
    store, options = Storage(f"file://{tmp_path / 'store'}"), {"max_new_tokens": 6}
    benchmark = GenEval(config=GenEvalConfig(batch_size=2))
    first, reports = Counting(most=4), []
    with pytest.raises(KeyboardInterrupt):
        plans_of_geneval(benchmark, samples, first, store, weights_hash="a", sampler=options)
    again = Counting()
    result = plans_of_geneval(
        benchmark, samples, again, store, weights_hash="a", sampler={**options, "num_inference_steps": 3},
        progress=lambda *done: reports.append(done),
    )  # fmt: skip
    assert first.planned + again.planned == [row["prompt"] for row in ROWS]
    assert reports == [(2, 6), (4, 6), (6, 6)] and result.frame.height == 6
    empty = Storage(f"file://{tmp_path / 'b'}")
    whole = plans_of_geneval(benchmark, samples, Counting(), empty, weights_hash="a", sampler=options)
    assert whole.frame.equals(result.frame) and whole.scores == result.scores
    other = Counting()
    plans_of_geneval(benchmark, samples, other, store, weights_hash="b", sampler=options)
    assert len(other.planned) == 6
    damaged = store.list("plans/")
    store.write_bytes(damaged[0], b'{"half')
    mended = [Counting(), Counting()]
    for one, weights in zip(mended, ("a", "b"), strict=True):
        plans_of_geneval(benchmark, samples, one, store, weights_hash=weights, sampler=options)
    assert sorted(len(one.planned) for one in mended) == [0, 2]


def test_a_model_without_plans_is_refused(storage: Storage) -> None:
    from dataclasses import replace

    config: ModelConfig = replace(TINY, reasoning=False, spatial_guidance=False)
    with pytest.raises(ValueError, match="this model writes no plans"):
        kept = KeptPlans(storage, "plans")
        write_plans(tiny_pipeline(config=config), [[PlanRequest(id="0", prompt="a")]], kept, total=1)


# -- pictures against plans --------------------------------------------------------------------------


def picture(chain: str | None, size: tuple[int, int] = (200, 200)) -> bytes:
    """A picture that says which chain it was drawn from; None: another program's."""
    info = PngImagePlugin.PngInfo()
    if chain is not None:
        record = {"key": "k", "chain": read_plan(chain).chain.to_model(), "dropped": []}
        info.add_itxt("got", json.dumps(record))
    buffer = io.BytesIO()
    Image.new("RGB", size).save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()


FOUND = [
    [("dog", (20, 20, 100, 100), None)],  # as planned
    [("cup", (0, 0, 20, 20), None), ("dog", (100, 20, 180, 100), None)],  # the cup elsewhere, right anyway
    [("bench", (0, 0, 60, 60), None)],  # the second bench was planned, and not drawn
    [("clock", (40, 40, 120, 120), "blue")],  # planned red, drawn blue
    [("dog", (120, 40, 180, 120), None), ("cup", (20, 40, 60, 120), None)],  # planned wrong, drawn right
    [("cup", (20, 20, 60, 60), "white")],  # planned wrong, drawn wrong
]
"""At 200 px, by prompt: (class, box, colour)."""

PLANS = [*RIGHT[:4], *WRONG[4:]]


@pytest.fixture
def followed(samples: Samples, tmp_path: Path):
    detections = [
        {"prompt_index": number, "image_index": 0, "detections": [
            {"class": cls, "score": 0.95, "box": list(box), "color": color} for cls, box, color in found]}
        for number, found in enumerate(FOUND)
    ]  # fmt: skip
    path = tmp_path / "found.jsonl"
    path.write_text("".join(f"{json.dumps(one)}\n" for one in detections))

    def run(plans: Sequence[str | None]):
        folder = Storage(f"file://{tmp_path / 'pictures'}")
        files = {f"{number:05d}-00000": picture(plan) for number, plan in enumerate(plans)}
        write_folder(folder, samples, files)
        pictures = BENCHMARK.read_layout(samples, folder)
        frame = BENCHMARK.judge(samples, pictures, SavedDetections(path, by="by hand"))
        return pictures_and_plans(BENCHMARK, samples, folder, frame)

    return run


def test_wrong_pictures_by_cause_and_objects_in_their_place(followed) -> None:
    rows, figures = followed(PLANS)
    assert rows["correct"].to_list() == [True, True, False, False, True, False]
    assert rows["plan_correct"].to_list() == [True, True, True, True, False, False]
    assert rows["failure"].to_list() == [None, None, "drawn_wrong", "drawn_wrong", None, "planned_wrong"]
    assert rows["planned"].to_list() == [1, 2, 2, 1, 2, 2]
    assert rows["in_place"].to_list() == [1, 1, 1, 1, 0, 1]
    assert rows["iou"].to_list() == pytest.approx([1, 1, 1, 1, 0, 1])
    assert (figures["planned_wrong"], figures["drawn_wrong"]) == (1, 2)
    assert figures["pictures"] == "6 / 6" and figures["plan_right"]["mean"] == pytest.approx(4 / 6)
    assert figures["right_of_right_plans"]["mean"] == 0.5 and figures["right_of_right_plans"]["n"] == 4
    assert figures["right_of_wrong_plans"]["mean"] == 0.5
    assert figures["in_place"]["mean"] == pytest.approx(5 / 10) and figures["in_place"]["n"] == 10
    assert figures["colors_agree"]["mean"] == 0.5 and figures["colors_agree"]["n"] == 2
    assert figures["tasks"]["colors"]["drawn_wrong"] == 1
    low, high = (figures["in_place"][name] for name in ("low", "high"))
    assert 0 < low < 0.5 < high <= 1
    json.dumps(figures)


def test_other_programs_pictures_are_left_out_and_counted(followed) -> None:
    rows, figures = followed([*PLANS[:5], None])
    assert figures["pictures"] == "5 / 6" and figures["partial"]
    assert figures["left_out"] == {"its file says of no plan: another program drew it": 1}
    assert rows["failure"][5] is None
    _, nothing = followed([None] * 6)
    assert nothing["pictures"] == "0 / 6" and nothing["in_place"]["mean"] is None


def test_a_picture_of_an_empty_plan_was_planned_wrong(followed) -> None:
    rows, figures = followed([*PLANS[:2], "", *PLANS[3:]])
    assert rows["failure"][2] == "planned_wrong" and rows["planned"][2] == 0
    assert figures["planned_wrong"] == 2


def test_each_found_object_answers_for_one_planned_object_of_its_class() -> None:
    box = (0.0, 0.0, 10.0, 10.0)
    two, one = [Detection("cup", 1, box, "red")] * 2, [Detection("cup", 0.9, box, "red")]
    assert overlaps(two, one) == {"in_place": 1, "iou": 1.0, "colored": 1, "colors_agree": 1}
    assert overlaps(one, [Detection("dog", 1, box)])["iou"] == 0
    half = [Detection("cup", 1, (0, 0, 10, 5), "blue")]
    assert overlaps(one, half) == {"in_place": 1, "iou": 0.5, "colored": 1, "colors_agree": 0}
    assert overlaps(one, [])["in_place"] == 0
    elsewhere = [Detection("cup", 1, (20, 20, 30, 30), "blue")]
    assert overlaps(one, elsewhere) == {"in_place": 0, "iou": 0.0, "colored": 0, "colors_agree": 0}


def test_no_rows_give_no_figures() -> None:
    from got_core.evaluate.apart.followed import ROWS as COLUMNS

    assert followed_figures(pl.DataFrame(schema=COLUMNS))["iou"]["mean"] is None
