"""Rules of active Consents, written and removed in the transaction that writes the Consent, whichever door it came by."""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select, update

from profiles.smart.consent import Directive, read
from server.records import belonging, epoch
from server.store.tables import ConsentRule, ConsentTerm

RULE = ConsentRule.__table__  # type: ignore[attr-defined]
TERM = ConsentTerm.__table__  # type: ignore[attr-defined]
CONSENT: Final = "Consent"


def changed(connection: Connection, pk: int, consent: Mapping[str, Any] | None, *, base: str = "") -> None:
    """The Consent of the row `pk` of `resource` is this one now; None: it was deleted. Whoever asks next is judged by it.

    `base` is our FHIR base URL.
    """
    held = select(RULE.c.pk).where(RULE.c.consent == pk)
    had = connection.execute(held.limit(1)).first() is not None
    if had:
        connection.execute(delete(TERM).where(TERM.c.rule.in_(held)))
        connection.execute(delete(RULE).where(RULE.c.consent == pk))
    directive = Directive() if consent is None else read(consent, base)
    if directive.rules:
        _add(connection, pk, directive)
    if had or directive.rules:
        epoch.raise_(connection)


def moved(connection: Connection, former: str, patient: str) -> None:
    """The Patient of the id `former` was merged into `patient`: what she consented to is about all of that patient's."""
    connection.execute(update(RULE).where(RULE.c.patient == former).values(patient=patient))
    epoch.raise_(connection)


def _add(connection: Connection, consent: int, directive: Directive) -> None:
    patient = belonging.replaced_by(connection, directive.patient) or directive.patient
    pks: list[int] = []
    for rule in directive.rules:
        row = {
            "consent": consent, "patient": patient, "denies": int(rule.denies), "parent": None if rule.parent is None else pks[rule.parent],
            "parts": len(rule.parts), "begins": rule.begins, "ends": rule.ends,
        }  # fmt: skip
        pks.append(int(connection.execute(insert(RULE).values(row).returning(RULE.c.pk)).scalar_one()))
    terms = [
        {"rule": pk, "part": part, "kind": term.kind.value, "value": term.value, "low": term.low, "high": term.high}
        for pk, rule in zip(pks, directive.rules, strict=True)
        for part, alternatives in enumerate(rule.parts)
        for term in alternatives
    ]
    if terms:
        connection.execute(insert(TERM), [{**each, "number": number} for number, each in enumerate(terms)])
