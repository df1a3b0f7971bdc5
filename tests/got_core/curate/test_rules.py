"""The rules beyond the default set, near duplicates and contamination, and selection from file to file."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from got_core.annotate.schemas import EDIT_CHAINS, T2I_CHAINS
from got_core.corpus.schemas import EDIT_PAIRS, RAW_IMAGES, check_schema, polars_schema
from got_core.curate.benchmarks import read_benchmark
from got_core.curate.config import MANIFEST_RULES, ROW_RULES, STRICT_RULES, CurateConfig
from got_core.curate.manifest import assemble
from got_core.curate.row_rules import RULES
from got_core.curate.rules import all_hits, rule_examples, select_edits, select_t2i
from got_core.curate.schemas import EXAMPLES, HITS, LEFT_OUT, SELECTION
from got_core.curate.select_file import select_file
from tests.got_core.annotate.scenes_on_hand import table

GOOD = {
    "prompt": "a photo of two cats",
    "caption": "A black cat sits on a mat beside the white cat.",
    "chain": "A black cat (10,20),(300,400) sits on a mat beside the white cat (500,20),(900,400).",
    "phrases": ["black cat", "white cat"],
}


def chains_of(*rows: dict) -> pl.DataFrame:
    ids = ({"chain_id": f"chain-{k}", "image_id": f"image-{k}"} for k in range(len(rows)))
    return table([one | GOOD | row for one, row in zip(ids, rows, strict=True)], T2I_CHAINS)


def raw_of(*rows: dict) -> pl.DataFrame:
    return table(
        [{"image_id": f"image-{k}", "path": f"{k}.png"} | row for k, row in enumerate(rows)], RAW_IMAGES
    )


def test_every_name_of_a_rule_is_a_rule() -> None:
    assert tuple(RULES) == ROW_RULES
    with pytest.raises(ValueError, match="unknown rule 'blurred'; there are failed_annotation, "):
        CurateConfig(rules=("blurred",))
    with pytest.raises(ValueError, match="contaminated needs benchmark_hashes"):
        CurateConfig(rules=("contaminated",))
    assert set(STRICT_RULES) | {"text_in_image", "unsafe_content", "contaminated"} == {
        *ROW_RULES,
        *MANIFEST_RULES,
    }


@pytest.mark.parametrize(
    ("row", "raw", "rule", "detail"),
    [
        ({}, {}, None, None),
        ({"chain": "cats (10,20),(300,400)"}, {}, "too_few_boxes", "1 boxes, at least 2"),
        (
            {"chain": "cats (10,20),(30,40) and (100,20),(300,400)"},
            {},
            "box_area",
            "box (10,20),(30,40) covers 0.04 % of the image, limits 0.1 % to 90 %",
        ),
        ({"chain": "cats (0,0),(999,999) and (100,20),(300,400)"}, {}, "box_area", None),
        # 20 to 1 in thousandths, but square in a picture twenty times as high as wide.
        ({"chain": "cats (0,0),(800,40) and (100,50),(900,90)"}, {"width": 100, "height": 2000}, None, None),
        (
            {"chain": "cats (0,0),(800,40) and (100,20),(300,400)"},
            {"width": 640, "height": 640},
            "box_aspect",
            "box (0,0),(800,40) is 1 to 20.0",
        ),
        ({"phrases": ["black cat", "at"]}, {}, "phrase_not_in_caption", "at is not in the caption"),
        ({"phrases": ["cat", "white cat"]}, {}, None, None),
        ({"chain": "cat (1,2),(99,99)(3,2),(99,99)"}, {}, "chain_too_short", "30 characters, at least 40"),
        (
            {
                "prompt": "deux chats noirs sur un tapis",
                "caption": "Un chat noir est assis sur le tapis.",
                "phrases": [],
            },
            {},
            "language",
            "reads like fr (probability 1.00; en: 0.0002)",
        ),
        ({"caption": "一只黑猫坐在垫子上", "phrases": []}, {}, "language", None),
        (
            {"prompt": "a red bicycle leaning on a wall"},
            {},
            "prompt_disagrees",
            "0 of the prompt's 4 words are in the chain, not red",
        ),
    ],
)  # fmt: skip
def test_each_rule_rejects_what_it_names(row: dict, raw: dict, rule: str | None, detail: str | None) -> None:
    config = CurateConfig(
        rules=STRICT_RULES,
        min_boxes=2,
        min_box_area=0.001,
        max_box_area=0.9,
        max_box_aspect=10,
        min_chain_chars=40,
    )
    selection = select_t2i(chains_of({}, row, {}), raw_of({}, raw, {}), config)
    check_schema(selection, SELECTION, "selection")
    assert selection["rule"].to_list() == [None, rule, None]
    if detail:
        assert selection["detail"][1] == detail


def test_a_row_keeps_all_hits_beside_the_first_and_rules_show_examples() -> None:
    chains = chains_of({}, {"chain": "x (1,2),(3,4)", "phrases": ["dog"]})
    config = CurateConfig(rules=STRICT_RULES)
    hits = all_hits(chains, raw_of({}, {}), config)
    check_schema(hits, HITS, "hits")
    expected = ["box_degenerate", "box_area", "phrase_not_in_caption", "chain_too_short", "prompt_disagrees"]
    assert hits["rule"].to_list() == expected
    selection = select_t2i(chains, raw_of({}, {}), config)
    assert selection["rule"].to_list() == [None, "box_degenerate"]
    examples = rule_examples(selection, chains)
    check_schema(examples, EXAMPLES, "examples")
    assert examples.select("rule", "item_id", "text").rows() == [
        ("box_degenerate", "image-1", "x (1,2),(3,4)")
    ]


def test_edits_are_not_asked_what_they_cannot_answer() -> None:
    chain = "1. Find the cat (10,20),(300,400). 2. Remove it (10,20),(300,400)."
    chains = table(
        [{"chain_id": "c", "pair_id": "p", "instruction": "remove the cat", "chain": chain}], EDIT_CHAINS
    )
    pairs = table([{"pair_id": "p", "width": 64, "height": 64}], EDIT_PAIRS)
    assert select_edits(chains, pairs, CurateConfig(rules=STRICT_RULES))["rule"].to_list() == [None]


def test_measured_pictures_and_benchmarks(tmp_path: Path) -> None:
    (tmp_path / "bench.csv").write_text("name,phash\nval-7,00000000000000ff\n")
    url = str(tmp_path / "bench.csv")
    config = CurateConfig(
        rules=("text_in_image", "unsafe_content", "contaminated"),
        benchmark_hashes=url,
        contamination_distance=4,
    )
    chains = chains_of({}, {}, {}, {})
    raw = raw_of(*({"phash": f"{bits:016x}"} for bits in (0, 0b11111111, 0b111111110000, 0)))
    signals = pl.DataFrame(
        {
            "image_id": ["image-0", "image-1", "image-2"],
            "text_share": [0.5, 0.1, 0.1],
            "unsafe": [0.0, 0.0, 0.0],
        }
    )
    selection = select_t2i(chains, raw, config, signals=signals, benchmark=read_benchmark(url))
    assert selection["rule"].to_list() == ["text_in_image", "contaminated", None, "text_in_image"]
    assert selection["detail"].to_list()[:2] == [
        "text covers 50.0 % of the image, limit 15 %",
        "nearly equals val-7",
    ]
    assert selection["detail"][3] == "the picture could not be measured"
    with pytest.raises(ValueError, match="text_in_image needs the column text_share"):
        select_t2i(chains, raw, config)
    (tmp_path / "bench.csv").write_text("phash\n0x00\n")
    with pytest.raises(ValueError, match=r"bench.csv, row 1: '0x00' is no hash of 16 hex digits"):
        read_benchmark(url)
    with pytest.raises(FileNotFoundError, match=r"none\.csv does not exist"):
        read_benchmark(str(tmp_path / "none.csv"))


def test_both_pictures_of_an_edit_are_measured_and_compared_with_benchmarks(tmp_path: Path) -> None:
    (tmp_path / "bench.csv").write_text("name,phash\nemu-3,00000000000000ff\n")
    url = str(tmp_path / "bench.csv")
    rules = ("unsafe_content", "contaminated")
    config = CurateConfig(rules=rules, benchmark_hashes=url, contamination_distance=4)
    chain = "1. Find the cat (10,20),(300,400). 2. Remove it (10,20),(300,400)."
    names = ("clean", "unsafe", "unmeasured", "from", "to")
    chains = table([{"chain_id": one, "pair_id": one, "chain": chain} for one in names], EDIT_CHAINS)
    hashes = {"from": ("fe", "0"), "to": ("0", "f7")}
    rows = [
        {"pair_id": one, "source_id": f"{one}-a", "target_id": f"{one}-b", "licence": "CC0"}
        | {
            f"{side}_phash": hashes.get(one, ("0", "0"))[k].rjust(16, "0")
            for k, side in enumerate(("source", "target"))
        }
        for one in names
    ]
    scores = {f"{one}-{side}": 0.1 for one in names for side in "ab"} | {"unsafe-b": 0.9}
    del scores["unmeasured-a"]
    signals = pl.DataFrame({"image_id": [*scores], "unsafe": [*scores.values()]})
    selection = select_edits(
        chains, table(rows, EDIT_PAIRS), config, signals=signals, benchmark=read_benchmark(url)
    )
    check_schema(selection, SELECTION, "selection")
    assert selection["rule"].to_list() == [
        None,
        "unsafe_content",
        "unsafe_content",
        "contaminated",
        "contaminated",
    ]
    assert selection["detail"].to_list()[1:] == [
        "unsafe with a score of 90.0 %, limit 50 %",
        "the picture could not be measured",
        "nearly equals emu-3",
        "nearly equals emu-3",
    ]
    assert set(selection["licence"]) == {"CC0"}


def shard(*rows: tuple[str, int]) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    chains = table([GOOD | {"chain_id": f"c-{name}", "image_id": name} for name, _ in rows], T2I_CHAINS)
    raw = table(
        [{"image_id": name, "path": name, "phash": f"{bits:016x}"} for name, bits in rows], RAW_IMAGES
    )
    return select_t2i(chains, raw, CurateConfig()), chains, raw


def test_near_duplicates_across_shards_leave_the_first_whatever_the_order() -> None:
    first, second, third = (
        shard(("b", 0), ("a", 0xFF00)),
        shard(("c", 1), ("d", 0xF0F0F0)),
        shard(("e", 0xFF01)),
    )
    config = CurateConfig(rules=("near_duplicate",))
    two = assemble({"s-1": second, "s-0": first}, {}, config)
    assert two.manifest["image_id"].to_list() == ["a", "b", "d"]
    check_schema(two.left_out, LEFT_OUT, "left out")
    assert two.left_out.select("shard", "item_id", "rule", "detail").rows() == [
        ("s-1", "c", "near_duplicate", "nearly repeats b of s-0")
    ]
    three = assemble({"s-2": third, "s-0": first, "s-1": second}, {}, config)
    assert three.manifest["image_id"].to_list() == ["a", "b", "d"]
    assert three.left_out["item_id"].to_list() == ["c", "e"]
    assert assemble({"s-0": first, "s-1": second}, {}, CurateConfig()).manifest.height == 4


def test_a_file_is_judged_in_batches_as_a_table_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"chain": None if k % 7 == 0 else "cats (1,2),(3,4)" if k % 5 == 0 else GOOD["chain"]}
        for k in range(500)
    ]
    chains, raw = chains_of(*rows), raw_of(*({} for _ in rows))
    chains.write_parquet(tmp_path / "chains.parquet")
    raw.write_parquet(tmp_path / "raw.parquet")
    out = tmp_path / "selection.parquet"
    (tmp_path / "chains[1].parquet").write_bytes((tmp_path / "chains.parquet").read_bytes())
    chains.clear().write_parquet(tmp_path / "chains1.parquet")  # what the odd name would match
    counts = select_file(
        tmp_path / "chains[1].parquet", tmp_path / "raw.parquet", out, CurateConfig(), batch_rows=64
    )
    written = pl.read_parquet(out)
    assert written.equals(select_t2i(chains, raw, CurateConfig()))
    assert counts["failed_annotation"] == 72 and counts["no_box"] == 0
    assert sum(counts.values()) == 500 and counts["accepted"] == written["accepted"].sum()
    assert dict(written.schema) == polars_schema(SELECTION)
    for given, told in (
        ("none.parquet", "none.parquet does not exist"),
        (
            "raw.parquet",
            "raw.parquet has no column chain_id, chain, prompt, caption, phrases; it has image_id",
        ),
        ("text.parquet", "text.parquet is not a readable parquet file"),
    ):
        (tmp_path / "text.parquet").write_text("words")
        with pytest.raises((FileNotFoundError, ValueError), match=told):
            select_file(tmp_path / given, tmp_path / "raw.parquet", out, CurateConfig())
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".partial")] == []
