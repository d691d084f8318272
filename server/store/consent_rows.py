"""The rows of what a Consent comes to: written whenever it is (`records.consent_rules`), and by the migration that made the tables."""

from collections.abc import Iterable

from sqlalchemy import Connection, insert

from profiles.smart.consent import Directive
from server.store.tables import ConsentRule, ConsentTerm

RULE = ConsentRule.__table__  # type: ignore[attr-defined]
TERM = ConsentTerm.__table__  # type: ignore[attr-defined]


def add(connection: Connection, consent: int, patients: Iterable[str], directive: Directive) -> None:
    """Rules for the records of each of `patients` (resource ids), of the Consent that is the row `consent` of `resource`."""
    for patient in sorted(patients):
        _add_of(connection, consent, patient, directive)


def _add_of(connection: Connection, consent: int, patient: str, directive: Directive) -> None:
    pks: list[int] = []
    for rule in directive.rules:
        row = {
            "consent": consent, "patient": patient, "denies": int(rule.denies), "names_some": int(rule.names_some), "parent": None if rule.parent is None else pks[rule.parent],
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
