"""`edits/scenes` and `grounding/scenes`: cases and runs."""

from __future__ import annotations

import pytest
from PIL import Image

from got_core.chain.boxes import Box
from got_core.chain.edits import move_box
from got_core.chain.grammar import parse
from got_core.evaluate import edits
from got_core.evaluate.config import EvaluateConfig
from got_core.evaluate.detector import DetectorError
from got_core.evaluate.edit_cases import edit_cases
from got_core.evaluate.edits import EditScenes, edit_ceilings, run_grounding_scenes
from got_core.evaluate.runner import run_benchmark, score_stored
from got_core.evaluate.samples import _encode
from got_core.evaluate.scores import FAILURES
from got_core.scenes.config import KINDS
from got_core.scenes.corpus import MULTI_TURN
from got_core.scenes.edits import parse_instruction
from got_core.scenes.render import render
from got_core.scenes.world import NARROW
from got_core.storage import Storage
from tests.got_core.evaluate.annotated import annotated_chains
from tests.got_core.tiny_pipeline import tiny_pipeline

SMALL = EvaluateConfig(edit_images=6, batch_size=3, bootstrap=50, num_inference_steps=1, max_new_tokens=8)


class TestRun:
    @pytest.fixture(scope="class")
    def pipeline(self):
        return tiny_pipeline()

    @pytest.fixture
    def storage(self, tmp_path) -> Storage:
        return Storage(f"file://{tmp_path}")

    def test_cases_are_even_and_the_same_every_time(self) -> None:
        cases = edit_cases(NARROW, EvaluateConfig(edit_images=12))
        assert [case.kind for case in cases] == [*KINDS, MULTI_TURN] * 2
        assert cases == edit_cases(NARROW, EvaluateConfig(edit_images=12))
        assert cases != edit_cases(NARROW, EvaluateConfig(edit_images=12, seed=1))
        assert all(parse_instruction(case.instruction).steps == case.ops for case in cases)
        assert all((case.kind == MULTI_TURN) == (len(case.ops) > 1) for case in cases)
        single = edit_cases(NARROW, EvaluateConfig(edit_images=6, edit_steps=1))
        assert [case.kind for case in single] == [*KINDS, "add"]

    def test_run_resumes_and_is_complete(self, pipeline, storage) -> None:
        steps: list[tuple[int, int]] = []
        first = run_benchmark(
            EditScenes(NARROW, SMALL), pipeline, storage, "e", lambda *at: steps.append(at), weights_hash="w"
        )
        assert steps == [(0, 6), (3, 6), (6, 6)]
        assert first.samples["task"].to_list() == [*KINDS, MULTI_TURN]
        assert first.scores == storage.read_json("e/scores.json")
        assert first.scores["unchanged"] == 0 and first.scores["detector_ceiling"] == 1
        assert first.scores["grounding"]["n"] == 5
        ceilings = first.scores["trace_ceilings"]
        assert ceilings["unchanged"]["trace"]["median"] > 10, "copies are far from true pictures"
        assert first.scores["traces"]["kinds"]["add"]["trace"] is None
        assert Image.open(storage.url_of("e/traces.png").removeprefix("file://")).height > 100
        assert Image.open(storage.url_of("e/grid.png").removeprefix("file://")).width > 100
        steps.clear()
        storage.delete("e/00002.png")
        again = run_benchmark(
            EditScenes(NARROW, SMALL), pipeline, storage, "e", lambda *at: steps.append(at), weights_hash="w"
        )
        assert steps == [(5, 6), (6, 6)]
        assert again.scores["grounding"] == first.scores["grounding"]
        alone = run_grounding_scenes(pipeline, NARROW, SMALL)
        assert alone["protocol"] == "grounding/scenes"
        assert alone["mean"] == pytest.approx(first.scores["grounding"]["mean"])

    def test_edits_that_keep_the_source_stand_beside(self, pipeline, storage) -> None:
        """Known pictures with the corpus's chains are there already: only the second drawing is left."""
        config = EvaluateConfig(edit_images=5, edit_steps=1, bootstrap=50, keep_outside="both")
        cases = edit_cases(NARROW, config)
        requests, chains = EditScenes(NARROW, config).requests("e"), annotated_chains(cases)
        for request, case, chain in zip(requests.values(), cases, chains, strict=True):
            record = {"key": request.key({}, "w"), "chain": chain.to_model(), "dropped": []}
            storage.write_bytes(request.name, _encode(render(case.target), record))
        steps: list[tuple[int, int]] = []
        result = run_benchmark(
            EditScenes(NARROW, config), pipeline, storage, "e", lambda *at: steps.append(at), weights_hash="w"
        )
        assert steps == [(5, 5), (0, 5), (5, 5)], "a plan is not written twice"
        kept, drawn = result.scores["kept_outside"], storage.read_table("e/samples_kept")
        assert result.scores["overall"] == 1 and kept["overall"] < 1, "the untrained model draws nothing"
        assert kept["complete"] and kept["plan_overall"] == 1
        assert kept["protocol_record"]["sampler"] == {"keep_outside": True}
        assert kept["protocol_digest"] != result.scores["protocol_digest"]
        assert drawn["image"].to_list() == [f"e/kept/{k:05d}.png" for k in range(5)]
        assert drawn["chain"].to_list() == result.samples["chain"].to_list()

    def test_repaired_plans_are_drawn_beside(self, pipeline, storage) -> None:
        """One plan puts the new object somewhere else, one was not written whole; the others are right."""
        config = EvaluateConfig(edit_images=5, edit_steps=1, bootstrap=50, repair="both", keep_outside="both")
        cases = edit_cases(NARROW, config)
        assert cases[0].kind == "add" and cases[0].ops[0].place
        requests, chains = EditScenes(NARROW, config).requests("e"), annotated_chains(cases)
        box = chains[0].boxes[0].box
        away = Box(0, 0, box.width, box.height) if box.y1 > 400 else Box(700, 700, 900, 900)
        chains[0] = move_box(chains[0], 0, away)
        for index, (case, chain) in enumerate(zip(cases, chains, strict=True)):
            request, dropped = requests[index], [(3, "<|box_start|>", "cut off")] if index == 1 else []
            record = {"key": request.key({}, "w"), "chain": chain.to_model(), "dropped": dropped}
            storage.write_bytes(request.name, _encode(render(case.target), record))
        result = run_benchmark(EditScenes(NARROW, config), pipeline, storage, "e", weights_hash="w")
        assert result.scores["plan_overall"] == pytest.approx(0.6)
        changed = {"repaired": 1, "kept_outside": 5, "repaired_kept_outside": 1}
        for key, plans in (("repaired", 0.8), ("kept_outside", 0.6), ("repaired_kept_outside", 0.8)):
            scores = result.scores[key]
            assert scores["plan_overall"] == pytest.approx(plans) and scores["complete"]
            assert scores["changed"] == changed[key]
        digests = {result.scores[key]["protocol_digest"] for key in changed}
        assert len(digests | {result.scores["protocol_digest"]}) == 4
        pictures = {
            name: storage.read_table(f"e/samples_{name}")["image"].to_list()
            for name in ("repaired", "kept", "repaired_kept")
        }
        assert pictures["repaired"] == ["e/repaired/00000.png", *(f"e/{k:05d}.png" for k in range(1, 5))]
        assert pictures["kept"] == [f"e/kept/{k:05d}.png" for k in range(5)]
        assert pictures["repaired_kept"] == ["e/repaired_kept/00000.png", *pictures["kept"][1:]]

    def test_scores_of_known_pictures(self, storage) -> None:
        """True results and chains, but for two unchanged pictures, one planned wrong, and one not drawn."""
        config = EvaluateConfig(edit_images=5, edit_steps=1, bootstrap=50, sampling_seeds=(0, 3))
        cases = edit_cases(NARROW, config)
        requests, chains = EditScenes(NARROW, config).requests("e"), annotated_chains(cases)
        assert len({request.seed for request in requests.values()}) == 10
        for index, request in requests.items():
            case = cases[index % 5]
            picture, chain = render(case.target), chains[index % 5]
            if index in (0, 1):
                picture = render(case.source)
            if index == 1:
                chain = parse("no plan at all")
            record = {"key": request.key({}, None), "chain": chain.to_model(), "dropped": []}
            if index == 2:
                record["fault"] = "its latents hold NaN"
            storage.write_bytes(request.name, _encode(picture, record))
        result = score_stored(EditScenes(NARROW, config), storage, "e")
        assert result.scores["overall"] == pytest.approx(0.7)
        assert result.scores["tasks"]["add"] == result.scores["tasks"]["add"] | {
            "mean": 0.5,
            "drawn_wrong": 1,
        }
        assert [result.scores[failure] for failure in FAILURES] == [1, 1, 0, 1]
        assert result.samples["failure"].to_list()[:4] == ["drawn_wrong", "planned_wrong", "not_drawn", None]
        assert result.samples["change_outside"].is_null().to_list() == [k == 2 for k in range(10)]
        assert result.samples["plan_faults"].to_list()[1] == ["chain"]
        assert {k: v["overall"] for k, v in result.scores["seeds"]["by_seed"].items()} == {"0": 0.4, "3": 1.0}
        assert result.scores["change_found"] == pytest.approx(0.7)
        # One case of four cannot be grounded; chains are the same for both seeds and count once.
        assert result.scores["grounding"]["n"] == 4
        assert result.scores["grounding"]["kinds"]["remove"]["mean"] == 0
        assert result.scores["grounding"]["mean"] == pytest.approx(0.75, abs=0.02)

    def test_rules_that_see_nothing_are_refused(self, monkeypatch) -> None:
        monkeypatch.setattr(edits, "detect", lambda image: [])
        with pytest.raises(DetectorError, match="nothing was scored"):
            edit_ceilings(EditScenes(NARROW, SMALL), lambda pictures: pictures)
