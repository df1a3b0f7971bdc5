"""The tiny networks, loaded once."""

from __future__ import annotations

import pytest

from got_core.evaluate.networks import Networks
from tests.got_core.evaluate.emu_edit.made import tiny


@pytest.fixture(scope="session")
def networks(tmp_path_factory) -> Networks:
    return tiny(tmp_path_factory.mktemp("networks"))
