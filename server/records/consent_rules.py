"""Rules of active Consents, written and removed in the transaction that writes the Consent, whichever door it came by."""

from collections.abc import Mapping
from typing import Any, Final

import orjson
from sqlalchemy import Connection, delete, select

from profiles.smart.consent import Directive, read
from server.records import belonging, epoch
from server.records.packing import unpacked
from server.store import consent_rows
from server.store.consent_rows import RULE, TERM
from server.store.tables import Resource

_RESOURCE = Resource.__table__  # type: ignore[attr-defined]
CONSENT: Final = "Consent"


def changed(connection: Connection, pk: int, consent: Mapping[str, Any] | None, patient: str = "", *, base: str = "") -> None:
    """The Consent of the row `pk` of `resource` is this one now, of `patient`; None: it was deleted. Whoever asks next is judged by it.

    `base` is our FHIR base URL.
    """
    held = select(RULE.c.pk).where(RULE.c.consent == pk)
    had = connection.execute(held.limit(1)).first() is not None
    if had:
        connection.execute(delete(TERM).where(TERM.c.rule.in_(held)))
        connection.execute(delete(RULE).where(RULE.c.consent == pk))
    directive = Directive() if consent is None else read(consent, patient, base)
    if directive.rules:
        consent_rows.add(connection, pk, belonging.same(connection, directive.patient), directive)
    if had or directive.rules:
        epoch.raise_(connection)


def of_patient(connection: Connection, patient: str) -> list[str]:
    """The ids of the Consents of which there are rules for the records of this patient (a resource id)."""
    theirs = select(_RESOURCE.c.id).join(RULE, RULE.c.consent == _RESOURCE.c.pk).where(RULE.c.patient == patient)
    return sorted(connection.execute(theirs.distinct()).scalars())


def merged(connection: Connection, patient: str, *, base: str = "") -> None:
    """Somebody was merged into the Patient of this id, or she into another: what one of them consented to is about the records of all.

    `base` is our FHIR base URL.
    """
    consents = select(RULE.c.consent).where(RULE.c.patient.in_(belonging.same(connection, patient))).distinct()
    for row in connection.execute(
        select(_RESOURCE.c.pk, _RESOURCE.c.body, _RESOURCE.c.patient).where(_RESOURCE.c.pk.in_(consents))
    ).all():
        changed(connection, row.pk, orjson.loads(unpacked(bytes(row.body))), row.patient, base=base)
