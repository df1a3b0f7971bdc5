"""One studio that draws with the weights that come with the package, for all tests of the room."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("gradio")
pytest.importorskip("prometheus_client")

from got_core.server_settings import ServeSettings, StudioSettings
from got_core.studio.desk import Studio
from got_core.studio.painter import Painter
from got_core.studio.run import make_painter
from tests.got_core.studio.page_driver import Artist, browser, shown


@pytest.fixture(scope="session")
def painter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Painter]:
    registry = tmp_path_factory.mktemp("registry") / "mlflow.db"
    made, name = make_painter(
        None,
        f"sqlite:///{registry}",
        StudioSettings(_env_file=None),
        ServeSettings(_env_file=None, device="cpu"),
    )
    assert name == "packaged-weights", "an empty registry has no champion"
    yield made
    made.close()


@pytest.fixture(scope="session")
def studio(painter: Painter, tmp_path_factory: pytest.TempPathFactory) -> Studio:
    return Studio(painter, tmp_path_factory.mktemp("given"))


@pytest.fixture(scope="session")
def url(studio: Studio) -> Iterator[str]:
    with shown(studio) as one:
        yield one


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Of a file, not of the session: while Playwright is open its event loop runs in this thread, so no
    other test can run one."""
    pytest.importorskip("playwright.sync_api")
    if shutil.which("chromium") is None:
        pytest.skip("needs a browser")
    with browser() as one:
        yield one


@pytest.fixture(scope="module")
def artist(chromium: Any, url: str) -> Iterator[Artist]:
    """One page for the tests of a file: each puts its own plan in."""
    one = Artist.at(chromium, url)
    yield one
    assert not one.messages, "the browser complained, or something was asked for elsewhere"
    one.page.context.close()
