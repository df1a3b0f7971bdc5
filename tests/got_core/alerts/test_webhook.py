"""Messages reach a real server, and no error gives the address away."""

from __future__ import annotations

import socket

import pytest
from pydantic import SecretStr, ValidationError

from got_core.alerts.webhook import WebhookError, check_webhook, send
from got_core.watch_settings import AlertSettings

from .receiver import receiving

MESSAGE = {"text": "ein Schaden: drei Fächer", "state": "firing"}


def test_a_message_arrives_as_json_at_the_whole_address() -> None:
    with receiving() as receiver:
        send(SecretStr(receiver.url), MESSAGE)
    assert receiver.got == [("/hooks/token-1234?who=got", MESSAGE)]
    assert receiver.headers["Content-Type"] == "application/json; charset=utf-8"


@pytest.mark.parametrize("status", [302, 307, 400, 401, 500, 503])
def test_any_other_answer_is_an_error_without_the_address(status: int) -> None:
    with receiving() as receiver:
        receiver.status = status
        with pytest.raises(WebhookError, match=f"HTTP {status}") as raised:
            send(SecretStr(receiver.url), MESSAGE)
    assert receiver.got == [], "a redirect is not followed"
    assert "token-1234" not in str(raised.value)


def test_a_receiver_that_is_away_is_an_error_without_the_address() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/hooks/token-1234"
        with pytest.raises(WebhookError, match="cannot be reached: ConnectionRefusedError") as raised:
            send(SecretStr(url), MESSAGE)
    shown = [raised.value, raised.value.__cause__, raised.value.__suppress_context__]
    assert "token-1234" not in str(shown) and raised.value.__suppress_context__


@pytest.mark.parametrize(
    "url", ["ftp://host/x?key=1234", "host/hook-1234", "http:///x1234", "http://h:1234567/", "http://[1234/x"]
)
def test_an_address_that_cannot_be_used_is_refused_without_showing_it(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="GOT_ALERT_WEBHOOK") as raised:
        check_webhook(SecretStr(url))
    monkeypatch.setenv("GOT_ALERT_WEBHOOK", url)
    with pytest.raises(ValidationError, match="GOT_ALERT_WEBHOOK") as refused:
        AlertSettings()
    assert "1234" not in f"{raised.value} {refused.value}"


def test_settings_do_not_show_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOT_ALERT_WEBHOOK", "https://example.com/token-1234")
    assert "token-1234" not in repr(AlertSettings())
