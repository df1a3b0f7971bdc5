"""Who comes in, and what the browser may load."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from got_core.server_settings import StudioSettings
from got_core.studio.app import check_door, make_app
from got_core.studio.desk import Studio


def client(studio: Studio, **settings: object) -> TestClient:
    return TestClient(
        make_app(studio, StudioSettings(_env_file=None, **settings)), base_url="http://localhost"
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"host": "0.0.0.0"},
        {"host": "studio.example"},
        {"users": "ada"},
        {"users": "ada:short"},
        {"users": ":longenough"},
    ],
)
def test_a_network_needs_accounts(settings: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="GOT_STUDIO_USERS"):
        check_door(StudioSettings(_env_file=None, **settings))


def test_without_accounts_it_answers_to_this_machines_names_alone(studio: Studio) -> None:
    local = client(studio)
    answer = local.get("/")
    assert answer.status_code == 200 and "/studio/canvas.js" in answer.text
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "http" not in policy
    assert local.get("/studio/konva.min.js").status_code == 200
    assert local.get("/", headers={"host": "evil.example"}).status_code == 403


def test_no_page_of_another_server_acts_for_the_artist(studio: Studio) -> None:
    local = client(studio)
    for origin, status in (
        ("http://localhost", 200), ("http://evil.example", 403), ("http://localhost:9", 403), ("null", 403)
    ):  # fmt: skip
        assert local.get("/config", headers={"origin": origin}).status_code == status, origin


def test_accounts_are_asked_for(studio: Studio) -> None:
    guarded = client(studio, host="0.0.0.0", users="ada:lovelace1")
    assert guarded.get("/config").status_code == 401
    wrong = guarded.post("/login", data={"username": "ada", "password": "lovelace2"})
    unknown = guarded.post("/login", data={"username": "bob", "password": "lovelace1"})
    assert wrong.status_code == unknown.status_code == 400
    assert guarded.post("/login", data={"username": "ada", "password": "lovelace1"}).status_code == 200
    assert guarded.get("/config").status_code == 200
