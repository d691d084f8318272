"""FindDocuments, FindDocumentsByReferenceId and GetDocuments as typed queries (ITI TF-2 section 3.18.4.1.2.3.7).

Each can say of a DocumentEntry whether it belongs to the answer, and can be turned into a request.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ihe.ebrs import RegistryError
from ihe.iti18 import ReturnType, StoredQuery
from ihe.query_values import any_matches_like, read_code, write_code
from ihe.stored_queries import FIND_DOCUMENTS, FIND_DOCUMENTS_BY_REFERENCE_ID, GET_DOCUMENTS
from profiles.document import APPROVED, STABLE, Code, DocumentEntry
from profiles.identifiers import InvalidIdentifier, PatientIdentifier

_PREFIX = "$XDSDocumentEntry"


@dataclass(frozen=True, slots=True)
class TimeRange:
    """`start` <= time < `stop`, both DTM of any precision, an empty bound is open (ITI TF-2 section 3.18.4.1.2.3.7.1)."""

    start: str = ""
    stop: str = ""

    def contains(self, time: str) -> bool:
        """Whether `time` lies in the range; an open range contains everything, also an empty time."""
        if not self.start and not self.stop:
            return True
        moment = _to_seconds(time)
        return bool(time) and _to_seconds(self.start) <= moment and (not self.stop or moment < _to_seconds(self.stop))


def _to_seconds(time: str) -> str:
    """A DTM cut to, or filled up to, its earliest second: `2005` is `20050101000000`."""
    return (time + "00000101000000"[len(time) :])[:14]


Alternatives = tuple[tuple[Code, ...], ...]


@dataclass(frozen=True, slots=True)
class FindDocuments:
    """FindDocuments (ITI TF-2 section 3.18.4.1.2.3.7.1), with `reference_ids` FindDocumentsByReferenceId (…7.14).

    A tuple of codes means any of them, empty means no filter. `event_codes`, `confidentiality` and `reference_ids` are
    tuples of such tuples, of which all must hold. `authors` are SQL LIKE patterns.
    """

    patient_id: str
    statuses: tuple[str, ...] = (APPROVED,)
    class_codes: tuple[Code, ...] = ()
    type_codes: tuple[Code, ...] = ()
    format_codes: tuple[Code, ...] = ()
    facility_types: tuple[Code, ...] = ()
    practice_settings: tuple[Code, ...] = ()
    event_codes: Alternatives = ()
    confidentiality: Alternatives = ()
    creation: TimeRange = TimeRange()
    service_start: TimeRange = TimeRange()
    service_stop: TimeRange = TimeRange()
    authors: tuple[str, ...] = ()
    object_types: tuple[str, ...] = (STABLE,)
    reference_ids: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def of(cls, query: StoredQuery) -> "FindDocuments":
        """From a checked StoredQuery. Without $XDSDocumentEntryType only stable entries are meant."""
        if query.query_id not in (FIND_DOCUMENTS, FIND_DOCUMENTS_BY_REFERENCE_ID):
            raise RegistryError("XDSUnknownStoredQuery", "the stored query is not FindDocuments or FindDocumentsByReferenceId")

        def codes(name: str) -> tuple[Code, ...]:
            return tuple(read_code(value, _PREFIX + name) for value in query.values(_PREFIX + name))

        def alternatives(name: str) -> Alternatives:
            slots = query.parameters.get(_PREFIX + name, ())
            return tuple(tuple(read_code(value, _PREFIX + name) for value in slot) for slot in slots)

        def times(name: str) -> TimeRange:
            return TimeRange(query.value(f"{_PREFIX}{name}From"), query.value(f"{_PREFIX}{name}To"))

        return cls(
            patient_id=query.value(_PREFIX + "PatientId"),
            statuses=query.values(_PREFIX + "Status"),
            class_codes=codes("ClassCode"),
            type_codes=codes("TypeCode"),
            format_codes=codes("FormatCode"),
            facility_types=codes("HealthcareFacilityTypeCode"),
            practice_settings=codes("PracticeSettingCode"),
            event_codes=alternatives("EventCodeList"),
            confidentiality=alternatives("ConfidentialityCode"),
            creation=times("CreationTime"),
            service_start=times("ServiceStartTime"),
            service_stop=times("ServiceStopTime"),
            authors=query.values(_PREFIX + "AuthorPerson"),
            object_types=query.values(_PREFIX + "Type") or (STABLE,),
            reference_ids=_reference_ids(query),
        )

    def matches(self, entry: DocumentEntry) -> bool:
        """Whether `entry` belongs to the answer."""
        return (
            _same_patient(self.patient_id, entry.patient_id)
            and entry.status in self.statuses
            and entry.object_type in self.object_types
            and _any_code(self.class_codes, (entry.class_code,))
            and _any_code(self.type_codes, (entry.type_code,))
            and _any_code(self.format_codes, (entry.format_code,))
            and _any_code(self.facility_types, (entry.facility_type,))
            and _any_code(self.practice_settings, (entry.practice_setting,))
            and all(_any_code(codes, entry.event_codes) for codes in self.event_codes)
            and all(_any_code(codes, entry.confidentiality) for codes in self.confidentiality)
            and self.creation.contains(entry.creation_time)
            and self.service_start.contains(entry.service_start)
            and self.service_stop.contains(entry.service_stop)
            and (not self.authors or any_matches_like(self.authors, (author.person for author in entry.authors)))
            and all(any(value in entry.reference_ids for value in values) for values in self.reference_ids)
        )

    def query(self, return_type: ReturnType = ReturnType.LEAF_CLASS) -> StoredQuery:
        """This query as a StoredQuery, for `iti18.request`."""
        slots: dict[str, Sequence[Sequence[str]]] = {"PatientId": ((self.patient_id,),), "Status": (self.statuses,)}
        for name, codes in (
            ("ClassCode", self.class_codes),
            ("TypeCode", self.type_codes),
            ("FormatCode", self.format_codes),
            ("HealthcareFacilityTypeCode", self.facility_types),
            ("PracticeSettingCode", self.practice_settings),
        ):
            slots[name] = (tuple(map(write_code, codes)),)
        for name, alternatives in (("EventCodeList", self.event_codes), ("ConfidentialityCode", self.confidentiality)):
            slots[name] = tuple(tuple(map(write_code, codes)) for codes in alternatives)
        for name, times in (
            ("CreationTime", self.creation),
            ("ServiceStartTime", self.service_start),
            ("ServiceStopTime", self.service_stop),
        ):
            slots[f"{name}From"] = ((times.start,),) if times.start else ()
            slots[f"{name}To"] = ((times.stop,),) if times.stop else ()
        slots["AuthorPerson"] = (self.authors,)
        slots["Type"] = (self.object_types,)
        slots["ReferenceIdList"] = self.reference_ids
        query_id = FIND_DOCUMENTS_BY_REFERENCE_ID if self.reference_ids else FIND_DOCUMENTS
        return StoredQuery(query_id, return_type, _given(slots))


@dataclass(frozen=True, slots=True)
class GetDocuments:
    """GetDocuments (ITI TF-2 section 3.18.4.1.2.3.7.5): by entryUUIDs or by uniqueIds; exactly one of the two is filled."""

    entry_uuids: tuple[str, ...] = ()
    unique_ids: tuple[str, ...] = ()

    @classmethod
    def of(cls, query: StoredQuery) -> "GetDocuments":
        """From a checked StoredQuery."""
        if query.query_id != GET_DOCUMENTS:
            raise RegistryError("XDSUnknownStoredQuery", "the stored query is not GetDocuments")
        return cls(query.values(_PREFIX + "EntryUUID"), query.values(_PREFIX + "UniqueId"))

    def matches(self, entry: DocumentEntry) -> bool:
        """Whether `entry` belongs to the answer; status and type do not matter."""
        return entry.entry_uuid in self.entry_uuids or entry.unique_id in self.unique_ids

    def query(self, return_type: ReturnType = ReturnType.LEAF_CLASS) -> StoredQuery:
        """This query as a StoredQuery, for `iti18.request`."""
        return StoredQuery(GET_DOCUMENTS, return_type, _given({"EntryUUID": (self.entry_uuids,), "UniqueId": (self.unique_ids,)}))


TypedQuery = FindDocuments | GetDocuments

# Which typed query each stored query id becomes; an id that is not here is known to the table but not answered.
TYPED: dict[str, Callable[[StoredQuery], TypedQuery]] = {
    FIND_DOCUMENTS: FindDocuments.of,
    FIND_DOCUMENTS_BY_REFERENCE_ID: FindDocuments.of,
    GET_DOCUMENTS: GetDocuments.of,
}


def typed(query: StoredQuery) -> TypedQuery:
    """`query` as the typed query of its id. Raises `RegistryError` XDSUnknownStoredQuery where this registry has none."""
    make = TYPED.get(query.query_id)
    if make is None:
        raise RegistryError("XDSUnknownStoredQuery", f"the stored query {query.definition.name} is not supported")
    return make(query)


def _reference_ids(query: StoredQuery) -> tuple[tuple[str, ...], ...]:
    if query.query_id != FIND_DOCUMENTS_BY_REFERENCE_ID:
        return ()
    return tuple(tuple(slot) for slot in query.parameters.get(_PREFIX + "ReferenceIdList", ()))


def _given(slots: dict[str, Sequence[Sequence[str]]]) -> dict[str, Sequence[Sequence[str]]]:
    kept = {_PREFIX + name: tuple(slot for slot in values if slot) for name, values in slots.items()}
    return {name: values for name, values in kept.items() if values}


def _any_code(wanted: Iterable[Code], given: Iterable[Code | None]) -> bool:
    """Code and scheme count, display does not; no `wanted` means no filter."""
    keys = {(code.code, code.scheme) for code in wanted}
    return not keys or any((code.code, code.scheme) in keys for code in given if code is not None)


def _same_patient(wanted: str, given: str) -> bool:
    # The authority's local name (HD.1) is not part of the identity.
    try:
        return wanted == given or PatientIdentifier.from_cx(wanted).cx == PatientIdentifier.from_cx(given).cx
    except InvalidIdentifier:
        return False
