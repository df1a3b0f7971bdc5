"""Aliases moved by rule and by hand: their history, and what a roll-back goes back to."""

from __future__ import annotations

import itertools

import pytest

from got_core.registry.aliases import Move, NothingBeforeError, alias_history, move_alias, version_before
from got_core.registry.by_hand import promote_version, roll_back
from got_core.registry.reference import NoModelError
from got_core.registry.standing import CHAMPION
from got_core.registry.tracking import MlflowClient, connect


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('aliases')}/mlflow.db"


@pytest.fixture
def name(uri: str, _numbers: itertools.count = itertools.count()) -> str:  # noqa: B008
    """A model with three versions that nobody has pointed at."""
    client, name = connect(uri), f"got-{next(_numbers)}"
    client.create_registered_model(name)
    for _ in range(3):
        client.create_model_version(name, source="file:///nowhere")
    return name


def champion(client: MlflowClient, name: str) -> str:
    return str(client.get_model_version_by_alias(name, CHAMPION).version)


def test_a_rollback_goes_back_and_further_back(uri: str, name: str) -> None:
    client = connect(uri)
    with pytest.raises(ValueError, match="has no @champion"):
        roll_back(name, "bad", uri)
    for version in ("1", "2", "3"):
        assert promote_version(name, version, "looks better", uri) is not None
    for same in ("3", "03"):
        assert promote_version(name, same, "again", uri) is None, "it is there already"
    assert roll_back(name, "worse text", uri).version == "2" == champion(client, name)
    assert roll_back(name, "worse still", uri).version == "1" == champion(client, name)
    with pytest.raises(NothingBeforeError, match="--to"):
        roll_back(name, "and further", uri)
    assert roll_back(name, "it was good after all", uri, to="3").version == "3"
    moves = alias_history(client, name, CHAMPION)
    assert [(one.before, one.version, one.rollback) for one in moves] == [
        (None, "1", False),
        ("1", "2", False),
        ("2", "3", False),
        ("3", "2", True),
        ("2", "1", True),
        ("1", "3", True),
    ]
    assert moves == sorted(moves, key=lambda one: one.at) and moves[3].reason == "rolled back: worse text"
    tags = client.get_model_version(name, "2").tags
    assert tags["promotion"] == "rolled back to version 1: worse still"
    assert client.get_model_version(name, "3").tags["promotion"] == "rolled back to version 2: worse text"


def test_what_cannot_be_moved_is_said(uri: str, name: str) -> None:
    with pytest.raises(ValueError, match="say why"):
        promote_version(name, "1", " ", uri)
    with pytest.raises(NoModelError, match=f"there is no models:/{name}/9"):
        promote_version(name, "9", "better", uri)
    promote_version(name, "1", "first", uri)
    with pytest.raises(ValueError, match="version 1 is the champion already"):
        roll_back(name, "bad", uri, to="1")
    with pytest.raises(NoModelError):
        roll_back(name, "bad", uri, to="9")
    assert len(alias_history(connect(uri), name)) == 1


def test_a_move_that_was_cut_off_did_not_happen(uri: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in ("1", "2"):
        promote_version(name, version, "better", uri)

    def cut_off(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_registered_model_alias", cut_off)
        with pytest.raises(KeyboardInterrupt):
            promote_version(name, "3", "better", uri)
    assert champion(connect(uri), name) == "2"
    assert roll_back(name, "worse", uri).version == "1"


def test_a_damaged_note_is_passed_over(uri: str, name: str) -> None:
    client = connect(uri)
    move_alias(client, name, CHAMPION, "1", "x" * 10_000)
    for key, text in (("alias_history/a", "{"), ("alias_history/b", '{"at": "now"}'), ("other", "{}")):
        client.set_registered_model_tag(name, key, text)
    (move,) = alias_history(client, name)
    assert (move.version, len(move.reason)) == ("1", 2000)
    assert alias_history(client, "nothing") == []


def moves(*steps: tuple[str | None, str, bool]) -> list[Move]:
    return [
        Move(at=str(k), alias=CHAMPION, version=version, before=before, reason="", rollback=rollback)
        for k, (before, version, rollback) in enumerate(steps)
    ]


@pytest.mark.parametrize(
    ("history", "current", "expected"),
    [
        (moves((None, "1", False), ("1", "2", False)), "2", "1"),
        (moves(("4", "7", False)), "7", "4"),
        (moves((None, "1", False), ("1", "2", False), ("2", "1", True), ("1", "3", False)), "3", "1"),
        (moves((None, "1", False), ("1", "2", False), ("2", "5", True)), "5", "2"),
        (moves((None, "1", False), ("1", "2", False), ("2", "1", False)), "1", "2"),
    ],
)
def test_which_version_was_before(history: list[Move], current: str, expected: str) -> None:
    assert version_before(history, current) == expected


@pytest.mark.parametrize(
    ("history", "current"), [([], "1"), (moves((None, "1", False)), "1"), (moves((None, "1", False)), "9")]
)
def test_nothing_before(history: list[Move], current: str) -> None:
    with pytest.raises(NothingBeforeError):
        version_before(history, current)
