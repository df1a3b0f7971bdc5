"""Dagster's page as a person uses it: every change of the cluster goes through its GraphQL.

Belongs here: questions to the webserver and their answers. Not here: what is asked when (`walk`).
"""

from __future__ import annotations

import base64
import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

LOCATION, REPOSITORY = "got", "__repository__"
_SELECTOR = {"repositoryLocationName": LOCATION, "repositoryName": REPOSITORY}
_ENDED = {"SUCCESS", "FAILURE", "CANCELED"}
_PRESSES = 10

_ADD = """mutation($name: String!, $key: String!, $selector: RepositorySelector!) {
  addDynamicPartition(partitionsDefName: $name, partitionKey: $key, repositorySelector: $selector)
  { __typename ... on PythonError { message } } }"""
_BACKFILL = """mutation($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params)
  { __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
_BACKFILL_STATE = """query($id: String!) { partitionBackfillOrError(backfillId: $id)
  { __typename ... on PartitionBackfill { status } } }"""
_LAUNCH = """mutation($params: ExecutionParams!) { launchRun(executionParams: $params)
  { __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } } } }"""
_RUNS = """query($filter: RunsFilter, $limit: Int) { runsOrError(filter: $filter, limit: $limit)
  { __typename ... on Runs { results { runId status jobName rootRunId tags { key value } } }
    ... on PythonError { message } } }"""
_SENSOR = """mutation($selector: SensorSelector!) { startSensor(sensorSelector: $selector)
  { __typename ... on PythonError { message } } }"""
_TICKS = """query($selector: InstigationSelector!) { instigationStateOrError(instigationSelector: $selector)
  { __typename ... on InstigationState {
    ticks(limit: 5) { status runIds skipReason error { message } } } } }"""
_SCHEDULE = """mutation($selector: ScheduleSelector!, $moment: Float) {
  scheduleDryRun(selectorData: $selector, timestamp: $moment) { __typename ... on DryRunInstigationTick {
    evaluationResult { skipReason error { message } runRequests { runConfigYaml tags { key value } } } }
    ... on PythonError { message } } }"""
_TRY = """mutation($selector: SensorSelector!) { sensorDryRun(selectorData: $selector, cursor: null)
  { __typename ... on DryRunInstigationTick { evaluationResult { skipReason error { message }
    dynamicPartitionsRequests { partitionKeys partitionsDefName } } }
    ... on PythonError { message } } }"""
_TERMINATE = """mutation($id: String!) { terminateRun(runId: $id)
  { __typename ... on PythonError { message } ... on TerminateRunFailure { message } } }"""
_EVENTS = """query($id: ID!) { logsForRun(runId: $id, limit: 1000) { __typename
  ... on EventConnection { events { __typename ... on MessageEvent { message }
    ... on ExecutionStepFailureEvent { error { message errorChain { error { message } } } }
      ... on RunFailureEvent { error { message } } } } } }"""


class PageError(RuntimeError):
    """An answer that says no, or a run that did not end well."""


class AwayError(PageError):
    """An answer that the page could not give: what it needs for it is away, as a database at times is."""


@dataclass(frozen=True)
class Run:
    """A run as the page shows it."""

    id: str
    status: str
    job: str
    root: str | None
    tags: dict[str, str]


@dataclass(frozen=True)
class Page:
    """The webserver at an address, or the proxy before it."""

    url: str
    person: tuple[str, str] | None = None
    """Name and password for the proxy."""
    certificate: Path | None = None
    """With which the proxy's is checked; None: as all are."""
    seconds: float = 1800.0
    """For which a run or backfill is waited for."""
    poll: float = 1.0
    """Seconds between two looks."""

    def ask(self, query: str, variables: dict[str, Any] | None = None) -> Any:
        """The one field of the answer. Raises PageError, AwayError, and OSError where nothing answers."""
        body = json.dumps({"query": query, "variables": variables or {}}).encode()
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.person is not None:
            headers["Authorization"] = f"Basic {base64.b64encode(':'.join(self.person).encode()).decode()}"
        request = urllib.request.Request(f"{self.url}/graphql", body, headers)
        context = ssl.create_default_context(cafile=self.certificate)
        try:
            with urllib.request.urlopen(request, timeout=120, context=context) as answer:
                found = json.load(answer)
        except urllib.error.HTTPError as error:
            kind = AwayError if error.code >= HTTPStatus.INTERNAL_SERVER_ERROR else PageError
            raise kind(f"the page answers {error.code}: {error.read()[:2000]!r}") from error
        if found.get("errors"):
            raise AwayError("; ".join(one["message"] for one in found["errors"]))
        (value,) = found["data"].values()
        if value["__typename"] == "PythonError":
            raise AwayError(value["message"])
        if "message" in value or "errors" in value:
            raise PageError(f"{value['__typename']}: {value.get('message') or value['errors']}")
        return value

    # What a person does

    def press(self, query: str, variables: dict[str, Any]) -> Any:
        """As `ask`, again while the page cannot answer: its first use of a database that was gone fails."""
        for _ in range(_PRESSES):
            try:
                return self.ask(query, variables)
            except (OSError, AwayError):
                time.sleep(self.poll)
        return self.ask(query, variables)

    def add_partition(self, name: str, key: str) -> None:
        """A shard, by hand."""
        self.press(_ADD, {"name": name, "key": key, "selector": _SELECTOR})

    def backfill(self, assets: Iterable[str], shards: list[str]) -> str:
        """Materialize assets of shards, one run a shard; the backfill's id."""
        keys = [{"path": [asset]} for asset in assets]
        params = {"assetSelection": keys, "partitionNames": shards}
        return str(self.press(_BACKFILL, {"params": params})["backfillId"])

    def launch(self, job: str, tags: dict[str, str] | None = None, assets: Iterable[str] = ()) -> str:
        """Launch a job, or some of its assets; the run's id."""
        chosen = [{"path": [asset]} for asset in assets]
        params = {
            "selector": {**_SELECTOR, "jobName": job} | ({"assetSelection": chosen} if chosen else {}),
            "runConfigData": {},
            "mode": "default",
            "executionMetadata": {"tags": [{"key": k, "value": v} for k, v in (tags or {}).items()]},
        }
        return str(self.press(_LAUNCH, {"params": params})["run"]["runId"])

    def start_sensor(self, name: str) -> None:
        """Switch a sensor on."""
        self.press(_SENSOR, {"selector": {**_SELECTOR, "sensorName": name}})

    def try_sensor(self, name: str) -> dict[str, list[str]]:
        """Partitions, by definition, that a sensor asks for when it is tried. They are not made by that."""
        found = self.press(_TRY, {"selector": {**_SELECTOR, "sensorName": name}})["evaluationResult"]
        if found["error"]:
            raise PageError(f"sensor {name}: {found['error']['message']}")
        asked = found["dynamicPartitionsRequests"] or []
        return {one["partitionsDefName"]: one["partitionKeys"] for one in asked}

    def ticks(self, name: str) -> list[dict[str, Any]]:
        """The latest ticks of a sensor."""
        found = self.ask(_TICKS, {"selector": {**_SELECTOR, "name": name}})
        return list(found.get("ticks", []))

    def evaluate_schedule(self, name: str, moment: float) -> dict[str, Any]:
        """What a schedule's tick at a moment asks for: run requests, or why it skips."""
        selector = {**_SELECTOR, "scheduleName": name}
        found = self.press(_SCHEDULE, {"selector": selector, "moment": moment})["evaluationResult"]
        if found["error"]:
            raise PageError(f"schedule {name}: {found['error']['message']}")
        return dict(found)

    def terminate(self, run: str) -> None:
        """Cancel a run."""
        self.press(_TERMINATE, {"id": run})

    # What a person looks at

    def runs(self, **filters: Any) -> list[Run]:
        """Runs, the latest first."""
        found = self.ask(_RUNS, {"filter": filters, "limit": 1000})["results"]
        return [
            Run(
                one["runId"], one["status"], one["jobName"], one["rootRunId"],
                {tag["key"]: tag["value"] for tag in one["tags"]},
            )
            for one in found
        ]  # fmt: skip

    def why(self, run: str) -> str:
        """Errors among a run's events."""
        events = self.ask(_EVENTS, {"id": run}).get("events", [])
        found = [one["error"] for one in events if one.get("error")]
        chains = [[one, *(link["error"] for link in one.get("errorChain", []))] for one in found]
        errors = [one["message"].strip() for chain in chains for one in chain]
        return "\n".join(filter(None, errors)) or "no error among its events"

    def wait_for_run(self, run: str) -> Run:
        """The run, or the one launched again in its place, once it has ended well. Raises PageError."""

        def ended() -> Run | None:
            family = [one for one in self.runs() if run in (one.id, one.root)]
            if any(one.status == "SUCCESS" for one in family):
                return next(one for one in family if one.status == "SUCCESS")
            if family and all(one.status in _ENDED for one in family) and not _again(family):
                raise PageError(f"run {run[:8]} ended as {family[0].status}: {self.why(family[0].id)}")
            return None

        return self.until(ended, f"run {run[:8]}")

    def wait_for_all(self, *, least: int = 0) -> list[Run]:
        """All runs, once there are so many and none is under way any more; those that were launched again
        count as the last of them. Raises PageError where one did not end well."""

        def ended() -> list[Run] | None:
            found = self.runs()
            if len(found) < least or any(one.status not in _ENDED for one in found) or _again(found):
                return None
            return found

        found = self.until(ended, f"{least} runs")
        good = {one.root or one.id for one in found if one.status == "SUCCESS"}
        for bad in (one for one in found if (one.root or one.id) not in good):
            raise PageError(f"run {bad.id[:8]} of {bad.job} ended as {bad.status}: {self.why(bad.id)}")
        return found

    def wait_for_backfill(self, backfill: str) -> None:
        """Until a backfill has ended well. Raises PageError."""

        def ended() -> bool | None:
            status = self.ask(_BACKFILL_STATE, {"id": backfill}).get("status")
            if status in ("FAILED", "CANCELED", "COMPLETED_FAILED"):
                raise PageError(f"backfill {backfill} ended as {status}")
            return True if status in ("COMPLETED", "COMPLETED_SUCCESS") else None

        self.until(ended, f"backfill {backfill}")

    def until(self, look: Callable[[], Any], what: str) -> Any:
        """What a look gives once it gives something: the page itself may be away meanwhile."""
        until, last = time.monotonic() + self.seconds, ""
        while time.monotonic() < until:
            try:
                if (found := look()) is not None:
                    return found
            except (OSError, AwayError) as error:
                last = f"; the page: {error}"
            time.sleep(self.poll)
        raise PageError(f"{what} is not done within {self.seconds:g} s{last}")


def _again(runs: Iterable[Run]) -> bool:
    """Whether a failed run is about to be launched again."""
    family = [*runs]
    retried = {one.tags.get("dagster/parent_run_id") for one in family}
    return any(
        one.status == "FAILURE" and one.tags.get("dagster/will_retry") == "true" and one.id not in retried
        for one in family
    )
