"""What of what is wrong is news."""

from __future__ import annotations

from got_core.alerts.finding import FIRING, RESOLVED, Finding, news

FULL = Finding(key="disk", summary="3 GB are free", advice="got gc")
STUCK = Finding(key="stuck", summary="2 shards")
DAY = 86400.0


def keys(messages: list) -> list[tuple[str, str]]:
    return [(one.state, one.key) for one in messages]


def test_each_thing_is_told_once_until_it_is_over() -> None:
    messages, told = news({}, [FULL], 100.0, DAY)
    assert keys(messages) == [(FIRING, "disk")]
    messages, told = news(told, [FULL, STUCK], 160.0, DAY)
    assert keys(messages) == [(FIRING, "stuck")]
    messages, told = news(told, [STUCK], 220.0, DAY)
    assert keys(messages) == [(RESOLVED, "disk")]
    assert messages[0].summary == FULL.summary
    messages, told = news(told, [], 280.0, DAY)
    assert keys(messages) == [(RESOLVED, "stuck")] and told == {}


def test_another_number_is_no_news_and_what_stays_is_repeated() -> None:
    _, told = news({}, [FULL], 100.0, DAY)
    less = Finding(key="disk", summary="2 GB are free")
    messages, told = news(told, [less], 100.0 + DAY - 1, DAY)
    assert messages == []
    messages, told = news(told, [less], 100.0 + DAY, DAY)
    assert keys(messages) == [(FIRING, "disk")] and messages[0].summary == "2 GB are free"
    assert news(told, [less], 100.0 + DAY + 60, DAY)[0] == []


def test_a_message_says_the_same_to_people_and_to_programs() -> None:
    (message,), _ = news({}, [FULL], 0.0, DAY)
    assert message.document() == {
        "text": "[FIRING] disk: 3 GB are free\ngot gc",
        "alert": "disk",
        "state": "firing",
        "summary": "3 GB are free",
        "advice": "got gc",
    }
