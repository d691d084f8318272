"""`series`, `instance` and `dicom-class` of ImagingStudy (FHIR R4 section 9.7.5): a study has thousands of them.

The DICOM catalogue answers for the studies that are in it; those that only clients wrote have rows, as any resource.
"""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import FromClause, Select, or_, select

from profiles.fhir.query import Criterion, TokenValue
from server.errors import NotSupported
from server.records.catalogue import INSTANCE, PUBLISHED, SERIES, STUDY
from server.records.fhir_search.terms import NOTHING, Term, Test, any_of, has, of_columns
from server.records.fhir_search.tokens import of_tokens

_SYSTEMS: Final = ("", "urn:dicom:uid", "urn:ietf:rfc:3986")
_PREFIX: Final = "urn:oid:"


def catalogued_term(criterion: Criterion, r: FromClause) -> Term:
    """Studies with a published series or instance of this UID, or with one of this SOP Class; any modifier but `:missing`."""
    if criterion.modifier not in ("", "not"):
        raise NotSupported(f"{criterion.parameter.code} has no modifiers here but :not and :missing")
    given = [_uid(value) for value in criterion.values if isinstance(value, TokenValue) and (value.system or "") in _SYSTEMS]
    uids = [each for each in given if each]
    found = _of_uids(criterion.parameter.code, uids, r) if uids else NOTHING
    return Term(~found.where) if criterion.modifier == "not" else found


def is_catalogued(r: FromClause) -> Test:
    """The study has images, and so each of the three."""
    return r.c.id.in_(select(STUDY.c.id).where(STUDY.c.version > 0).correlate(None))


def _of_uids(code: str, uids: Sequence[str], r: FromClause) -> Term:
    """Either the catalogue or the rows have it, in whichever form a client wrote it."""
    forms = [form for uid in uids for form in (uid, _PREFIX + uid)]
    studies = _studies(code, uids)
    return any_of(
        [
            of_columns("ImagingStudy", lambda row: row.c.id.in_(studies), r),
            of_tokens("ImagingStudy", code, [(None, form) for form in forms], r),
        ]
    )


def _uid(value: TokenValue) -> str:
    return (value.code or "").removeprefix(_PREFIX)


def _studies(code: str, uids: Sequence[str]) -> "Select[str]":
    """The ids of their ImagingStudies."""
    published = select(STUDY.c.id).where(STUDY.c.version > 0).correlate(None)
    if code == "dicom-class":
        return published.where(or_(*(has(STUDY.c.sop_classes, f"\\{uid}\\") for uid in uids)))
    if code == "instance":
        return published.join(INSTANCE, INSTANCE.c.study_pk == STUDY.c.pk).where(INSTANCE.c.uid.in_(uids), PUBLISHED)
    return published.join(SERIES, SERIES.c.study_pk == STUDY.c.pk).where(SERIES.c.uid.in_(uids), SERIES.c.instance_count > 0)
