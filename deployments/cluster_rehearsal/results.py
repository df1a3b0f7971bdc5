"""What a rehearsal has made: tables, manifest and weights, as hashes that have to be equal.

Belongs here: reading them from the bucket, and the pictures that go in. Not here: what makes them (`walk`),
the same on one machine (`alone`).
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployments.cluster_rehearsal.alone import Inputs
from deployments.cluster_rehearsal.cluster import Cluster
from deployments.cluster_rehearsal.commands import BUCKET
from got_core.frame_hash import content_hash
from got_core.recipes import get_recipe
from got_core.storage import Storage

TABLES = (
    "raw_images", "captions", "entities", "boxes", "t2i_chains", "t2i_selection",
    "edit_pairs", "edit_descriptions", "edit_boxes", "edit_chains", "edit_selection",
)  # fmt: skip
"""Assets of shards."""


@dataclass(frozen=True)
class Results:
    """Hashes by name: of tables, the manifest, and models."""

    tables: dict[str, str]
    manifest: str
    weights: dict[str, str]

    def summary(self) -> str:
        """In a line."""
        models = ", ".join(f"{name} {value[:8]}" for name, value in self.weights.items())
        return f"{len(self.tables)} tables, manifest {self.manifest[:8]}, {models}"


def results_in(storage: Storage) -> Results:
    """Of a storage. Raises FileNotFoundError where the graph has not been walked."""
    names = [
        name.removesuffix(".parquet")
        for asset in TABLES
        for name in storage.list(f"{asset}/")
        if name.endswith(".parquet")
    ]
    models = ("foundation_models", *(stage.asset for stage in get_recipe("tiny").stages))
    return Results(
        {name: content_hash(storage.read_table(name)) for name in names},
        content_hash(storage.read_table("training_manifest")),
        {name: storage.read_json(f"{name}.json")["weights_hash"] for name in models},
    )


def different(expected: Results, found: Results) -> list[str]:
    """Names of what is not equal, or is in one alone."""
    pairs = [(expected.tables, found.tables), (expected.weights, found.weights)]
    wrong = [
        name for one, other in pairs for name in one.keys() | other.keys() if one.get(name) != other.get(name)
    ]
    return sorted([*wrong, *(["training_manifest"] if expected.manifest != found.manifest else [])])


def storage_of(servers: Cluster) -> Storage:
    """The cluster's storage, as this process reaches it."""
    return Storage(servers.environment["GOT_STORAGE"], **_options(servers))


def results(servers: Cluster) -> Results:
    """Of the cluster."""
    return results_in(storage_of(servers))


def upload(servers: Cluster, inputs: Inputs, paths: Iterable[Path]) -> None:
    """Put raw files where the settings say they are."""
    fs = s3_of(servers)
    for path in paths:
        fs.put_file(str(path), f"{BUCKET}/raw/{path.relative_to(inputs.folder).as_posix()}")


def written(servers: Cluster) -> dict[str, Any]:
    """When each object of the storage was written, by its name."""
    root = f"{BUCKET}/storage/"
    found = s3_of(servers).find(root, detail=True)
    return {path.removeprefix(root): one["LastModified"] for path, one in found.items()}


def asked(servers: Cluster) -> dict[str, int]:
    """The annotator's figures."""
    url = servers.environment["GOT_ANNOTATOR_URL"].removesuffix("/v1")
    key = servers.environment["GOT_ANNOTATOR_KEY"]
    request = urllib.request.Request(f"{url}/figures", headers={"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def _options(servers: Cluster) -> dict:
    environment = servers.environment
    return {
        "endpoint_url": environment["GOT_S3_ENDPOINT"],
        "key": environment["AWS_ACCESS_KEY_ID"],
        "secret": environment["AWS_SECRET_ACCESS_KEY"],
    }


def s3_of(servers: Cluster) -> Any:
    """The cluster's bucket, as this process reaches it."""
    import s3fs

    return s3fs.S3FileSystem(**_options(servers), skip_instance_cache=True, use_listings_cache=False)
