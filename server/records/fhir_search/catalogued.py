"""`series`, `instance` and `dicom-class` of ImagingStudy (FHIR R4 section 9.7.5), answered by the DICOM catalogue: a study has thousands of them."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import FromClause, Select, or_, select

from profiles.fhir.query import Criterion, Missing, TokenValue
from server.errors import NotSupported
from server.records.catalogue import INSTANCE, PUBLISHED, SERIES, STUDY
from server.records.fhir_search.terms import NOTHING, Term, has, of_columns

_SYSTEMS: Final = ("", "urn:dicom:uid", "urn:ietf:rfc:3986")
_PREFIX: Final = "urn:oid:"


def catalogued_term(criterion: Criterion, r: FromClause) -> Term:
    """Studies with a published series or instance of this UID, or with one of this SOP Class."""
    if any(isinstance(value, Missing) for value in criterion.values):
        has_any = r.c.id.in_(select(STUDY.c.id).where(STUDY.c.version > 0))
        return Term(~has_any if Missing(True) in criterion.values else has_any)
    if criterion.modifier not in ("", "not"):
        raise NotSupported(f"{criterion.parameter.code} has no modifiers here but :not and :missing")
    uids = [_uid(value) for value in criterion.values if isinstance(value, TokenValue) and (value.system or "") in _SYSTEMS]
    studies = _studies(criterion.parameter.code, [each for each in uids if each])
    if studies is None:
        return Term(~NOTHING.where) if criterion.modifier == "not" else NOTHING
    if criterion.modifier == "not":
        return Term(r.c.id.not_in(studies))
    return of_columns("ImagingStudy", lambda row: row.c.id.in_(studies), r)


def _uid(value: TokenValue) -> str:
    return (value.code or "").removeprefix(_PREFIX)


def _studies(code: str, uids: Sequence[str]) -> "Select[str] | None":
    """The ids of their ImagingStudies."""
    if not uids:
        return None
    published = select(STUDY.c.id).where(STUDY.c.version > 0)
    if code == "dicom-class":
        return published.where(or_(*(has(STUDY.c.sop_classes, f"\\{uid}\\") for uid in uids)))
    if code == "instance":
        return published.join(INSTANCE, INSTANCE.c.study_pk == STUDY.c.pk).where(INSTANCE.c.uid.in_(uids), PUBLISHED)
    return published.join(SERIES, SERIES.c.study_pk == STUDY.c.pk).where(SERIES.c.uid.in_(uids), SERIES.c.instance_count > 0)
