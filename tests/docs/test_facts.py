"""Numbers and lists in the documentation are those of the code."""

from __future__ import annotations

import re

import pytest
from pydantic_settings import BaseSettings

from got_assets.line.findings import FAILED_RUNS, findings
from got_assets.line.state import SHARD_STATES, Budget, Line, Shard
from got_core.recipes import RECIPES
from got_core.server_settings import AnnotatorServer, JudgeServer, ServeSettings, StudioSettings
from got_core.watch_settings import AlertSettings, MetricsSettings
from tests.docs import pages
from tests.docs.pages import PAGES, ROOT

PLAIN = re.compile(r"[\d,.]+|true|false")


def rows(page: str) -> list[list[str]]:
    """Cells of all table rows."""
    lines = pages.prose(page).splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]


@pytest.mark.parametrize("page", PAGES)
def test_rows_of_tables_have_as_many_cells_as_their_heads(page: str) -> None:
    columns = None
    for line in pages.prose(page).splitlines():
        bars = line.replace("\\|", "").count("|") if line.startswith("|") else None
        columns = bars if columns is None or bars is None else columns
        assert bars == columns, f"{page}: {line}"


def test_versions_of_protocols_on_scenes() -> None:
    from got_core.evaluate.benchmarks import BENCHMARKS

    text = " ".join(pages.text_of("docs/benchmarks.md").split())
    told = re.search(
        r"`geneval/scenes` is at version (\d+), `edits/scenes` at (\d+), .* scenes at (\d+)\.", text
    )
    recipe = RECIPES["embedded"]()
    versions = [one.protocol(recipe.world, recipe.evaluate).version for one in BENCHMARKS]
    assert told and [int(told[1]), int(told[2]), *[int(told[3])] * (len(versions) - 2)] == versions


@pytest.mark.parametrize(
    ("page", "prefix", "server", "least"),
    [
        ("docs/annotators.md", "GOT_ANNOTATOR_", AnnotatorServer, 5),
        ("docs/operations.md", "GOT_JUDGE_", JudgeServer, 4),
        ("docs/operations.md", "GOT_SERVE_", ServeSettings, 5),
        ("docs/operations.md", "GOT_STUDIO_", StudioSettings, 3),
        ("docs/operations.md", "GOT_ALERT_", AlertSettings, 4),
        ("docs/operations.md", "GOT_METRICS_", MetricsSettings, 2),
    ],
)
def test_defaults_of_servers(page: str, prefix: str, server: type[BaseSettings], least: int) -> None:
    checked = 0
    for variable, _, default, *_ in (row for row in rows(page) if len(row) == 3 and prefix in row[0]):
        name = variable.strip("`").removeprefix(prefix).lower()
        if name in server.model_fields and PLAIN.fullmatch(default):
            shown = default if default in ("true", "false") else float(default.replace(",", ""))
            real = server.model_fields[name].default
            assert shown == (str(real).lower() if isinstance(real, bool) else real), variable
            checked += 1
    assert checked >= least


def test_every_recipe_is_described() -> None:
    described = {row[0].strip("`") for row in rows("docs/training.md")}
    assert set(RECIPES) <= described


@pytest.mark.parametrize("name", ["embedded", "embedded-long"])
def test_sizes_of_recipes(name: str) -> None:
    [row] = [row for row in rows("docs/training.md") if row[0] == f"`{name}`"]
    recipe, text = RECIPES[name](), " ".join(row)
    assert f"{recipe.corpus.images:,} scenes" in text
    assert f"{recipe.corpus.pairs:,} edit pairs" in text


def test_every_room_is_described() -> None:
    described = {row[0].strip("`") for row in rows("docs/architecture.md")}
    folders = (path for path in (ROOT / "got_core").iterdir() if (path / "__init__.py").exists())
    missing = {f"got_core/{path.name}" for path in folders} - described
    assert not missing, sorted(missing)


def test_every_asset_of_the_drawing_is_in_the_graph() -> None:
    from got_assets.definitions import defs

    [drawing] = [block.text for block in pages.blocks("docs/operations.md") if block.language == "mermaid"]
    words = set(re.findall(r"\b[a-z]\w+\b", re.sub(r"subgraph \w+", "", drawing)))
    known = {key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys()}
    assert words - {"flowchart", "end", "subgraph"} <= known


def test_every_alert_is_described() -> None:
    line = Line(
        shards=tuple(Shard(kind="images", name=state, state=state) for state in SHARD_STATES),
        budgets=tuple(Budget(unit=unit, limit=1, taken=1) for unit in ("money", "tokens")),
        disks={"home": 0, "storage": 0},
        canaries={"": "moved"},
    )
    known = {FAILED_RUNS, *(one.key for one in findings(line, AlertSettings()))}
    section = pages.text_of("docs/operations.md").partition("## Alerts")[2].partition("\n## ")[0]
    cells = [
        line.split("|")[1:4]
        for line in section.splitlines()
        if line.startswith("| `") and line.count("|") == 4
    ]
    told = {
        name.replace("...", ""): what for names, *what in cells for name in re.findall(r"`([a-z_.]+)`", names)
    }
    assert set(told) == known and all(all(cell.strip() for cell in what) for what in told.values())
