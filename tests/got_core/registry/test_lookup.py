"""Versions read from the database are those that MLflow tells of."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from got_core.registry.lookup import registered_versions
from got_core.registry.reference import RegistryUnavailableError
from got_core.registry.tracking import connect


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three versions of `got`, of which one was deleted, and one of another model."""
    path = tmp_path_factory.mktemp("registry") / "mlflow.db"
    client = connect(f"sqlite:///{path}")
    for name in ("got", "other"):
        client.create_registered_model(name)
    for number in range(3):
        client.create_model_version("got", source=str(path.parent), tags={"weights_hash": f"w{number}"})
    client.create_model_version("other", source=str(path.parent), tags={"weights_hash": "theirs"})
    client.set_registered_model_alias("got", "champion", "1")
    client.set_registered_model_alias("got", "best", "1")
    client.delete_model_version("got", "2")
    return path


def test_both_ways_tell_the_same(database: Path) -> None:
    found = registered_versions(database, "got")
    assert [one.full_name for one in found] == ["models:/got/3", "models:/got/1"]
    assert found[1].aliases == ("best", "champion") and found[1].tags == {"weights_hash": "w0"}
    client = connect(f"sqlite:///{database}")
    for one in found:
        told = client.get_model_version("got", str(one.version))
        assert (dict(told.tags), sorted(told.aliases)) == (one.tags, [*one.aliases])
    assert registered_versions(f"sqlite:///{database}", "got") == found
    assert registered_versions(database, "nobody") == []


def test_a_table_of_another_layout_is_left_to_mlflow(database: Path, tmp_path: Path) -> None:
    changed = tmp_path / "mlflow.db"
    changed.write_bytes(database.read_bytes())
    found = registered_versions(changed, "got")
    with sqlite3.connect(changed) as connection:
        connection.execute("alter table registered_model_aliases rename column alias to alias_of")
    with pytest.raises(RegistryUnavailableError, match="could not be asked"):
        registered_versions(changed, "got")  # MLflow does not know such a table either
    assert found


def test_asking_makes_no_registry(tmp_path: Path) -> None:
    assert registered_versions(tmp_path / "mlflow" / "mlflow.db", "got") == []
    assert registered_versions(f"sqlite:///{tmp_path / 'mlflow.db'}", "got") == []
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_database_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    path.write_bytes(b"no database" * 100)
    with pytest.raises(RegistryUnavailableError, match="could not be asked"):
        registered_versions(path, "got")
