"""What consents withhold, as SQL: rules (`records.consent_rules`) held against the row of a resource.

A rule denies where it applies and none of its exceptions does; it applies where each of its parts has a term that is true, of the caller or of
the resource. What has to be written for that is long, so it is written once for each type and kind of caller, as text with places for who it is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, FromClause, String, and_, bindparam, distinct, false, func, literal, literal_column, or_, select, text, true
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.sql.elements import True_

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
_REINDEXING: Final = Reindexing.__table__  # type: ignore[attr-defined]
_WRITERS: Final = (
    "author", "performer", "recorder", "asserter", "requester", "results-interpreter", "interpreter", "authenticator", "sender",
)  # fmt: skip
"""Search parameters that say who has written a resource."""
_LISTED: Final = "_security" + keys.LISTED
_OF_COLUMNS: Final = frozenset(kind.value for kind in (*WHO, Kind.TYPE, Kind.INSTANCE, Kind.OVERLAPS, Kind.WITHIN))
"""Kinds of conditions that need no rows of searches."""
_HERE: Final = RESOURCE.alias("consent_row")
_SERIES: Final = SERIES.alias("consent_series")
_Test = ColumnElement[bool]


@dataclass(frozen=True, slots=True)
class Asking:
    """Who asks, by what rules can look at: `kinds` are those of the conditions that there are. `permits`: what no rule speaks of may be told."""

    actors: tuple[str, ...]
    purposes: tuple[str, ...]
    permits: bool
    kinds: frozenset[str]
    opened: tuple[str, ...] = ()
    """Patients of whom nothing is withheld."""


def told(asking: Asking, type_: str, row: FromClause, series: ColumnElement[str] | None = None) -> _Test:
    """Whether the resource, of this type, may be told; with `series`, the UID of one of an ImagingStudy, whether that series of it may.

    The manifest of a study, which lists all that it has, is for whoever may know the whole study.
    """
    shape = (asking.permits, asking.kinds, len(asking.actors), len(asking.purposes), len(asking.opened))
    written = _written(type_, series is not None, *shape)
    if not written:
        return true()
    values: dict[str, Any] = {"consent_now": micros()}
    for name, given in (("actor", asking.actors), ("purpose", asking.purposes), ("opened", asking.opened)):
        values |= {f"consent_{name}_{place}": value for place, value in enumerate(given)}
    binds = (bindparam(name, value, BigInteger() if name == "consent_now" else String()) for name, value in values.items() if f":{name}" in written)
    own: list[FromClause] = [_HERE]
    tests: list[_Test] = [_HERE.c.pk == row.c.pk]
    if series is not None:
        own.append(_SERIES)
        tests.append(_SERIES.c.uid == series)
    tests.append(text(written).bindparams(*binds))  # type: ignore[arg-type]
    return _some(own, *tests)


@lru_cache(maxsize=2048)
def _written(type_: str, of_series: bool, permits: bool, kinds: frozenset[str], actors: int, purposes: int, opened: int) -> str:
    """The test over `consent_row`, and `consent_series`; empty where it is always true."""

    def places(name: str, count: int) -> list[ColumnElement[str]]:
        return [literal_column(f":consent_{name}_{place}", String()) for place in range(count)]

    rules = _Rules(places("actor", actors), places("purpose", purposes), places("opened", opened), literal_column(":consent_now", BigInteger()), permits)
    made = _Telling(rules, kinds).told(type_, _HERE, _SERIES.c.uid if of_series else None)
    if isinstance(made, True_):
        return ""
    return str(made.compile(dialect=DefaultDialect(), compile_kwargs={"literal_binds": True}))


def untouched(asking: Asking, type_: str, row: ResourceRow) -> _Test:
    """Whether no Consent keeps anything of the resource's patient from the caller, whatever the resource is."""
    literals = [[literal(each) for each in some] for some in (asking.actors, asking.purposes, asking.opened)]
    rules = _Rules(*literals, literal(micros(), BigInteger()), asking.permits)
    return rules.of_each(type_, row, rules.leaves_alone)


def unspoken(asking: Asking, type_: str, row: ResourceRow) -> _Test:
    """Whether the resource may be told where nobody has consented to anything."""
    rules = _Rules([], [], [literal(each) for each in asking.opened], literal(0), asking.permits)
    return rules.of_each(type_, row, lambda _: true() if asking.permits else false())


def is_indexed(type_: str) -> _Test:
    """Whether all rows of searches of a type are there: after an update of the server they are made anew, and what is not found says nothing."""
    return ~_some([_REINDEXING], _REINDEXING.c.type == type_, _REINDEXING.c.codes == EVERY)


def _some(own: Sequence[FromClause], *tests: _Test) -> _Test:
    """There are such rows of `own`; all else that is named is of the statements around it."""
    return select(literal_column("1")).select_from(*own).where(*tests).correlate_except(*own).exists()


# --- rules


@dataclass(frozen=True, slots=True)
class _Rules:
    """Rules that are in force, as they concern one caller."""

    actors: Sequence[ColumnElement[str]]
    purposes: Sequence[ColumnElement[str]]
    opened: Sequence[ColumnElement[str]]
    now: ColumnElement[int]
    permits: bool

    def of_each(self, type_: str, row: ResourceRow, let: Callable[[ColumnElement[str]], _Test]) -> _Test:
        """Whether everybody whose the resource is lets it be told. Of what is nobody's nothing is withheld."""
        nobody = literal_column("''", String())
        if isinstance(row, Whose):
            return or_(row.patient.in_([nobody, *self.opened]), let(row.patient))
        if type_ != "Patient" and type_ not in compartment("Patient"):
            return true()
        if type_ == "Patient" or type_ in OF_ONE_PATIENT:
            return or_(row.c.patient.in_([nobody, *self.opened]), let(row.c.patient))
        within = COMPARTMENT.alias()  # of several patients: the row then names none
        not_of_one = _some(
            [within], within.c.resource_pk == row.c.pk, within.c.name == "Patient", within.c.id.not_in([nobody, *self.opened]),
            ~let(within.c.id),
        )  # fmt: skip
        by_itself = or_(*(row.c.patient == each for each in self.opened), let(row.c.patient))
        return or_(and_(row.c.patient != nobody, by_itself), and_(row.c.patient == nobody, ~not_of_one))

    def some(self, patient: ColumnElement[str], test: Callable[[FromClause], _Test]) -> _Test:
        """One of a patient's rules meets the test."""
        rule = RULE.alias()
        return _some([rule], rule.c.patient == patient, test(rule))

    def applies(self, rule: FromClause, meets: Callable[[FromClause], _Test]) -> _Test:
        """Each part of the rule has a term that `meets`."""
        term = TERM.alias()
        parts = select(func.count(distinct(term.c.part))).where(term.c.rule == rule.c.pk, meets(term)).correlate_except(term)
        return and_(rule.c.begins <= self.now, rule.c.ends > self.now, rule.c.parts == parts.scalar_subquery())

    def leaves_alone(self, patient: ColumnElement[str]) -> _Test:
        """No rule could deny the caller anything of the patient's."""
        found = ~self.some(patient, lambda rule: and_(rule.c.denies == 1, self.applies(rule, self.to_anything)))
        if self.permits:
            return found
        return and_(found, self.some(patient, lambda rule: and_(rule.c.denies == 0, self.applies(rule, self.to_caller))))

    def to_caller(self, term: FromClause) -> _Test:
        return or_(
            and_(term.c.kind == Kind.ACTOR.value, term.c.value.in_(self.actors)),
            and_(term.c.kind == Kind.PURPOSE.value, term.c.value.in_(self.purposes)),
        )

    def to_anything(self, term: FromClause) -> _Test:
        """To this caller, of whatever resource."""
        return or_(self.to_caller(term), term.c.kind.not_in([kind.value for kind in WHO]))


@dataclass(frozen=True, slots=True)
class _Telling:
    """The test of a resource's row."""

    rules: _Rules
    kinds: frozenset[str]

    def told(self, type_: str, row: FromClause, series: ColumnElement[str] | None) -> _Test:
        own = self._own(type_, row, series)
        if type_ != "DocumentReference":
            return own
        study, led = RESOURCE.alias(), REFERENCE.alias()
        manifest = _some([_DOCUMENT], _DOCUMENT.c.entry_uuid == "urn:uuid:" + row.c.id)
        hidden = _some(
            [led, study], led.c.resource_pk == row.c.pk, led.c.target_type == "ImagingStudy", study.c.type == "ImagingStudy",
            study.c.id == led.c.target_id, ~self._own("ImagingStudy", study, None),
        )  # fmt: skip
        return and_(own, ~and_(manifest, hidden))

    def _own(self, type_: str, row: FromClause, series: ColumnElement[str] | None) -> _Test:
        about, rules = _About(self.kinds, type_, row, series), self.rules

        def applies(rule: FromClause) -> _Test:
            return rules.applies(rule, lambda term: or_(rules.to_caller(term), about.test(term)))

        def denies(rule: FromClause) -> _Test:
            exception = RULE.alias()
            excepted = _some([exception], exception.c.parent == rule.c.pk, applies(exception))
            return and_(rule.c.denies == 1, applies(rule), ~excepted)

        def let(patient: ColumnElement[str]) -> _Test:
            found = ~rules.some(patient, denies)
            permitted = rules.some(patient, lambda rule: and_(rule.c.denies == 0, applies(rule)))
            return found if rules.permits else and_(found, permitted)

        made = rules.of_each(type_, row, let)
        if self.kinds <= _OF_COLUMNS or isinstance(made, True_):
            return made
        return and_(made, or_(is_indexed(type_), rules.of_each(type_, row, rules.leaves_alone)))


# --- conditions on the resource


@dataclass(frozen=True, slots=True)
class _About:
    kinds: frozenset[str]
    type: str
    row: FromClause
    series: ColumnElement[str] | None

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
