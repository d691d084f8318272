"""Search parameters that R4 lacks and imaging needs, and those of IHE MHD, beside those of the standard (FHIR R4 section 3.1.1.1)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from profiles.r4.search import Parameter

_STUDY: Final = Parameter(
    "study",
    "reference",
    "http://imageshare.example/fhir/SearchParameter/diagnostic-report-study",
    "DiagnosticReport.imagingStudy",
    ("DiagnosticReport",),
    ("ImagingStudy",),
)
"""R4 has none for the studies of a report; R5 calls it so. With it `ImagingStudy?_revinclude=DiagnosticReport:study` brings a study's reports.

It finds those too that name the study otherwise (`profiles.fhir.report_studies`), and so is for who may search for ImagingStudy."""

_MHD: Final = "https://profiles.ihe.net/ITI/MHD"


def _extension(code: str, name: str, type_: str) -> Parameter:
    expression = f"List.extension('{_MHD}/StructureDefinition/ihe-{code}').value.ofType({type_})"
    return Parameter(code, "token", f"{_MHD}/SearchParameter/List-{name}", expression, ("List",))


# IHE MHD sections 2:3.66.4.1.2 and 2:3.67.4.1.2: what Find Document Lists and Find Document References search by beyond R4
_DESIGNATION_TYPE: Final = _extension("designationType", "DesignationType", "CodeableConcept")
_SOURCE_ID: Final = _extension("sourceId", "SourceId", "Identifier")
_CREATION: Final = Parameter(
    "creation", "date", f"{_MHD}/SearchParameter/DocumentReference-Creation", "DocumentReference.content.attachment.creation", ("DocumentReference",)
)  # fmt: skip

OWN: Final[Mapping[str, Mapping[str, Parameter]]] = MappingProxyType(
    {
        "DiagnosticReport": MappingProxyType({_STUDY.code: _STUDY}),
        "DocumentReference": MappingProxyType({_CREATION.code: _CREATION}),
        "List": MappingProxyType({each.code: each for each in (_DESIGNATION_TYPE, _SOURCE_ID)}),
    }
)
"""By resource type and code."""
