"""Who looks at studies on our pages: somebody who is signed in, or a browser that has claimed access codes. Each with the Decision behind it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from server.access.decisions import Decision
from server.access.oauth.granting import Granted
from server.errors import NotFound
from server.work.portal import studies
from server.work.portal.studies import NO_STUDY, Place, SeenStudy


@dataclass(frozen=True, slots=True)
class Reader:
    """`granted` is that of an access code; absent for who is signed in."""

    decision: Decision
    granted: Granted | None = None


def listed(
    connection: Connection, readers: Sequence[Reader], *, before: Place | None = None, most: int = 25, patient: str = ""
) -> tuple[SeenStudy, ...]:
    """The newest studies of all that these may see, each once; of one patient if that is given."""
    found: dict[str, SeenStudy] = {}
    for each in readers:
        for one in studies.studies(connection, each.decision, patients=[patient] if patient else None, before=before, most=most):
            found.setdefault(one.id, one)
    return tuple(sorted(found.values(), key=lambda each: each.place, reverse=True)[:most])


def one(connection: Connection, readers: Sequence[Reader], id_: str) -> tuple[SeenStudy, Reader]:
    """The study, and who of them may see it. Raises `NotFound`, in the same words whether there is one."""
    for each in readers:
        try:
            return studies.study(connection, each.decision, id_), each
        except NotFound:
            continue
    raise NotFound(NO_STUDY)


Readers = Callable[[Connection], tuple[Reader, ...]]
