"""What consents withhold from whom, as SQL over the rows of resources.

The rules are rows themselves (`records.consent_rules`), so that a Consent acts on the next request of every process, and one statement
serves those who may see every patient. A rule denies where it applies and none of its exceptions does; of one patient's Consents any denial wins.
Where none denies, it is for the setting `consent_default` whether a permission is needed.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, Connection, exists, select

from profiles.smart.consent_terms import Kind
from server.access import consent_sql
from server.access.consent_sql import Asking
from server.records import belonging
from server.records.fhir_search.matches import ResourceRow, Whose
from server.store.consent_rows import RULE, TERM

TREATMENT: Final = "TREAT"
BREAK_GLASS: Final = "BTG"
_USUAL: Final = frozenset({TREATMENT, "ETREAT", "HPAYMT", "HOPERAT", BREAK_GLASS})
"""Purposes that need no consent where the setting says so; others always do."""
_FOR_ANOTHER: Final = frozenset({"PATRQT", "FAMRQT", "PWATRNY", TREATMENT})
"""What a proxy asks for: what patient, family or whoever has the power of attorney requests; and the patient's care."""


@dataclass(frozen=True, slots=True)
class Withheld:
    """What consents keep from one caller. `permits`: what no Consent speaks of may be told. `kinds` are of the conditions that rules have."""

    actors: frozenset[str] = frozenset()
    purposes: frozenset[str] = frozenset()
    permits: bool = True
    kinds: frozenset[str] | None = None
    """None: there are no rules at all that could concern the caller."""
    opened: frozenset[str] = frozenset()
    """Patients of whom nothing is withheld: whose glass was broken, or who asks for own records."""
    named: bool = False
    """Whether only denials count that are for named actors: a proxy stands in the patient's place, but for what the patient keeps from that one.

    Who is named and not known may be anybody.
    """
    is_unknown: bool = False
    """Whether it is not known who asks, so that a denial for named actors may be for this one."""

    @property
    def is_nothing(self) -> bool:
        return self.permits and self.kinds is None

    def told(self, type_: str, row: ResourceRow, series: ColumnElement[str] | None = None) -> ColumnElement[bool]:
        """Whether the resource, of this type, may be told; with `series`, the UID of one of an ImagingStudy, whether that series of it may."""
        if isinstance(row, Whose) or self.kinds is None:
            return self.untouched(type_, row)
        return consent_sql.told(self._asking, type_, row, series)

    def untouched(self, type_: str, row: ResourceRow) -> ColumnElement[bool]:
        """Whether no Consent keeps anything of the resource's patient from the caller, whatever the resource is."""
        return (consent_sql.unspoken if self.kinds is None else consent_sql.untouched)(self._asking, type_, row)

    @property
    def _asking(self) -> Asking:
        return Asking(
            tuple(sorted(self.actors)), tuple(sorted(self.purposes)), self.permits, self.kinds or frozenset(), tuple(sorted(self.opened)),
            self.named, self.is_unknown,
        )  # fmt: skip


NOTHING: Final = Withheld()


def withheld(
    connection: Connection,
    *,
    user: str,
    actors: frozenset[str],
    purposes: frozenset[str],
    patients: Collection[str] | None,
    patient: str | None = None,
    permits: bool,
    is_unknown: bool = False,
) -> Withheld:
    """What consents keep from somebody who is known by `actors`, in the records of `patients` (None: of every one).

    Not of somebody who asks for own records, or as a proxy (`withheld_from_proxy`). `permits` is the setting `consent_default`. Who
    declares no purpose treats. With `is_unknown` it is somebody of whom no reference is known by which a Consent names people: then a denial holds them
    whomever it names, and a permission for named actors does not serve them. Break-glass (purpose BTG) is for practitioners, and for the `patient` of the token's context alone: of her
    nothing is withheld then.
    """
    opened = frozenset[str]()
    if BREAK_GLASS in purposes and patient and user.startswith(("Practitioner/", "PractitionerRole/")):
        opened = frozenset({patient})
    if opened and patients is not None and opened.issuperset(patients):
        return NOTHING
    declared = purposes - {BREAK_GLASS} or frozenset({TREATMENT})
    rules = select(RULE.c.pk)
    if patients is not None:
        rules = rules.where(RULE.c.patient.in_(sorted(patients)))
    usual = permits and declared <= _USUAL
    if connection.execute(rules.limit(1)).first() is None:
        return Withheld(permits=usual, opened=opened) if not usual else NOTHING
    return Withheld(actors, declared, usual, _kinds(connection), opened, is_unknown=is_unknown)


def withheld_from_proxy(connection: Connection, *, user: str, patients: Collection[str], own: frozenset[str]) -> Withheld:
    """What consents of `patients`, but for those who are the person's `own`, keep from `user` by name: a teenager's from a parent.

    `user` may be empty, for a proxy whom no Consent can name.
    """
    if own.issuperset(patients):
        return NOTHING
    own = own.union(*(belonging.same(connection, each) for each in own))
    named = select(RULE.c.pk).where(RULE.c.patient.in_(sorted(set(patients) - own)), RULE.c.denies == 1, RULE.c.names_some == 1)
    if connection.execute(named.limit(1)).first() is None:
        return NOTHING
    return Withheld(frozenset({user} if user else ()), _FOR_ANOTHER, kinds=_kinds(connection), opened=own, named=True)


def _kinds(connection: Connection) -> frozenset[str]:
    """The kinds of conditions that there are."""
    there = select(*(exists().where(TERM.c.kind == kind.value).label(kind.name) for kind in Kind))
    row = connection.execute(there).one()
    return frozenset(kind.value for kind, found in zip(Kind, row, strict=True) if found)
