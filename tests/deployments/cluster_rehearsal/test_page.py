"""Questions to Dagster's page, against the schema of the installed Dagster, and a server's answers."""

from __future__ import annotations

import base64
import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from deployments.cluster_rehearsal import page as pages
from deployments.cluster_rehearsal.page import Page, PageError

QUERIES = {
    name: value for name, value in vars(pages).items() if str(value).startswith(("mutation", "query("))
}


@pytest.mark.parametrize("name", QUERIES)
def test_questions_are_those_that_dagster_answers(name: str) -> None:
    from dagster_graphql.schema import create_schema
    from graphql import parse, validate

    assert validate(create_schema().graphql_schema, parse(QUERIES[name])) == []


AWAY = "away"


class Handler(http.server.BaseHTTPRequestHandler):
    """Gives the server's next answer; the last one again and again."""

    def do_POST(self) -> None:
        # A server that closes before it has read everything resets the connection.
        self.rfile.read(int(self.headers["Content-Length"]))
        answers: list[Any] = self.server.answers  # type: ignore[attr-defined]
        self.server.people.append(self.headers["Authorization"])  # type: ignore[attr-defined]
        if answers[0] == AWAY:
            answers.pop(0)
            self.send_error(502)
            return
        body = json.dumps({"data": {"it": answers.pop(0) if len(answers) > 1 else answers[0]}}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Any]:
    made: Any = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=made.serve_forever, args=(0.02,), daemon=True).start()
    made.people = []
    url = f"http://127.0.0.1:{made.server_address[1]}"
    made.page = Page(url, person=("ada", "secret"), seconds=60, poll=0.01)
    yield made
    made.shutdown()
    made.server_close()


def runs(*found: tuple[str, str, str | None, dict[str, str]]) -> dict[str, Any]:
    return {
        "__typename": "Runs",
        "results": [
            {
                "runId": run,
                "status": status,
                "jobName": "it",
                "rootRunId": root,
                "tags": [{"key": key, "value": value} for key, value in tags.items()],
            }
            for run, status, root, tags in found
        ],
    }


def test_a_run_that_is_launched_again_counts_by_its_end(server: Any) -> None:
    lost = ("first", "FAILURE", None, {"dagster/will_retry": "true"})
    again = {"dagster/parent_run_id": "first"}
    server.answers = [
        runs(("first", "STARTED", None, {})),
        runs(lost),
        runs(("second", "STARTED", "first", again), lost),
        runs(("second", "SUCCESS", "first", again), lost),
    ]
    assert server.page.wait_for_run("first").id == "second"
    assert len(server.page.wait_for_all(least=2)) == 2


def test_a_run_that_is_not_launched_again_is_an_error(server: Any) -> None:
    events = {"__typename": "EventConnection", "events": [{"error": {"message": "no room"}}]}
    server.answers = [runs(("first", "FAILURE", None, {})), events]
    with pytest.raises(PageError, match="run first ended as FAILURE: no room"):
        server.page.wait_for_run("first")


def test_an_answer_that_says_no_is_an_error(server: Any) -> None:
    server.answers = [{"__typename": "UnauthorizedError", "message": "read only"}]
    with pytest.raises(PageError, match="UnauthorizedError: read only"):
        server.page.launch("retrain")


def test_the_proxy_hears_who_asks_and_may_have_no_page_behind_it(server: Any) -> None:
    lost = {"__typename": "PythonError", "message": "the database is starting up"}
    server.answers = [AWAY, lost, AWAY, runs(("first", "SUCCESS", None, {}))]
    assert server.page.wait_for_run("first").id == "first"
    assert {*server.people} == {f"Basic {base64.b64encode(b'ada:secret').decode()}"}


def test_what_is_pressed_while_the_database_is_away_is_pressed_again(server: Any) -> None:
    lost = {"__typename": "PythonError", "message": "server closed the connection unexpectedly"}
    server.answers = [lost, AWAY, {"__typename": "LaunchRunSuccess", "run": {"runId": "first"}}]
    assert server.page.launch("retrain", assets=["finetuned_model"]) == "first"
