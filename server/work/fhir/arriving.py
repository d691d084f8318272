"""A study that is asked for by its UID before it can be shown (SMART Imaging Access: 503 with Retry-After, and the same request again)."""

from collections.abc import Sequence

from sqlalchemy import Connection

from server.access.decisions import Decision, Interaction
from server.work.retrieve import STUDY_TYPE, require_arrived


def require_all_arrived(connection: Connection, decision: Decision, parameters: Sequence[tuple[str, str]]) -> None:
    """Of a search for ImagingStudies that has found none: raises `Unavailable` where `identifier` names one of the caller's that is arriving."""
    for name, value in parameters:
        if name != "identifier":
            continue
        for each in value.split(","):
            uid = each.rpartition("|")[2].removeprefix("urn:oid:")
            require_arrived(connection, decision, Interaction.SEARCH, uid)


def is_asked_for(type_: str, *, found: bool) -> bool:
    """Whether that is to be looked at."""
    return type_ == STUDY_TYPE and not found
