"""How long an answer may be used again: RFC 9111 section 4.2, never longer than its sender says."""

import pytest

from server.outbound.freshness import UNSAID_SECONDS, seconds_fresh

_DATE = "Mon, 05 Jan 2026 10:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, UNSAID_SECONDS),
        ({"cache-control": "max-age=60"}, 60),
        ({"cache-control": "public, MAX-AGE=60, must-revalidate"}, 60),
        ({"cache-control": 'max-age="60"'}, 60),
        ({"cache-control": "max-age=60", "age": "45"}, 15),
        ({"cache-control": "max-age=60", "age": "90"}, 0),
        ({"cache-control": "max-age=60, max-age=600"}, 60),
        ({"cache-control": "max-age=0"}, 0),
        ({"cache-control": "no-store, max-age=60"}, 0),
        ({"cache-control": "no-cache"}, 0),
        ({"cache-control": 'no-cache="set-cookie"'}, 0),
        ({"cache-control": "max-age=soon"}, 0),
        ({"cache-control": "max-age=-1"}, 0),
        ({"cache-control": "public"}, UNSAID_SECONDS),
        ({"expires": "Mon, 05 Jan 2026 10:00:20 GMT", "date": _DATE}, 20),
        ({"expires": "Mon, 05 Jan 2026 09:00:00 GMT", "date": _DATE}, 0),
        ({"expires": "0", "date": _DATE}, 0),
        ({"expires": "Mon, 05 Jan 2026 10:00:20 GMT"}, 0),
        ({"expires": "Mon, 05 Jan 2026 10:00:20 GMT", "date": _DATE, "cache-control": "max-age=5"}, 5),
    ],
)
def test_an_answer_is_fresh_as_long_as_it_says(headers: dict[str, str], seconds: float) -> None:
    assert seconds_fresh(headers) == seconds
