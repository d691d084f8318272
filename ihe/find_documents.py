"""FindDocuments, FindDocumentsByReferenceId and GetDocuments, as a client asks them (ITI TF-2 section 3.18.4.1.2.3.7)."""

from collections.abc import Sequence
from dataclasses import dataclass

from ihe.criteria import ANY_TIME, TimeRange
from ihe.iti18 import ReturnType, StoredQuery
from ihe.query_values import write_code
from ihe.stored_queries import FIND_DOCUMENTS, FIND_DOCUMENTS_BY_REFERENCE_ID, GET_DOCUMENTS, PREFIXES
from profiles.document import APPROVED, STABLE, Code

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
    creation: TimeRange = ANY_TIME
    service_start: TimeRange = ANY_TIME
    service_stop: TimeRange = ANY_TIME
    authors: tuple[str, ...] = ()
    object_types: tuple[str, ...] = (STABLE,)
    reference_ids: tuple[tuple[str, ...], ...] = ()

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

    def query(self, return_type: ReturnType = ReturnType.LEAF_CLASS) -> StoredQuery:
        """This query as a StoredQuery, for `iti18.request`."""
        return StoredQuery(GET_DOCUMENTS, return_type, _given({"EntryUUID": (self.entry_uuids,), "UniqueId": (self.unique_ids,)}))


def _given(slots: dict[str, Sequence[Sequence[str]]]) -> dict[str, Sequence[Sequence[str]]]:
    kept = {PREFIXES["document"] + name: tuple(slot for slot in values if slot) for name, values in slots.items()}
    return {name: values for name, values in kept.items() if values}
