"""Rules of active Consents, written and removed in the transaction that writes the Consent, whichever door it came by."""

from collections.abc import Mapping
from typing import Any, Final

import orjson
from sqlalchemy import Connection, delete, insert, select

from profiles.smart.consent import Directive, read
from server.records import belonging, epoch
from server.records.packing import unpacked
from server.store.tables import ConsentRule, ConsentTerm, Resource

RULE = ConsentRule.__table__  # type: ignore[attr-defined]
TERM = ConsentTerm.__table__  # type: ignore[attr-defined]
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
        _add(connection, pk, directive)
    if had or directive.rules:
        epoch.raise_(connection)


def merged(connection: Connection, patient: str) -> None:
    """Somebody was merged into the Patient of this id, or she into another: what one of them consented to is about the records of all."""
    consents = select(RULE.c.consent).where(RULE.c.patient.in_(belonging.same(connection, patient))).distinct()
    for row in connection.execute(
        select(_RESOURCE.c.pk, _RESOURCE.c.body, _RESOURCE.c.patient).where(_RESOURCE.c.pk.in_(consents))
    ).all():
        stored(connection, row.pk, bytes(row.body), row.patient)


def stored(connection: Connection, pk: int, body: bytes, patient: str) -> None:
    """As `changed`, of a Consent as it is kept."""
    changed(connection, pk, orjson.loads(unpacked(body)), patient)


def _add(connection: Connection, consent: int, directive: Directive) -> None:
    for patient in sorted(belonging.same(connection, directive.patient)):
        _add_of(connection, consent, patient, directive)


def _add_of(connection: Connection, consent: int, patient: str, directive: Directive) -> None:
    pks: list[int] = []
    for rule in directive.rules:
        row = {
            "consent": consent, "patient": patient, "denies": int(rule.denies), "parent": None if rule.parent is None else pks[rule.parent],
            "parts": len(rule.parts), "begins": rule.begins, "ends": rule.ends,
        }  # fmt: skip
        pks.append(int(connection.execute(insert(RULE).values(row).returning(RULE.c.pk)).scalar_one()))
    terms = [
        {
            "rule": pk, "part": part, "kind": term.kind.value, "type": term.type, "value": term.value, "low": term.low, "high": term.high,
        }
        for pk, rule in zip(pks, directive.rules, strict=True)
        for part, alternatives in enumerate(rule.parts)
        for term in alternatives
    ]  # fmt: skip
    if terms:
        connection.execute(insert(TERM), [{**each, "number": number} for number, each in enumerate(terms)])
