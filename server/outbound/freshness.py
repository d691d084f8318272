"""RFC 9111 section 4.2: how long an answer may be used again."""

import re
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final

UNSAID_SECONDS: Final = 300.0
"""Where an answer says nothing of it."""
_NOT_KEPT: Final = ("no-store", "no-cache")
_AGE: Final = re.compile(r"max-age\s*=\s*\"?(\d{1,9})\"?")


def seconds_fresh(headers: Mapping[str, str]) -> float:
    """For how many seconds from the request on; 0 where it may not be. `headers` by their names in lower case.

    What cannot be read is taken as 0: the keys of a client must not be believed longer than it says.
    """
    said = headers.get("cache-control", "").lower()
    directives = [part.strip() for part in said.split(",")]
    if any(part.partition("=")[0].strip() in _NOT_KEPT for part in directives):
        return 0.0
    if any(part.startswith("max-age") for part in directives):
        found = [_AGE.fullmatch(part) for part in directives if part.startswith("max-age")]
        life = min((float(match[1]) if match else 0.0) for match in found)
    elif "expires" in headers:
        life = _until(headers["expires"], headers.get("date", ""))
    else:
        return UNSAID_SECONDS
    age = headers.get("age", "0").strip()
    return max(0.0, life - (float(age) if age.isascii() and age.isdigit() else 0.0))


def _until(expires: str, date: str) -> float:
    ends, began = _moment(expires), _moment(date)
    return 0.0 if ends is None or began is None else (ends - began).total_seconds()


def _moment(value: str) -> datetime | None:
    """An HTTP date is in GMT; one without a zone cannot be compared and is none."""
    try:
        found = parsedate_to_datetime(value)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
