from __future__ import annotations

import pytest

from got_core.retry_after import LONGEST, retry_seconds

DATE = {"Date": "Wed, 21 Oct 2026 07:28:00 GMT"}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": " 0.5 "}, 0.5),
        ({"Retry-After": "-3"}, 0.0),
        ({"Retry-After": "1e99"}, LONGEST),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "Wed, 21 Oct 2026 07:30:00 GMT", **DATE}, 120.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:30:00 -0000", **DATE}, 120.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:00:00 GMT", **DATE}, 0.0),
        ({"Retry-After": "Fri, 01 Jan 1999 00:00:00 GMT"}, 0.0),
        ({"Retry-After": "Wed, 21 Oct 9999999 07:30:00 GMT"}, None),
    ],
)
def test_both_forms_are_understood(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_seconds(headers) == seconds
