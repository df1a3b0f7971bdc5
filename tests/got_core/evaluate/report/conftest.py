"""A champion and a challenger in one storage, scored on both benchmarks of scenes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from got_core.evaluate.benchmarks import GENEVAL as GENEVAL_BENCHMARK
from got_core.evaluate.benchmarks import SCENE_EDITS
from got_core.evaluate.report import Section
from got_core.registry.reporting import ReportMaker
from got_core.registry.standing import Standing
from got_core.scenes.world import NARROW
from got_core.storage import Storage
from tests.got_core.evaluate.report.painted import CONFIG, EDITS, GENEVAL, painted_run

CHAMPION, CHALLENGER = "a" * 64, "b" * 64
NAMES = ("geneval/scenes", "edits/scenes")
STANDING = Standing(version="3", weights_hash=CHAMPION, results={})


@pytest.fixture(scope="session")
def two_models(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    """The challenger has fixed picture 4, broken 7, and moved all boxes; of edits it has broken 2."""
    storage = Storage(f"file://{tmp_path_factory.mktemp('two')}")
    painted_run(GENEVAL, storage, GENEVAL_BENCHMARK.prefix(CHAMPION), CHAMPION, wrong=(0, 4))
    painted_run(EDITS, storage, SCENE_EDITS.prefix(CHAMPION), CHAMPION, wrong=(1,))
    painted_run(GENEVAL, storage, GENEVAL_BENCHMARK.prefix(CHALLENGER), CHALLENGER, wrong=(0, 7), shift=60)
    painted_run(EDITS, storage, SCENE_EDITS.prefix(CHALLENGER), CHALLENGER, wrong=(1, 2))
    return storage


def sections(
    storage: Storage, champion: Standing | None = STANDING, names: Sequence[str] = NAMES
) -> list[Section]:
    """As the graph's page has them."""
    maker = ReportMaker(storage=storage, world=NARROW, config=CONFIG)
    return maker.sections(CHALLENGER, names, champion)
