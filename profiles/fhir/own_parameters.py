"""Search parameters that R4 lacks and imaging needs: ours, beside those of the standard (FHIR R4 section 3.1.1.1)."""

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

OWN: Final[Mapping[str, Mapping[str, Parameter]]] = MappingProxyType(
    {"DiagnosticReport": MappingProxyType({_STUDY.code: _STUDY})}
)
"""By resource type and code."""
