"""Who asks for images on our pages, and how that gets into the trail. `visit.person` and browsers with access codes look at the same pages."""

import secrets
from collections.abc import Collection
from typing import Final

from sqlalchemy import Connection

from profiles.audit_event import RAD_107, REST_SEARCH, AuditedEntity
from server.edges import context
from server.edges.pages.browser import Visit
from server.work.portal.claiming import Asking
from server.work.portal.reading import Reader
from server.work.portal.studies import SeenStudy

CLAIM: Final = "claim"
"""The cookie of a browser that has claimed access codes."""
CLAIM_SECONDS: Final = 30 * 86_400


def asking(visit: Visit) -> Asking:
    """Who claims, or has claimed; the browser keeps something for it from now on."""
    claimant = visit.kept(CLAIM)
    if not claimant:
        visit.keep(CLAIM, claimant := secrets.token_urlsafe(32), CLAIM_SECONDS)
    return Asking(claimant, visit.address, context.request_id(visit.request))


def readers(visit: Visit, connection: Connection) -> tuple[Reader, ...]:
    """As whom the visitor may look: by own right, and by the access codes that the browser has claimed. The first is who the trail names."""
    held = visit.node.claiming.held(connection, visit.kept(CLAIM))
    found = [Reader(visit.holding(connection, each), each) for each in held]
    if visit.session is not None:
        found.insert(0, Reader(visit.decided(connection)))
    if found:
        context.trusted(visit.request, found[0].decision)
    return tuple(found)


def told_list(visit: Visit, found: Collection[SeenStudy], what: bytes = b"ImagingStudy") -> None:
    """A list of studies, in the trail of each patient in it, before it is sent."""
    context.told(
        visit.request,
        "query",
        REST_SEARCH,
        patients={each.patient for each in found},
        entities=(AuditedEntity(query=what),),
        rest=False,
    )


def told_study(visit: Visit, reader: Reader, study: SeenStudy, what: str) -> None:
    """One study of which `what` is shown, such as `page` or `picture`, in the trail before it is sent."""
    context.trusted(visit.request, reader.decision)
    entity = AuditedEntity(reference=f"ImagingStudy/{study.id}", details=(("shown", what),))
    context.told(visit.request, "read", RAD_107, patients=[study.patient], entities=(entity,), rest=False)
