"""Capability URLs (SMART Imaging Access, "Issuing capability URLs"): an address for one study, of one grant, for a while.

Drafts until 2026 let such an address open a study without a token; the newest does not have that, and neither has this server: URLs are
logged, passed on and kept. The token is always sent, and is looked at as at any other address; the capability only narrows what it opens here.
"""

from typing import Final

from server.access import sealed
from server.access.decisions import Decision
from server.errors import Forbidden

_PURPOSE: Final = "capability URL"
_STEP: Final = 600
"""Seconds: within them the same study has the same address, so that what was fetched from it is found again."""


def issue(key: bytes, decision: Decision, study_uid: str, now: float, seconds: int) -> str:
    """A capability for this study that is good for `seconds` from `now` (since 1970), and up to ten minutes more.

    Empty where the caller cannot be told from others: it has neither a grant nor a token with a number.
    """
    holder = _holder(decision)
    return sealed.seal(key, _PURPOSE, [holder, study_uid, (int(now) // _STEP + 1) * _STEP + seconds]) if holder else ""


def require(key: bytes, capability: str, decision: Decision, study_uid: str, now: float) -> None:
    """Raises `Forbidden` where the capability is not for this study and this caller, or has expired."""
    found = sealed.unseal(key, _PURPOSE, capability)
    if found is None or found[0] != _holder(decision) or found[1] != study_uid or found[2] <= now:
        raise Forbidden("this address is not for this study and this token, or no longer; search for the study again")


def _holder(decision: Decision) -> str:
    """The grant, so that a refreshed token may go on; of a token without one itself."""
    return f"grant {decision.grant}" if decision.grant else f"token {decision.token_id}" if decision.token_id else ""
