"""What the registry suite registers: submissions of documents with all that an exchange usually says of them. The same number makes the same metadata.

`ihe` makes one ITI-42 request of each length; all others are its text with other values in the places of its own.
"""

import hashlib
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Final

from ihe import iti42, soap
from ihe.mllp import framed
from profiles.document import HAS_MEMBER, Association, Author, Code, DocumentEntry, Submission, SubmissionSet
from profiles.identifiers import uuid_oid

AUTHORITY: Final = "2.999.42"
CODES: Final[dict[str, tuple[str, ...]]] = {
    "class": ("IMAGES", "REPORTS", "LETTERS", "PLANS"),
    "type": tuple(f"T{number:02}" for number in range(20)),
    "event": ("CT", "MR", "DX", "US", "MG", "NM", "PT", "XA"),
    "place": ("H", "P", "C"),
}
"""What a document's codes are, in turn."""
SCHEME: Final = "2.999.43"
_BEGIN: Final = datetime(2006, 1, 1, tzinfo=UTC)
_DAYS, _STRIDE = 7305, 7919
_ADT: Final = (
    "MSH|^~\\&|BENCH|BENCH|HERE|HERE|20260101120000||ADT^A04^ADT_A01|{number}|P|2.5\rEVN|A04|20260101120000\r"
    "PID|||B{number:07}^^^&{authority}&ISO||Bench{number:07}^Given||19800102|F\rPV1||O\r"
)


def patient(number: int) -> str:
    """Her id in the affinity domain, as CX."""
    return f"B{number:07}^^^&{AUTHORITY}&ISO"


def registration(number: int) -> bytes:
    """ITI-8: the patient, framed."""
    return framed(_ADT.format(number=number, authority=AUTHORITY).encode())


def unique_id(document: int) -> str:
    """Of the document of this number."""
    return _uid(f"document-{document}")


def submission_id(submission: int) -> str:
    """Of the submission of this number."""
    return _uid(f"submission-{submission}")


def reference_id(document: int) -> str:
    """The accession number that the document is of, as CXi."""
    return f"A{document:08}^^^&{AUTHORITY}.1&ISO^urn:ihe:iti:xds:2013:accession"


def code(kind: str, document: int) -> Code:
    """One of `CODES`; those of one document differ from kind to kind, whatever stride one takes through them."""
    values = CODES[kind]
    return Code(values[(document // 7 + document) % len(values)], SCHEME)


def created(document: int) -> str:
    """DTM in UTC."""
    return (_BEGIN + timedelta(days=document * _STRIDE % _DAYS, minutes=document % 1440)).strftime("%Y%m%d%H%M%S")


def register(submission: int, patient_id: str, documents: Sequence[int]) -> bytes:
    """ITI-42: the envelope that registers these documents, which are the patient's, as one submission."""
    values = {"submission": submission_id(submission), "patient": patient_id.replace("&", "&amp;")}
    for place, number in enumerate(documents):
        values |= {f"{name}_{place}": value for name, value in _values(number).items()}
    return _template(len(documents)).format_map(values).encode()


def _values(document: int) -> dict[str, str]:
    """What stands in a document's metadata and in no other's."""
    at = created(document)
    return {
        "unique": unique_id(document), "hash": hashlib.sha1(b"%d" % document, usedforsecurity=False).hexdigest(),
        "created": at, "reference": reference_id(document).replace("&", "&amp;"), "title": f"Document {document}",
        **{kind: code(kind, document).code for kind in CODES},
    }  # fmt: skip


@cache
def _template(count: int) -> str:
    """The envelope with the names of values in braces, for `str.format_map`."""
    entries = tuple(map(_entry, range(count)))
    author = Author("11375^Welby^Marcus^^^Dr^MD^^&2.999.44&ISO", ("Hospital^^^^^^^^^2.999.45",), ("Physician",))
    whole = SubmissionSet(
        "SubmissionSet01", "{submission}", "{patient}", "2.999.46", "20260101120000", Code("S", SCHEME, "Submission"), "Submission",
        authors=(author,),
    )  # fmt: skip
    members = (
        Association(f"member-{place}", HAS_MEMBER, "SubmissionSet01", each.entry_uuid, "Original")
        for place, each in enumerate(entries)
    )
    body = iti42.request(Submission(whole, entries, associations=tuple(members)))
    return soap.render_request(iti42.REQUEST_ACTION, body, uuid.uuid4().urn, "http://bench/xds/registry").decode()


def _entry(place: int) -> DocumentEntry:
    def coded(kind: str) -> Code:
        return Code(f"{{{kind}_{place}}}", SCHEME, f"Of kind {kind}")

    return DocumentEntry(
        f"Document{place:03}", f"{{unique_{place}}}", "{patient}", "S-{patient}", coded("class"), coded("type"),
        Code("urn:ihe:rad:1.2.840.10008.5.1.4.1.1.88.59", "1.2.840.10008.2.6.1", "KOS"), (Code("N", "2.16.840.1.113883.5.25", "Normal"),),
        coded("place"), Code("Radiology", SCHEME, "Radiology"), "application/dicom", "en-US", f"{{created_{place}}}", f"{{hash_{place}}}", 4096,
        "2.999.47", title=f"{{title_{place}}}", service_start=f"{{created_{place}}}", service_stop=f"{{created_{place}}}",
        event_codes=(coded("event"), Code("51185008", "2.16.840.1.113883.6.96", "Chest")), reference_ids=(f"{{reference_{place}}}",),
        source_patient_info=("PID-3|S-{patient}", "PID-5|Bench^Given^^^", "PID-7|19800102", "PID-8|F"),
        authors=(
            Author("11375^Welby^Marcus^^^Dr^MD^^&2.999.44&ISO", ("Hospital^^^^^^^^^2.999.45",), ("Radiologist",), ("Radiology",)),
            Author("11376^Kildare^James^^^Dr^MD^^&2.999.44&ISO", ("Hospital^^^^^^^^^2.999.45",), ("Physician",)),
        ),
    )  # fmt: skip


def _uid(name: str) -> str:
    return uuid_oid(uuid.uuid5(uuid.NAMESPACE_OID, f"bench-{name}"))
