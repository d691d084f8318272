"""docs/ihe-integration-statement.md, made of the tables below, of what the server answers where, and of the tests that show it (`make ihe-doc`)."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from typing import Final, NamedTuple

from peers.shows import shown

from server.edges.soap.routes import ENDPOINTS


class Claim(NamedTuple):
    """An actor of a profile, with its options and transactions."""

    profile: str
    actor: str
    options: tuple[str, ...]
    transactions: tuple[str, ...]


PROFILES: Final = (
    Claim(
        "Cross-Enterprise Document Sharing (XDS.b)", "Document Registry",
        ("Patient Identity Feed", "Reference ID", "On-Demand Documents", "Document Metadata Update"),
        ("ITI-42", "ITI-18", "ITI-8", "ITI-57", "ITI-61"),
    ),
    Claim("Cross-Enterprise Document Sharing (XDS.b)", "Document Repository", (), ("ITI-41", "ITI-42", "ITI-43")),
    Claim("Cross-Enterprise Document Reliable Interchange (XDR)", "Document Recipient", ("Accepts Limited Metadata",), ("ITI-41",)),
    Claim("XAD-PID Change Management (XPID)", "Document Registry", (), ("ITI-64",)),
    Claim("Multi-Patient Queries (MPQ)", "Document Registry", (), ("ITI-51",)),
    Claim("Remove Metadata and Documents (RMD)", "Document Registry", (), ("ITI-62",)),
    Claim("Remove Metadata and Documents (RMD)", "Document Repository", (), ("ITI-86",)),
    Claim("Restricted Metadata Update (RMU)", "Update Responder", (), ("ITI-92",)),
    Claim(
        "Cross-Enterprise Document Sharing for Imaging (XDS-I.b)", "Imaging Document Source", ("Set of DICOM Instances",),
        ("RAD-68", "RAD-69", "RAD-55", "RAD-107"),
    ),
    Claim(
        "Cross-Enterprise Document Sharing for Imaging (XDS-I.b)", "Imaging Document Consumer", (),
        ("ITI-18", "ITI-43", "RAD-69", "RAD-55", "RAD-107"),
    ),
    Claim(
        "Mobile Access to Health Documents (MHD)", "Document Recipient",
        ("Comprehensive Metadata", "XDS on FHIR", "Simplified Publish", "Generate Metadata"),
        ("ITI-65", "ITI-105", "ITI-106"),
    ),
    Claim("Mobile Access to Health Documents (MHD)", "Document Responder", ("XDS on FHIR",), ("ITI-66", "ITI-67", "ITI-68")),
    Claim("Cross-Enterprise User Assertion (XUA)", "X-Service Provider", (), ("ITI-40",)),
    Claim(
        "Audit Trail and Node Authentication (ATNA)", "Secure Application",
        ("ATX: TLS Syslog", "STX: TLS 1.2 Floor using BCP195"), ("ITI-19", "ITI-20"),
    ),
)  # fmt: skip
NAMES: Final[Mapping[str, str]] = {
    "ITI-8": "Patient Identity Feed", "ITI-18": "Registry Stored Query", "ITI-19": "Authenticate Node", "ITI-20": "Record Audit Event",
    "ITI-40": "Provide X-User Assertion", "ITI-41": "Provide and Register Document Set-b", "ITI-42": "Register Document Set-b",
    "ITI-43": "Retrieve Document Set", "ITI-51": "Multi-Patient Stored Query", "ITI-57": "Update Document Set",
    "ITI-61": "Register On-Demand Document Entry", "ITI-62": "Remove Metadata", "ITI-64": "Notify XAD-PID Link Change", "ITI-65": "Provide Document Bundle",
    "ITI-66": "Find Document Lists", "ITI-67": "Find Document References", "ITI-68": "Retrieve Document", "ITI-86": "Remove Documents",
    "ITI-92": "Restricted Update Document Set", "ITI-105": "Simplified Publish", "ITI-106": "Generate Metadata", "RAD-55": "WADO Retrieve",
    "RAD-68": "Provide and Register Imaging Document Set", "RAD-69": "Retrieve Imaging Document Set", "RAD-107": "WADO-RS Retrieve",
}  # fmt: skip
_BEGINS: Final = frozenset(
    {
        ("ITI-42", "Document Repository"), ("RAD-68", "Imaging Document Source"), ("ITI-20", "Secure Application"),
        *((each, "Imaging Document Consumer") for each in ("ITI-18", "ITI-43", "RAD-69", "RAD-55", "RAD-107")),
    }
)  # fmt: skip
"""What this product begins; what is not here it answers."""
_ELSEWHERE: Final[Mapping[tuple[str, str], str]] = {
    ("ITI-8", "Document Registry"): "MLLP, and MLLP over TLS",
    ("ITI-64", "Document Registry"): "MLLP, and MLLP over TLS",
    ("ITI-42", "Document Repository"): "to `foreign_registry`; to our own Registry within one transaction of the database",
    ("RAD-68", "Imaging Document Source"): "to `documents_to`; to our own Repository within one transaction of the database",
    ("RAD-55", "Imaging Document Source"): "`/wado`",
    ("RAD-107", "Imaging Document Source"): "`/dicomweb`",
    ("ITI-65", "Document Recipient"): "`/fhir`",
    ("ITI-105", "Document Recipient"): "`/fhir/DocumentReference`",
    ("ITI-106", "Document Recipient"): "`/fhir/DocumentReference/$generate-metadata`",
    ("ITI-66", "Document Responder"): "`/fhir/List`",
    ("ITI-67", "Document Responder"): "`/fhir/DocumentReference`",
    ("ITI-68", "Document Responder"): "`/fhir/Binary`",
    ("ITI-40", "X-Service Provider"): "all SOAP addresses",
    ("ITI-19", "Secure Application"): "HTTPS, DICOM TLS, MLLP over TLS, and all calls to partners",
    ("ITI-20", "Secure Application"): "to `audit_repository`",
    **{(each, "Imaging Document Consumer"): "to `communities`" for each in ("ITI-18", "ITI-43", "RAD-69", "RAD-55", "RAD-107")},
}
_INTRODUCTION: Final = """# IHE Integration Statement

In the form of ITI TF-1 Appendix C (IHE Integration Statements). Written by `make ihe-doc`; the test column is found in the tests themselves, so that nothing stands here that no test shows.

| Vendor | Product name | Version | Date |
| --- | --- | --- | --- |
| the imageshare project | imageshare | {version} | that of the release |

This product implements all transactions required in the IHE Technical Framework to support the IHE Integration Profiles, Actors and Options listed below.

| Integration Profile | Actor | Options |
| --- | --- | --- |
"""
_REST: Final = """
Grouped actors: each actor above is grouped with the Secure Application of ATNA. The Time Client of CT is that of the operating system. AuditEvents follow BALP (Basic Audit Log Patterns), and what goes to an audit repository is made
of them. Technical Frameworks: ITI TF revision 21, RAD TF revision 22, IHE MHD 4.2 on FHIR R4 4.0.1, and the supplements Restricted Metadata Update and Remove Metadata and Documents.

Related: [the DICOM Conformance Statement](dicom-conformance-statement.md), [the FHIR server](fhir.md), [a partner's guide to the XDS endpoints](xds.md),
[NIST's test plans](check-nist.md), [the RSNA Image Share Validation list](rsna-validation.md), [security](security.md).
IHE is at [ihe.net](https://www.ihe.net/); its Technical Frameworks at [profiles.ihe.net](https://profiles.ihe.net/).

## Not claimed

| | why |
| --- | --- |
| Cross-community gateways (XCA, XCA-I, XCPD) | not built yet; homeCommunityIds and Retrieve Location UIDs are kept and told everywhere |
| Asynchronous Web Services Exchange | answers are given on the connection that asks |
| Patient Identity Feed HL7 V3 (ITI-44), PIX and PDQ | the Registry's feed is ITI-8 |
| Document Subscription (DSUB) | not built |
| Basic Patient Privacy Enforcement | consents are FHIR Consents, enforced at every door ([decision 25](decisions/0025-consents-are-rows.md)) |
| RAD-16 as part of XDS-I.b | C-MOVE is offered ([DICOM](dicom.md)), outside of this profile's tests |

## Transactions and roles

"begins" is the initiator of the transaction, "answers" its responder.

| | transaction | actor | role | where | shown by |
| --- | --- | --- | --- | --- | --- |
"""


def document() -> str:
    """The whole of it, as Markdown."""
    rows = (f"| {each.profile} | {each.actor} | {', '.join(each.options) or 'none'} |\n" for each in PROFILES)
    return "".join([_INTRODUCTION.format(version=version("imageshare")), *rows, _REST, *_rows()])


def roles() -> list[tuple[str, str]]:
    """Transaction and actor of each row, in the order of their numbers."""
    found = {(number, each.actor) for each in PROFILES for number in each.transactions}
    return sorted(found, key=lambda role: (role[0].partition("-")[0], int(role[0].partition("-")[2]), role[1]))


def tests() -> dict[tuple[str, str], list[tuple[str, str]]]:
    """Path and name of the tests that show each role: `@shows("transaction", "ITI-42 Document Registry")`."""
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for each in shown():
        if each.kind == "transaction":
            number, _, actor = each.name.partition(" ")
            found.setdefault((number, actor), []).append((each.path, each.test))
    return found


def answered() -> dict[str, str]:
    """The path at which each SOAP transaction is answered, by its number."""
    return {code: path for path, endpoint in ENDPOINTS.items() for code in endpoint.transactions}


def _rows() -> Iterator[str]:
    by, paths = tests(), answered()
    for number, actor in roles():
        begins = (number, actor) in _BEGINS
        where = _ELSEWHERE.get((number, actor)) or f"`{paths[number]}`"
        links = "; ".join(_links(by.get((number, actor), ())))
        yield f"| {number} | {NAMES[number]} | {actor} | {'begins' if begins else 'answers'} | {where} | {links} |\n"


def _links(found: Iterable[tuple[str, str]]) -> Iterator[str]:
    for path, test in found:
        yield f"[{test.removeprefix('test_').replace('_', ' ')}](../{path})"


if __name__ == "__main__":
    sys.stdout.write(document())
