"""docs/fhir.md, made of what the server says of itself and of the tests that show it (`make fhir-doc`)."""

import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final, get_args

from peers.shows import Shown, shown

from profiles.fhir.query import Prefix
from profiles.fhir.search_values import modifiers
from profiles.r4.search import Parameter
from server.edges.fhir.capability import Site, capability_statement

_INTRODUCTION: Final = """# The FHIR server

`imageshare` is a FHIR R4 (4.0.1) server at `/fhir`. Every resource type of R4 can be stored, read, changed and searched; ImagingStudy, its manifest and its Endpoint
are projections of the DICOM catalogue, which a client may add to and never contradicts. A Patient and an ImagingStudy that clients made before the images came are
the ones that these are shown as, an ImagingStudy only if it is of their patient; a `patient/` scope says for neither by which identifiers images are known to be hers (403).

Each row below names the tests that show it, against the real server code. The CapabilityStatement (`[base]/metadata`) is made from the same tables that the
server works with; a test fails where it claims something that no row here has. This document is written by `make fhir-doc`.
"""
_CHAPTERS: Final[Mapping[str, tuple[str, str]]] = {
    "interaction": (
        "Interactions",
        (
            "FHIR R4 section 3.1.0, by the codes that the CapabilityStatement has. In a batch may be whatever could come alone, but content of a Binary that is"
            " a file of its own (501); in a transaction no operations that write. What a Bundle may have, and its answer, is in the CapabilityStatement's"
            " documentation. `fhir_conditional_delete = multiple` lets a condition delete up to 1,000 resources, all or none."
        ),
    ),
    "conditional": ("Conditional interactions", "Conditions in place of an id, and reads that send nothing twice."),
    "parameter": (
        "Types of search parameters",
        "FHIR R4 section 3.1.1.4. Every parameter of R4 that has an expression is offered, and those that clients define.",
    ),
    "modifier": ("Modifiers", "FHIR R4 section 3.1.1.4.4."),
    "prefix": ("Prefixes of dates, numbers and quantities", "FHIR R4 section 3.1.1.4.5."),
    "search": (
        "Forms of search",
        (
            "What searches can be about besides the parameters of one type. DiagnosticReport has the parameter `study`, as in R5. By it, and by `related` of"
            " DocumentReference, a study has also those reports of its patient that name it by Study Instance UID or accession number (identifiers of type `ACSN` with"
            " the same system, or where one side has none), in whichever order they come ([decision 19](decisions/0019-reports-lead-to-their-studies.md))."
            " Who asks by these for an ImagingStudy, for `:missing` or in their order needs a scope to search for ImagingStudy."
        ),
    ),
    "result": (
        "Parameters of the answer",
        (
            "FHIR R4 sections 3.1.1.5 and 3.1.0.12. Who follows changes asks for a history with `_since`, each time with the `Bundle.meta.lastUpdated` of the history before:\n"
            "nothing is missed then, and some versions may come twice. That is not so with the time of the last version, or with `_lastUpdated` of searches.\n\n"
            "A version is told to those who may see whose it was and whose its resource is now. To a `patient/` scope what is not there is as what is another patient's (403),\n"
            "and of a study whose images were rejected or deleted there is the current version alone."
        ),
    ),
    "operation": ("Operations", "FHIR R4 section 3.2."),
    "format": (
        "Formats",
        "Of resources and of patches. What all operations of a patch go through is limited: 422 too-costly says to make several of it.",
    ),
    "header": (
        "Headers",
        "What of HTTP is looked at. A body may be gzip, other codings get 415. With `If-None-Match: *` an update overwrites nothing (412).",
    ),
}
_RESULTS: Final = (
    "_count", "_total", "_sort", "_include", "_revinclude", "_summary", "_elements", "_type", "_format", "_pretty", "_since", "_at",
)  # fmt: skip
_SEARCHES: Final = ("POST", "compartment", "chain", "_has", "_filter", "_list", "custom")


def claims(statement: Mapping[str, Any]) -> set[tuple[str, str]]:
    """What the server says that it does: (kind, name) as in `@shows`."""
    (rest,) = statement["rest"]
    found = {("interaction", each["code"]) for part in (rest, *rest["resource"]) for each in part.get("interaction", ())}
    found |= {("format", each) for each in (*statement["format"], *statement["patchFormat"])}
    found |= {("parameter", each["type"]) for part in rest["resource"] for each in part.get("searchParam", ())}
    found |= {("operation", each["name"]) for part in (rest, *rest["resource"]) for each in part.get("operation", ())}
    for name in ("Create", "Update", "Read", "Delete"):
        if any(part.get(f"conditional{name}") not in (None, False, "not-supported") for part in rest["resource"]):
            found.add(("conditional", name.lower()))
    return found | set(_of_searches())


def _of_searches() -> Iterable[tuple[str, str]]:
    """What the CapabilityStatement has no element for."""
    for type_ in ("number", "date", "string", "token", "reference", "quantity", "uri", "composite", "special"):
        parameter = Parameter("x", type_, "", "", ())
        yield from (("modifier", each) for each in modifiers(parameter) if each)
    yield from (("modifier", each) for each in ("[type]", "iterate"))
    yield from (("prefix", each) for each in get_args(Prefix))
    yield from (("result", each) for each in _RESULTS)
    yield from (("search", each) for each in _SEARCHES)
    yield ("interaction", "capabilities")


def document() -> str:
    """The whole of it, as Markdown."""
    found = shown()
    parts = [_INTRODUCTION]
    for kind, (title, said) in _CHAPTERS.items():
        rows = [each for each in found if each.kind == kind]
        if rows:
            parts.append(f"## {title}\n\n{said}\n\n| | shown by |\n| --- | --- |\n" + "".join(_rows(rows)))
    return "\n".join(parts)


def _rows(found: list[Shown]) -> Iterable[str]:
    for name in dict.fromkeys(each.name for each in found):
        tests = "; ".join(f"[{_words(each.test)}](../{each.path})" for each in found if each.name == name)
        yield f"| `{name}` | {tests} |\n"


def _words(test: str) -> str:
    return test.removeprefix("test_").replace("_", " ")


def statement(organization: str = "imageshare", base: str = "http://localhost/fhir") -> dict[str, Any]:
    """The CapabilityStatement of an installation without anything special."""
    return capability_statement(Site(organization, base))


if __name__ == "__main__":
    sys.stdout.write(document())
