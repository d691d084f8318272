"""A token for single studies: what of FHIR is about them. A share and a study picker (SMART `launch/imagingstudy`) give such tokens."""

from collections.abc import Collection
from typing import Final

from sqlalchemy import ColumnElement, FromClause, Select, or_, select

from profiles.vocabulary import DICOM_UID_SYSTEM
from server.records.fhir_search.terms import REFERENCE, RESOURCE
from server.store.tables import Identity

_IDENTITY: Final = Identity.__table__  # type: ignore[attr-defined]
_STUDY: Final = "ImagingStudy"


def about(type_: str, row: FromClause, uids: Collection[str]) -> ColumnElement[bool]:
    """Whether a resource of this type is the ImagingStudy of one of the Study Instance UIDs `uids`, refers to it, or is its patient."""
    if type_ == _STUDY:
        return row.c.pk.in_(_pks(uids))
    led, study = REFERENCE.alias(), RESOURCE.alias()
    theirs = select(study.c.id).where(study.c.pk.in_(_pks(uids)))
    refers = (
        select(led.c.resource_pk)
        .where(led.c.resource_pk == row.c.pk, led.c.target_type == _STUDY, led.c.target_id.in_(theirs))
        .correlate(row)
        .exists()
    )
    if type_ != "Patient":
        return refers
    whose = RESOURCE.alias()
    return or_(refers, row.c.id.in_(select(whose.c.patient).where(whose.c.pk.in_(_pks(uids)))))


def _pks(uids: Collection[str]) -> "Select[int]":
    values = sorted(f"urn:oid:{uid}" for uid in uids)
    return select(_IDENTITY.c.resource_pk).where(
        _IDENTITY.c.type == _STUDY, _IDENTITY.c.system == DICOM_UID_SYSTEM, _IDENTITY.c.value.in_(values)
    )
