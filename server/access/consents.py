"""What consents withhold from whom, as SQL over the rows of resources.

The rules are rows themselves (`records.consent_rules`), so that a Consent acts on the next request of every process, and one statement
serves those who may see every patient. A rule denies where it applies and none of its exceptions does; of one patient's Consents any denial wins.
Where none denies, it is for the setting `consent_default` whether a permission is needed.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from sqlalchemy import ColumnElement, Connection, FromClause, and_, distinct, exists, false, func, literal, or_, select, true

from profiles.r4.search import compartment, parameters
from profiles.smart.consent import ACT_CODE, LEVELS, WHO, Kind
from profiles.vocabulary import CONFIDENTIALITY_SYSTEM, DICOM_UID_SYSTEM
from server.records import index_keys as keys
from server.records.catalogue import SERIES, STUDY
from server.records.consent_rules import RULE, TERM
from server.records.fhir_search.matches import ResourceRow, Whose
from server.records.fhir_search.references import OF_ONE_PATIENT
from server.records.fhir_search.terms import COMPARTMENT, REFERENCE, RESOURCE, TEXT
from server.records.identities import IDENTITY
from server.records.parameters import EVERY
from server.store.db import micros
from server.store.tables import DocumentEntry, Reindexing

_DOCUMENT: Final = DocumentEntry.__table__  # type: ignore[attr-defined]
TREATMENT: Final = "TREAT"
BREAK_GLASS: Final = "BTG"
_USUAL: Final = frozenset({TREATMENT, "ETREAT", "HPAYMT", "HOPERAT", BREAK_GLASS})
"""Purposes that need no consent where the setting says so; others always do."""
_WRITERS: Final = (
    "author", "performer", "recorder", "asserter", "requester", "results-interpreter", "interpreter", "authenticator", "sender",
)  # fmt: skip
"""Search parameters that say who has written a resource."""
_LISTED: Final = "_security" + keys.LISTED
_REINDEXING: Final = Reindexing.__table__  # type: ignore[attr-defined]
_OF_COLUMNS: Final = frozenset(kind.value for kind in (*WHO, Kind.TYPE, Kind.INSTANCE, Kind.OVERLAPS, Kind.WITHIN))
"""Kinds of conditions that need no rows of searches."""
_Test = ColumnElement[bool]


@dataclass(frozen=True, slots=True)
class Withheld:
    """What consents keep from one caller. `permits`: what no Consent speaks of may be told. `kinds` are of the conditions that rules have."""

    actors: frozenset[str] = frozenset()
    purposes: frozenset[str] = frozenset()
    permits: bool = True
    kinds: frozenset[str] | None = None
    """None: there are no rules at all that could concern the caller."""
    opened: frozenset[str] = frozenset()
    """Patients of whom nothing is withheld: whose glass was broken."""

    @property
    def is_nothing(self) -> bool:
        return self.permits and self.kinds is None

    def told(self, type_: str, row: ResourceRow, series: ColumnElement[str] | None = None) -> _Test:
        """Whether the resource, of this type, may be told; with `series`, of an ImagingStudy, whether that series of it may.

        The manifest of a study, which lists all that it has, is for whoever may know the whole study.
        """
        if isinstance(row, Whose):
            return self.untouched(type_, row)
        own = self._told(type_, row, series)
        if type_ != "DocumentReference":
            return own
        study, led = RESOURCE.alias(), REFERENCE.alias()
        manifest = _some([_DOCUMENT], _DOCUMENT.c.entry_uuid == "urn:uuid:" + row.c.id)
        hidden = _some(
            [led, study], led.c.resource_pk == row.c.pk, led.c.target_type == "ImagingStudy", study.c.type == "ImagingStudy",
            study.c.id == led.c.target_id, ~self._told("ImagingStudy", study, None),
        )  # fmt: skip
        return and_(own, ~and_(manifest, hidden))

    def untouched(self, type_: str, row: ResourceRow) -> _Test:
        """Whether no Consent keeps anything of the resource's patient from the caller, whatever the resource is."""

        def of(rules: _Rules) -> _Test:
            found = ~rules.some(lambda rule: and_(rule.c.denies == 1, rules.applies(rule, rules.to_anything)))
            if self.permits:
                return found
            return and_(found, rules.some(lambda rule: and_(rule.c.denies == 0, rules.applies(rule, rules.to_caller))))

        return self._of_each(type_, row, of)

    def _told(self, type_: str, row: FromClause, series: ColumnElement[str] | None) -> _Test:
        about = _About(self.kinds or frozenset(), type_, row, series)

        def of(rules: _Rules) -> _Test:
            def applies(rule: FromClause) -> _Test:
                return rules.applies(rule, lambda term: or_(rules.to_caller(term), about.test(term)))

            def denies(rule: FromClause) -> _Test:
                exception = RULE.alias()
                excepted = _some([exception], exception.c.parent == rule.c.pk, applies(exception))
                return and_(rule.c.denies == 1, applies(rule), ~excepted)

            found = ~rules.some(denies)
            return found if self.permits else and_(found, rules.some(lambda rule: and_(rule.c.denies == 0, applies(rule))))

        told = self._of_each(type_, row, of)
        if not about.looks_at_rows:
            return told
        return and_(told, or_(is_indexed(type_), self.untouched(type_, row)))

    def _of_each(self, type_: str, row: ResourceRow, of: "Callable[[_Rules], _Test]") -> _Test:
        """Whether the rules of everybody whose the resource is let it be told. Of what is nobody's nothing is withheld."""

        def let(patient: ColumnElement[str]) -> _Test:
            if self.kinds is None:
                return true() if self.permits else false()
            return of(_Rules(self, patient))

        opened = sorted(("", *self.opened))
        if isinstance(row, Whose):
            return or_(row.patient.in_(opened), let(row.patient))
        if type_ != "Patient" and type_ not in compartment("Patient"):
            return true()
        if type_ == "Patient" or type_ in OF_ONE_PATIENT:
            return or_(row.c.patient.in_(opened), let(row.c.patient))
        within = COMPARTMENT.alias()  # of several patients: the row then names none
        not_of_one = _some(
            [within], within.c.resource_pk == row.c.pk, within.c.name == "Patient", within.c.id.not_in(opened), ~let(within.c.id)
        )
        by_itself = or_(row.c.patient.in_(sorted(self.opened)), let(row.c.patient))
        return or_(and_(row.c.patient != "", by_itself), and_(row.c.patient == "", ~not_of_one))


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
) -> Withheld:
    """What consents keep from somebody who is known by `actors`, in the records of `patients` (None: of every one).

    Not of somebody who asks for own records or those of whom she is a proxy. `permits` is the setting `consent_default`. Who
    declares no purpose treats. Break-glass (purpose BTG) is for practitioners, and for the `patient` of the token's context alone: of her
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
    there = select(*(exists().where(TERM.c.kind == kind.value).label(kind.name) for kind in Kind))
    row = connection.execute(there).one()
    kinds = frozenset(kind.value for kind, found in zip(Kind, row, strict=True) if found)
    return Withheld(actors, declared, usual, kinds, opened)


# --- rules


def is_indexed(type_: str) -> _Test:
    """Whether all rows of searches of a type are there: after an update of the server they are made anew, and what is not found says nothing."""
    return ~_some([_REINDEXING], _REINDEXING.c.type == type_, _REINDEXING.c.codes == EVERY)


def _some(own: Sequence[FromClause], *tests: _Test) -> _Test:
    """There are such rows of `own`; all else that is named is of the statements around it."""
    return select(literal(1)).select_from(*own).where(*tests).correlate_except(*own).exists()


class _Rules:
    """The rules of a patient that are in force."""

    def __init__(self, held: Withheld, patient: ColumnElement[str]) -> None:
        self._held, self._patient, self._now = held, patient, micros()

    def some(self, test: Callable[[FromClause], _Test]) -> _Test:
        """One of them meets the test."""
        rule = RULE.alias()
        return _some([rule], rule.c.patient == self._patient, test(rule))

    def applies(self, rule: FromClause, meets: Callable[[FromClause], _Test]) -> _Test:
        """Each part of the rule has a term that `meets`."""
        term = TERM.alias()
        parts = select(func.count(distinct(term.c.part))).where(term.c.rule == rule.c.pk, meets(term)).correlate_except(term)
        return and_(rule.c.begins <= self._now, rule.c.ends > self._now, rule.c.parts == parts.scalar_subquery())

    def to_caller(self, term: FromClause) -> _Test:
        return or_(
            and_(term.c.kind == Kind.ACTOR.value, term.c.value.in_(sorted(self._held.actors))),
            and_(term.c.kind == Kind.PURPOSE.value, term.c.value.in_(sorted(self._held.purposes))),
        )

    def to_anything(self, term: FromClause) -> _Test:
        """To this caller, of whatever resource."""
        return or_(self.to_caller(term), term.c.kind.not_in([kind.value for kind in WHO]))


# --- conditions on the resource


@dataclass(frozen=True, slots=True)
class _About:
    kinds: frozenset[str]
    type: str
    row: FromClause
    series: ColumnElement[str] | None

    @property
    def looks_at_rows(self) -> bool:
        """Whether there are conditions on what the resource is found by."""
        return not self.kinds <= _OF_COLUMNS

    def test(self, term: FromClause) -> _Test:
        """Whether a term is true of the resource."""
        tests: dict[Kind, Callable[[FromClause], _Test]] = {
            Kind.TYPE: lambda term: term.c.value == self.type,
            Kind.INSTANCE: lambda term: term.c.value == self._name,
            Kind.REFERRED: self._referred,
            Kind.REFERRING: self._referring,
            Kind.AUTHOR: self._author,
            Kind.SOME_IMAGES: self._some_images,
            Kind.ALL_IMAGES: self._all_images,
            Kind.CODE: self._code,
            Kind.LABEL: lambda term: self._labelled(lambda label: label == term.c.value),
            Kind.AT_LEAST: self._at_least,
            Kind.AT_MOST: self._at_most,
            Kind.OVERLAPS: lambda term: or_(
                self._undated, and_(self.row.c.date < term.c.high, self.row.c.date_end > term.c.low)
            ),
            Kind.WITHIN: lambda term: and_(
                ~self._undated, self.row.c.date >= term.c.low, self.row.c.date_end <= term.c.high
            ),
        }  # fmt: skip
        there = (kind for kind in tests if kind.value in self.kinds)
        return or_(false(), *(and_(term.c.kind == kind.value, tests[kind](term)) for kind in there))

    @property
    def _name(self) -> ColumnElement[str]:
        return literal(f"{self.type}/") + self.row.c.id

    @property
    def _undated(self) -> _Test:
        return and_(self.row.c.date == 0, self.row.c.date_end == 0)

    def _referred(self, term: FromClause) -> _Test:
        led, whence = REFERENCE.alias(), RESOURCE.alias()
        return _some(
            [led, whence], led.c.target_type == self.type, led.c.target_id == self.row.c.id, led.c.resource_pk == whence.c.pk,
            term.c.value == whence.c.type + "/" + whence.c.id,
        )  # fmt: skip

    def _leads(self, term: FromClause, *tests: Callable[[FromClause], _Test]) -> _Test:
        led = REFERENCE.alias()
        return _some(
            [led], led.c.resource_pk == self.row.c.pk, term.c.value == led.c.target_type + "/" + led.c.target_id, *(each(led) for each in tests)
        )  # fmt: skip

    def _referring(self, term: FromClause) -> _Test:
        return self._leads(term)

    def _author(self, term: FromClause) -> _Test:
        offered = parameters(self.type)
        hashes = [keys.parameter_hash(self.type, each) for each in _WRITERS if each in offered and offered[each].type == "reference"]
        return self._leads(term, lambda led: led.c.parameter.in_(hashes))

    def _of_study(self, term: FromClause) -> _Test:
        named = IDENTITY.alias()
        return _some(
            [named], named.c.type == "ImagingStudy", named.c.system == DICOM_UID_SYSTEM, named.c.value == "urn:oid:" + term.c.value,
            named.c.resource_pk == self.row.c.pk,
        )  # fmt: skip

    def _has_series(self, term: FromClause) -> _Test:
        """By the catalogue, or by what a client says whose study is not in it."""
        study, series, said = STUDY.alias(), SERIES.alias(), TEXT.alias()
        catalogued = _some([study, series], study.c.id == self.row.c.id, series.c.study_pk == study.c.pk, series.c.uid == term.c.value)
        parameter = keys.parameter_hash("ImagingStudy", "series" + keys.CODE)
        written = _some(
            [said], said.c.resource_pk == self.row.c.pk, said.c.parameter == parameter, said.c.exact.in_([term.c.value, "urn:oid:" + term.c.value])
        )  # fmt: skip
        return or_(catalogued, written)

    def _some_images(self, term: FromClause) -> _Test:
        if self.type != "ImagingStudy" or self.series is not None:
            return self._all_images(term)
        return or_(self._of_study(term), self._has_series(term))

    def _all_images(self, term: FromClause) -> _Test:
        if self.type != "ImagingStudy":
            return false()
        return self._of_study(term) if self.series is None else or_(self._of_study(term), self.series == term.c.value)

    def _code(self, term: FromClause) -> _Test:
        """Codes of status and the like are nobody's secret, but are the same to an index."""
        row = TEXT.alias()
        hashes = [keys.parameter_hash(self.type, each.code + keys.CODE) for each in parameters(self.type).values() if each.type == "token"]
        return _some([row], row.c.resource_pk == self.row.c.pk, row.c.parameter.in_(hashes), row.c.exact == term.c.value)

    def _labelled(self, test: Callable[[ColumnElement[str]], _Test]) -> _Test:
        row = TEXT.alias()
        return _some(
            [row], row.c.resource_pk == self.row.c.pk, row.c.parameter == keys.parameter_hash(self.type, _LISTED), test(row.c.exact)
        )

    def _is_at_least(self, level: str) -> _Test:
        """What has no confidentiality is N, or R where it has a label of sensitivity."""
        marks = [f"{CONFIDENTIALITY_SYSTEM}|{each}" for each in LEVELS]
        least = LEVELS.index(level)
        found = self._labelled(lambda label: label.in_(marks[least:]))
        if least > LEVELS.index("R"):
            return found
        unmarked = ~self._labelled(lambda label: label.in_(marks))
        if least <= LEVELS.index("N"):
            return or_(found, unmarked)
        prefix = f"{ACT_CODE}|"
        return or_(found, and_(unmarked, self._labelled(lambda label: func.substr(label, 1, len(prefix)) == prefix)))

    def _at_least(self, term: FromClause) -> _Test:
        return or_(*(and_(term.c.value == level, self._is_at_least(level)) for level in LEVELS))

    def _at_most(self, term: FromClause) -> _Test:
        below = (and_(term.c.value == level, ~self._is_at_least(more)) for level, more in pairwise(LEVELS))
        return or_(term.c.value == LEVELS[-1], *below)
