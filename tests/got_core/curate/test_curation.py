from __future__ import annotations

import polars as pl
import pytest

from got_core.annotate.schemas import EDIT_CHAINS, T2I_CHAINS
from got_core.corpus.schemas import EDIT_PAIRS, RAW_IMAGES, check_schema
from got_core.curate.config import CurateConfig
from got_core.curate.manifest import build_manifest
from got_core.curate.rules import rule_counts, select_edits, select_t2i
from got_core.curate.schemas import MANIFEST, SELECTION
from got_core.curate.verdict import error_share, shard_verdict
from tests.got_core.annotate.scenes_on_hand import table

GOOD = "a cat (10,20),(300,400) on a mat"


def chains_of(*chains: str | None, **also) -> pl.DataFrame:
    rows = [
        {
            "chain_id": f"chain-{k}",
            "image_id": f"image-{k}",
            "prompt": "a photo of a cat",
            "caption": "a cat on a mat",
            "phrases": ["cat"],
            "chain": chain,
            "error": None if chain else "not_a_chain: x",
            **also,
        }
        for k, chain in enumerate(chains)
    ]
    return table(rows, T2I_CHAINS)


def raw_of(count: int, **also) -> pl.DataFrame:
    return table([{"image_id": f"image-{k}", "path": f"{k}.png", **also} for k in range(count)], RAW_IMAGES)


@pytest.mark.parametrize(
    ("chain", "rule", "detail"),
    [
        (GOOD, None, None),
        ("a cat (10,20),(300,400) on a mat (0,0),(999,999)", None, None),
        (None, "failed_annotation", "not_a_chain: x"),
        ("a cat", "no_box", "no box in the chain"),
        (
            "a cat (10,20),(300,24)",
            "box_degenerate",
            "box (10,20),(300,24): need sides of 8 or more within 0..999",
        ),
        ("a (10,20),(300,400) b (300,20),(10,400)", "box_degenerate", None),
        ("a cat (10,20),(300,1400)", "box_degenerate", None),
        ("a cat (10,20),(300," + "9" * 40 + ")", "box_degenerate", None),
        (
            " ".join(f"a ({k},{k}),({k + 90},{k + 90})" for k in range(4)),
            "too_many_boxes",
            "4 boxes, limit 3",
        ),
        (f"{GOOD} b (10,20),(300,400)", "duplicate_boxes", "box (10,20),(300,400) more than once"),
        (GOOD + " and so on" * 20, "chain_too_long", "232 characters, limit 200"),
    ],
)
def test_each_rule_rejects_what_it_names(chain: str | None, rule: str | None, detail: str | None) -> None:
    config = CurateConfig(max_boxes=3, max_chain_chars=200)
    selection = select_t2i(chains_of(GOOD, chain, GOOD), raw_of(3), config)
    check_schema(selection, SELECTION, "selection")
    assert selection["accepted"].to_list() == [True, rule is None, True]
    assert selection["rule"][1] == rule
    if detail:
        assert selection["detail"][1] == detail
    assert (selection["detail"][1] is None) == (rule is None)
    assert selection["item_id"].to_list() == ["image-0", "image-1", "image-2"]


def test_phrases_must_be_in_the_caption() -> None:
    chains = pl.concat(
        [
            chains_of(GOOD, phrases=["cat", "a mat"]),
            chains_of(GOOD, phrases=["cat", "big dog", "a wolf"]),
            chains_of(GOOD, phrases=[]),
            chains_of(GOOD, phrases=["c.t"]),
        ]
    )
    selection = select_t2i(chains, raw_of(1), CurateConfig())
    assert selection["rule"].to_list() == [None, "phrase_not_in_caption", None, "phrase_not_in_caption"]
    assert selection["detail"][1] == "big dog is not in the caption"


def edits_of(*chains: str | None) -> tuple[pl.DataFrame, pl.DataFrame]:
    rows = [
        {
            "chain_id": f"edit-{k}",
            "pair_id": f"pair-{k}",
            "instruction": "remove it",
            "instructions": ["remove it", "delete it"],
            "chain": chain,
            "error": None if chain else "not_a_chain: x",
        }
        for k, chain in enumerate(chains)
    ]
    pairs = [
        {
            "pair_id": f"pair-{k}",
            "source_path": f"{k}a",
            "target_path": f"{k}b",
            "target_id": f"t{k}",
            "width": 640,
            "height": 480,
            "target_width": 320,
            "target_height": 241,
            "licence": "MIT",
        }
        for k in range(len(chains))
    ]
    return table(rows, EDIT_CHAINS), table(pairs, EDIT_PAIRS)


def test_edits_are_selected_and_rules_counted() -> None:
    chains, pairs = edits_of("1. a 2. b (1,2),(300,400) 3. c (1,2),(300,400) 4. d", None, "1. a", None)
    selection = select_edits(chains, pairs, CurateConfig())
    check_schema(selection, SELECTION, "selection")
    assert selection["rule"].to_list() == [None, "failed_annotation", "no_box", "failed_annotation"]
    assert rule_counts(selection) == {"failed_annotation": 2, "no_box": 1}
    with pytest.raises(ValueError, match="4 edit chains have no edit pair, the first is 'pair-0'"):
        select_edits(chains, pairs.clear(), CurateConfig())


def test_empty_shards_give_empty_selections() -> None:
    assert select_t2i(chains_of(), raw_of(0), CurateConfig()).height == 0
    assert rule_counts(select_edits(*edits_of(), CurateConfig())) == {}


def shards() -> tuple[dict, dict]:
    raw = raw_of(3, source="web", licence="CC0", width=96, height=64)
    chains = chains_of(GOOD, "a cat", GOOD)
    selection = select_t2i(chains, raw, CurateConfig())
    again = chains.with_columns(chain_id=pl.lit("0") + pl.col("chain_id")).head(1)
    second = select_t2i(again, raw, CurateConfig())
    edit_chains, pairs = edits_of("1. a 2. b 3. (1,2),(300,400) 4. c 5. d", None)
    edits = (select_edits(edit_chains, pairs, CurateConfig()), edit_chains, pairs)
    return {"images-1": (second, again, raw), "images-0": (selection, chains, raw)}, {"edits-0": edits}


def test_the_manifest_lists_accepted_samples_once_sorted_by_id() -> None:
    manifest = build_manifest(*shards())
    check_schema(manifest, MANIFEST, "manifest")
    assert manifest["sample_id"].to_list() == ["chain-0", "chain-2", "edit-0"]
    first, _, edit = manifest.rows(named=True)
    assert (first["shard"], first["target_path"], first["source_path"]) == ("images-0", "0.png", None)
    assert (first["prompt"], first["instructions"]) == ("a photo of a cat", ["a photo of a cat"])
    assert (first["chain"], first["licence"], first["source"]) == (GOOD, "CC0", "web")
    assert (edit["kind"], edit["target_path"], edit["source_path"]) == ("edit", "0b", "0a")
    assert (edit["image_id"], edit["pair_id"], edit["licence"]) == ("t0", "pair-0", "MIT")
    assert edit["instructions"] == ["remove it", "delete it"]
    assert (first["width"], first["height"]) == (96, 64)
    assert (edit["width"], edit["height"]) == (320, 241), "those of the picture that is drawn"


def test_pair_tables_without_sizes_of_targets_leave_the_manifest_without_them() -> None:
    images, edits = shards()
    selection, chains, pairs = edits["edits-0"]
    older = {"edits-0": (selection, chains, pairs.drop("target_width", "target_height"))}
    manifest = build_manifest(images, older)
    check_schema(manifest, MANIFEST, "manifest")
    assert manifest.select("kind", "width", "height").rows()[1:] == [("t2i", 96, 64), ("edit", None, None)]


def test_the_manifest_does_not_depend_on_the_order_of_shards() -> None:
    images, edits = shards()
    assert build_manifest(dict(sorted(images.items())), edits).equals(build_manifest(images, edits))
    assert build_manifest({}, {}).height == 0


def test_tables_that_do_not_fit_together_are_refused_by_name() -> None:
    images, _ = shards()
    selection, chains, raw = images["images-0"]
    with pytest.raises(ValueError, match="shard images-0: 2 accepted rows have no chain_id"):
        build_manifest({"images-0": (selection, chains.clear(), raw)}, {})
    with pytest.raises(ValueError, match="shard images-0: 1 accepted rows have no image_id"):
        build_manifest({"images-0": (selection, chains, raw.head(2))}, {})


def test_the_verdict_on_a_shard() -> None:
    bad = pl.DataFrame({"error": ["corrupt: x", None, None, None], "reason": ["corrupt", None, None, None]})
    good = pl.DataFrame(
        {"error": [None, None], "reason": [None, None]}, schema={"error": pl.String, "reason": pl.String}
    )
    assert (error_share(bad), error_share(good), error_share(good.clear())) == (0.25, 0, 0)
    passed = shard_verdict({"captions": bad, "boxes": good}, 0.25)
    assert passed.ok
    assert passed.figures["captions_error_share"] == 0.25
    assert passed.figures["boxes_rows"] == 2
    failed = shard_verdict({"captions": bad, "boxes": good}, 0.2)
    assert not failed.ok
    assert (
        failed.text == "captions: 25.0% of 4 rows are quarantined (mostly corrupt); at most 20% are allowed"
    )
    assert shard_verdict({"captions": good.clear()}, 0.0).ok


def test_the_configuration_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="max_error_share"):
        CurateConfig(max_error_share=20)
