"""The protocol record: what it states, its digest, and why two are unlike."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from got_core.evaluate.protocol import (
    Network,
    Protocol,
    UnlikeProtocolsError,
    protocol_figures,
    require_same,
    text_sha256,
    why_unlike,
)

PLAIN = Protocol(name="b", version=1, rules={"threshold": 0.3}, aggregation={"task": "mean"})
NETWORK = Network(name="clip", files={"model.safetensors": "a" * 64}, settings={"dtype": "float32"})
WHOLE = replace(
    PLAIN,
    networks={"colours": NETWORK},
    prompt_texts={"template": text_sha256("a photo of a {c}")},
    resize={"colours": {"shortest_edge": 224}},
    samples={"count": 2, "sha256": "b" * 64},
    plan=True,
)


def test_what_is_not_stated_is_in_no_record() -> None:
    """So protocols of before such a field keep their digests."""
    assert set(PLAIN.record()) == {
        *("name", "version", "rules", "detector", "prompts", "sampler", "aggregation", "world", "excluded")
    }
    assert PLAIN.digest() == "6d591fc89945"
    stated = WHOLE.to_dict()
    assert {"networks", "prompt_texts", "resize", "samples", "plan"} <= set(stated)
    assert json.loads(json.dumps(stated)) == stated
    assert replace(PLAIN, plan=False).record()["plan"] is False


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"rules": {"threshold": 0.5}}, "rules.threshold: 0.3 and 0.5"),
        ({"rules": {"threshold": 0.3, "limit": 1}}, "rules.limit: not stated and 1"),
        ({"plan": False}, "plan: true and false"),
        ({"plan": None}, "plan: true and not stated"),
        ({"samples": {"count": 3, "sha256": "b" * 64}}, "samples.count: 2 and 3"),
        ({"excluded": ("x",)}, 'excluded: [] and ["x"]'),
        (
            {"networks": {"colours": replace(NETWORK, revision="r2")}},
            'networks.colours.revision: null and "r2"',
        ),
        ({"resize": {}}, 'resize: {"colours": {"shortest_edge": 224}} and not stated'),
    ],
)
def test_each_field_says_by_itself_why_two_are_unlike(change: dict, line: str) -> None:
    other = replace(WHOLE, **change)
    assert why_unlike(WHOLE, other) == [line]
    assert other.digest() != WHOLE.digest()
    assert why_unlike(WHOLE, WHOLE.to_dict()) == []
    with pytest.raises(UnlikeProtocolsError) as caught:
        require_same(protocol_figures(WHOLE), protocol_figures(other))
    assert line in str(caught.value)


def test_an_error_names_a_few_fields_and_how_many_more() -> None:
    other = replace(PLAIN, rules={f"limit {n}": n for n in range(9)})
    with pytest.raises(UnlikeProtocolsError, match=r"rules\.limit 0: not stated and 0; .*; and 5 more\)"):
        require_same(protocol_figures(PLAIN), protocol_figures(other))


def test_scores_without_a_record_are_told_apart_by_their_digests() -> None:
    bare = {"protocol": "b", "protocol_digest": "0" * 12}
    with pytest.raises(UnlikeProtocolsError, match=r"cannot be compared; score both"):
        require_same(bare, protocol_figures(PLAIN))


def test_a_network_needs_a_version() -> None:
    with pytest.raises(ValueError, match=r"'clip' has neither a revision nor hashes"):
        Network(name="clip")
