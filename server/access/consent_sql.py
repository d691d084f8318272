# ruff: noqa: S608 what goes into the text are names of R4, codes of this program and numbers; all else is bound
"""What consents withhold, as SQL: rules (`records.consent_rules`) held against the row of a resource.

A rule applies where each of its parts has a term that is true, of the caller or of the resource; it denies where it applies and none of its
exceptions does. The test is written as text, once for each type of resource and kind of caller, over the alias `consent_row`: to put it together
from expressions each time takes longer than the search that it is part of.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, FromClause, String, and_, bindparam, or_, select, text, true
from sqlalchemy import literal_column as written

from profiles.r4.search import parameters
from profiles.smart.consent_terms import LEVELS, WHO, Kind
from profiles.vocabulary import ACT_CODE, CONFIDENTIALITY_SYSTEM, DICOM_UID_SYSTEM, V3_SYSTEMS
from server.access.consent_whose import is_anybodys, is_by_rows, is_of_one, whose
from server.records import index_keys as keys
from server.records.catalogue import SERIES
from server.records.fhir_search.matches import ResourceRow, Whose
from server.records.fhir_search.terms import RESOURCE
from server.records.parameters import EVERY
from server.store.consent_rows import RULE
from server.store.db import micros

_WRITERS: Final = (
    "author", "performer", "recorder", "asserter", "requester", "results-interpreter", "interpreter", "authenticator", "sender",
)  # fmt: skip
"""Search parameters that say who has written a resource."""
_OF_COLUMNS: Final = frozenset((*WHO, Kind.TYPE, Kind.INSTANCE, Kind.OVERLAPS, Kind.WITHIN))
"""Kinds of conditions that need no rows of searches."""
_HERE: Final = RESOURCE.alias("consent_row")
_SERIES: Final = SERIES.alias("consent_series")
_RULE: Final = RULE.alias("consent_held")
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
    named: bool = False
    """Whether only denials count that are for named actors."""
    is_unknown: bool = False
    """Whether who asks may be anybody whom a denial names."""

    @property
    def free(self) -> list[str]:
        """Names of the values that `opened` are."""
        return [f":consent_opened_{place}" for place in range(len(self.opened))]

    @property
    def who(self) -> "_Who":
        return _Who(len(self.actors), len(self.purposes), self.is_unknown)

    def bound(self, statement: str) -> _Test:
        """A text with the values that it names."""
        values: dict[str, Any] = {"consent_now": micros()}
        for name, given in (("actor", self.actors), ("purpose", self.purposes), ("opened", self.opened)):
            values |= {f"consent_{name}_{place}": value for place, value in enumerate(given)}
        binds = [
            bindparam(name, value, BigInteger() if name == "consent_now" else String())
            for name, value in values.items()
            if f":{name}" in statement
        ]
        made: Any = text(statement).bindparams(*binds)
        found: _Test = made
        return found


@dataclass(frozen=True, slots=True)
class _Who:
    """How many values there are of a caller, and whether somebody is not known."""

    actors: int
    purposes: int
    is_unknown: bool

    def terms(self, rule: str) -> str:
        """The terms of a rule that are true of the caller. Of one who is not known a denial is for whomever it names, a permission is not."""
        found = ["1 = 0"]
        for kind, count in ((Kind.ACTOR, self.actors), (Kind.PURPOSE, self.purposes)):
            if count:
                places = ", ".join(f":consent_{kind.value}_{place}" for place in range(count))
                found.append(f"(t.kind = '{kind.value}' AND t.value IN ({places}))")
        if self.is_unknown:
            found.append(f"(t.kind = '{Kind.ACTOR.value}' AND {rule}.denies = 1)")
        return " OR ".join(found)


def told(asking: Asking, type_: str, row: FromClause, series: ColumnElement[str] | None = None) -> _Test:
    """Whether the resource, of this type, may be told; with `series`, the UID of one of an ImagingStudy, whether that series of it may.

    The manifest of a study, which lists all that it has, is for whoever may know the whole study.
    """
    if not is_anybodys(type_):
        return true()
    statement = _statement(type_, series is not None, asking.permits, asking.kinds, asking.named, asking.who, len(asking.opened))
    if series is None:
        return _some(_HERE, _HERE.c.pk == row.c.pk, asking.bound(statement))
    both = _HERE.join(_SERIES, true())
    return _some(both, _HERE.c.pk == row.c.pk, _SERIES.c.uid == series, asking.bound(statement))


def untouched(asking: Asking, type_: str, row: ResourceRow) -> _Test:
    """Whether no Consent keeps anything of the resource's patient from the caller, whatever the resource is."""
    who = asking.who.terms("consent_held")
    maybe = f"{who} OR t.kind NOT IN {_listed(WHO)}"
    denied = asking.bound(f"{_denies('consent_held', asking.named)} AND {_applies('consent_held', maybe)}")
    permitted = asking.bound(f"consent_held.denies = 0 AND {_applies('consent_held', who)}")

    def let(patient: ColumnElement[str]) -> _Test:
        found = ~_some(_RULE, _RULE.c.patient == patient, denied)
        return found if asking.permits else and_(found, _some(_RULE, _RULE.c.patient == patient, permitted))

    return _of_each(asking, type_, row, let)


def unspoken(asking: Asking, type_: str, row: ResourceRow) -> _Test:
    """Whether the resource may be told where nobody has consented to anything."""
    return _of_each(asking, type_, row, lambda _: true() if asking.permits else ~true())


def is_indexed(type_: str) -> _Test:
    """Whether all rows of searches of a type are there: after an update of the server they are made anew, and what is not found says nothing."""
    made: Any = text(f"({_indexed(type_)})")
    found: _Test = made
    return found


def _some(own: FromClause, *tests: _Test) -> _Test:
    """There are such rows of `own`; all else that is named is of the statements around it."""
    return select(written("1")).select_from(own).where(*tests).correlate_except(own).exists()


def _of_each(asking: Asking, type_: str, row: ResourceRow, let: Callable[[ColumnElement[str]], _Test]) -> _Test:
    """Whether everybody whose the resource is lets it be told: the row names the patient, or nobody where these are several."""
    free = ["", *asking.opened]
    if isinstance(row, Whose):
        return or_(row.patient.in_(free), let(row.patient))
    if not is_anybodys(type_):
        return true()
    if is_of_one(type_):
        return or_(row.c.patient.in_(free), let(row.c.patient))
    theirs: Any = asking.bound(f"({whose(type_, 'consent_row', asking.free)}) w")
    kept = select(written("1")).select_from(theirs).where(~let(written("w.patient"))).exists()
    return _some(_HERE, _HERE.c.pk == row.c.pk, ~kept, *([is_indexed(type_)] if is_by_rows(type_) else []))


# --- the test of a row, as text


@lru_cache(maxsize=2048)
def _statement(type_: str, of_series: bool, permits: bool, kinds: frozenset[str], named: bool, asking: _Who, opened: int) -> str:
    who, free = asking.terms("r"), [f":consent_opened_{place}" for place in range(opened)]
    own = _verdict(type_, "consent_row", of_series, permits, kinds, named, who, free)
    if type_ != "DocumentReference":
        return own
    study = _verdict("ImagingStudy", "consent_study", False, permits, kinds, named, who, free)
    return f"""{own} AND NOT (
  EXISTS (SELECT 1 FROM registry_object m WHERE m.entry_uuid = 'urn:uuid:' || consent_row.id AND m.origin = 'study')
  AND EXISTS (SELECT 1 FROM reference_value l JOIN resource consent_study ON consent_study.type = 'ImagingStudy' AND consent_study.id = l.target_id
    WHERE l.resource_pk = consent_row.pk AND l.target_type = 'ImagingStudy' AND NOT {study}))"""


def _verdict(
    type_: str, row: str, of_series: bool, permits: bool, kinds: frozenset[str], named: bool, who: str, free: Sequence[str]
) -> str:
    """True where no rule of a patient whose the row is denies, and one permits where that is needed."""
    terms = " OR ".join((who, *_about(type_, row, of_series, kinds)))
    permitted = """
  AND NOT EXISTS (SELECT 1 FROM whose w WHERE NOT EXISTS (SELECT 1 FROM applied p WHERE p.denies = 0 AND p.patient = w.patient))"""
    verdict = f"""(WITH whose(patient) AS ({whose(type_, row, free)}),
  applied(pk, parent, denies, names_some, patient) AS (
    SELECT r.pk, r.parent, r.denies, r.names_some, r.patient FROM whose w JOIN consent_rule r ON r.patient = w.patient WHERE {_applies("r", terms)})
  SELECT NOT EXISTS (SELECT 1 FROM applied d WHERE {_denies("d", named)} AND NOT EXISTS (SELECT 1 FROM applied e WHERE e.parent = d.pk)){"" if permits else permitted})"""
    if is_by_rows(type_):
        return f"({verdict} AND {_indexed(type_)})"
    if kinds <= {kind.value for kind in _OF_COLUMNS}:
        return verdict
    unsure = f"""SELECT 1 FROM ({whose(type_, row, free)}) w JOIN consent_rule r ON r.patient = w.patient WHERE {_denies("r", named)}
  AND {_applies("r", f"{who} OR t.kind NOT IN {_listed(WHO)}")}"""
    return f"({verdict} AND ({_indexed(type_)} OR NOT EXISTS ({unsure})))"


def _denies(rule: str, named: bool) -> str:
    return f"{rule}.denies = 1{f' AND {rule}.names_some = 1' if named else ''}"


def _applies(rule: str, terms: str) -> str:
    """The rule is in force, and each of its parts has a term that is true."""
    parts = f"SELECT count(DISTINCT t.part) FROM consent_term t WHERE t.rule = {rule}.pk AND ({terms})"
    return f"{rule}.begins <= :consent_now AND {rule}.ends > :consent_now AND {rule}.parts = ({parts})"


def _about(type_: str, row: str, of_series: bool, kinds: frozenset[str]) -> list[str]:
    """The terms that are true of the resource."""
    listed = keys.parameter_hash(type_, "_security" + keys.LISTED)
    labels = f"text_value v WHERE v.resource_pk = {row}.pk AND v.parameter = {listed}"
    led = f"reference_value l WHERE l.resource_pk = {row}.pk AND l.target_type = t.type AND l.target_id = t.value"
    dated = f"({row}.date <> 0 OR {row}.date_end <> 0)"
    tests: dict[Kind, str] = {
        Kind.TYPE: f"t.value = '{type_}'",
        Kind.INSTANCE: f"t.type = '{type_}' AND t.value = {row}.id",
        Kind.REFERRED: f"""EXISTS (SELECT 1 FROM resource f JOIN reference_value l ON l.resource_pk = f.pk
          WHERE f.type = t.type AND f.id = t.value AND l.target_type = '{type_}' AND l.target_id = {row}.id)""",
        Kind.REFERRING: f"EXISTS (SELECT 1 FROM {led})",
        Kind.AUTHOR: f"EXISTS (SELECT 1 FROM {led} AND l.parameter IN ({_hashes(type_, 'reference', '', _WRITERS)}))",
        Kind.CODE: f"""EXISTS (SELECT 1 FROM text_value v
          WHERE v.resource_pk = {row}.pk AND v.parameter IN ({_hashes(type_, "token", keys.CODE)}) AND v.exact = t.value)""",
        Kind.LABEL: f"EXISTS (SELECT 1 FROM {labels} AND v.exact IN ({_other_names('t.value')}))",
        Kind.AT_LEAST: f"{_level(labels)} >= t.low",
        Kind.AT_MOST: f"{_level(labels)} <= t.low",
        Kind.OVERLAPS: f"NOT ({dated} AND ({row}.date >= t.high OR {row}.date_end <= t.low))",
        Kind.WITHIN: f"{dated} AND {row}.date >= t.low AND {row}.date_end <= t.high",
        **(_images(row, of_series) if type_ == "ImagingStudy" else {}),
    }
    return [f"(t.kind = '{kind.value}' AND {test})" for kind, test in tests.items() if kind.value in kinds]


def _images(row: str, of_series: bool) -> dict[Kind, str]:
    """A Study Instance UID is of the whole. A Series Instance UID is of that series; of a study as a whole it is where some images are enough."""
    study = f"""EXISTS (SELECT 1 FROM identity i WHERE i.type = 'ImagingStudy' AND i.system = '{DICOM_UID_SYSTEM}'
      AND i.value = 'urn:oid:' || t.value AND i.resource_pk = {row}.pk)"""
    if of_series:
        return dict.fromkeys((Kind.SOME_IMAGES, Kind.ALL_IMAGES), f"({study} OR consent_series.uid = t.value)")
    said = keys.parameter_hash("ImagingStudy", "series" + keys.CODE)
    series = f"""EXISTS (SELECT 1 FROM study s JOIN series e ON e.study_pk = s.pk WHERE s.id = {row}.id AND e.uid = t.value)
      OR EXISTS (SELECT 1 FROM text_value v WHERE v.resource_pk = {row}.pk AND v.parameter = {said} AND v.exact IN (t.value, 'urn:oid:' || t.value))"""
    return {Kind.SOME_IMAGES: f"({study} OR {series})", Kind.ALL_IMAGES: study}


def _level(labels: str) -> str:
    """The place in `LEVELS` of the resource's confidentiality: what has none is N, or R where it has a label of sensitivity."""
    marks = " ".join(
        f"WHEN '{system}|{level}' THEN {place}"
        for system in V3_SYSTEMS[CONFIDENTIALITY_SYSTEM]
        for place, level in enumerate(LEVELS)
    )
    is_one = " OR ".join(f"substr(v.exact, 1, {len(each) + 1}) = '{each}|'" for each in V3_SYSTEMS[ACT_CODE])
    sensitive = f"CASE WHEN {is_one} THEN {LEVELS.index('R')} END"
    return f"(SELECT coalesce(max(CASE v.exact {marks} END), max({sensitive}), {LEVELS.index('N')}) FROM {labels})"


def _other_names(label: str) -> str:
    """A label, which names its system as R4 does, as resources may have it."""
    own, *others = V3_SYSTEMS[ACT_CODE]
    return ", ".join((label, *(f"replace({label}, '{own}|', '{each}|')" for each in others)))


def _indexed(type_: str) -> str:
    return f"NOT EXISTS (SELECT 1 FROM reindexing x WHERE x.type = '{type_}' AND x.codes = '{EVERY}')"


def _hashes(type_: str, kind: str, ending: str, names: Sequence[str] = ()) -> str:
    """Of the search parameters of a kind: those of these names, or all."""
    found = [each.code for each in parameters(type_).values() if each.type == kind and (not names or each.code in names)]
    return ", ".join(str(keys.parameter_hash(type_, code + ending)) for code in found) or "NULL"


def _listed(kinds: frozenset[Kind]) -> str:
    names = ", ".join(f"'{kind.value}'" for kind in sorted(kinds))
    return f"({names})"
