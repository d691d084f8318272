"""Assertions with a `process`: answers to requests for images, held against a standard answer or against image files."""

import hashlib
from base64 import b64decode
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Final

import pydicom
from lxml.etree import _Element
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.tag import Tag

from conformance.nist.expected import Check
from ihe import xml

PROCESSES: Final = frozenset(
    ["sameRetImgs", "sameRegErrors", "registryErrorListNotEmpty", "sameDcmImgs", "sameWADOResp", "matchHomeCommunityIds", "sameReqImgs", "loadSOAPSimTransaction"]
)  # fmt: skip
"""What can be looked at here; the others need a simulator of the toolkit."""


def check_documents(answer: _Element, standard: _Element) -> Iterator[Check]:
    """sameRetImgs: the status, and each document with its home community, repository and media type; what the standard leaves empty may be anything."""
    wanted, status = _status(standard), _status(answer)
    yield Check("status of the RegistryResponse", wanted, status, wanted == status)
    found, gold = _documents(answer), _documents(standard)
    yield _same_keys("documents", gold, found)
    for uid in sorted(gold.keys() & found.keys()):
        for name in ("HomeCommunityId", "RepositoryUniqueId", "mimeType"):
            one, other = xml.text_of(gold[uid], name), xml.text_of(found[uid], name)
            yield Check(f"{name} of {uid}", one or "anything", other, not one or one == other)


def check_homes(answer: _Element, standard: _Element) -> Iterator[Check]:
    """matchHomeCommunityIds: each document with the home community that the standard has."""
    found, gold = _documents(answer), _documents(standard)
    yield _same_keys("documents", gold, found)
    for uid in sorted(gold.keys() & found.keys()):
        one, other = xml.text_of(gold[uid], "HomeCommunityId"), xml.text_of(found[uid], "HomeCommunityId")
        yield Check(f"HomeCommunityId of {uid}", one, other, one == other)


def check_requests(request: _Element, standard: _Element) -> Iterator[Check]:
    """sameReqImgs: the same documents of the same series and studies, and the same transfer syntaxes."""
    found, gold = _requested(request), _requested(standard)
    yield _same_keys("documents", gold, found)
    for uid in sorted(gold.keys() & found.keys()):
        yield Check(f"study, series, home and repository of {uid}", str(gold[uid]), str(found[uid]), gold[uid] == found[uid])
    one, other = ({each.text for each in side.iter("{*}TransferSyntaxUID")} for side in (standard, request))
    yield Check("transfer syntaxes", str(one), str(other), one == other)


def check_errors(answer: _Element, standard: _Element) -> Iterator[Check]:
    """sameRegErrors: at least as many errors of each code and severity as the standard has."""
    found, gold = _errors(answer), _errors(standard)
    for code, count in gold.items():
        yield Check(f"errors {code}", f"{count} or more", str(found[code]), found[code] >= count)


def check_some_error(answer: _Element) -> Check:
    """registryErrorListNotEmpty."""
    count = _errors(answer).total()
    return Check("RegistryError elements", "one or more", str(count), count > 0)


def check_wado(result: _Element, standard: _Element) -> Iterator[Check]:
    """sameWADOResp: the HTTP status of each request; 200 unless the standard's Transactions say another."""
    usual, codes = 200, dict[int, int]()
    for each in standard.iter("{*}Transactions"):
        for part in each.get("id", "").split(","):
            first, _, last = part.strip().partition("-")
            if first == "*":
                usual = int(each.get("code", "200"))
            else:
                codes |= dict.fromkeys(range(int(first), int(last or first) + 1), int(each.get("code", "200")))
    for each in result.iter("Transaction"):
        number, found = int(each.get("id", "0")), each.findtext("Status/Code") or "none"
        wanted = str(codes.get(number, usual))
        yield Check(f"HTTP status of request {number}", wanted, found, found == wanted)


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute to compare. `kind` is SAME, DIFFERENT, SAME_SIZE, PRESENT, NOT_EMPTY, ABSENT or CONSTANT; a tag of 0 is the whole file's hash."""

    name: str
    tag: int
    kind: str
    value: str
    required: bool


def attributes(listed: _Element) -> list[Attribute]:
    """A TagList. Raises `ValueError` for a name that is no attribute."""
    made = []
    for each in listed:
        name = xml.local_name(each)
        if name.upper() == "HASH":
            tag = 0
        elif name.lower() == "tag":
            group, _, element = each.get("hex", "").partition(",")
            tag, name = int(Tag(int(group, 16), int(element, 16))), f"({each.get('hex')})"
        else:
            tag = int(Tag(name))
        failing = each.get("failCat", "ERROR").upper() == "ERROR"
        made.append(Attribute(name, tag, each.get("type", "SAME").strip().upper(), each.get("value", "").strip(), failing))
    return made


def check_images(found: Sequence[bytes], standard: Sequence[bytes], wanted: Sequence[Attribute]) -> Iterator[Check]:
    """sameDcmImgs: the same instances, by SOP Instance UID, with these attributes alike."""
    ours, theirs = _by_uid(found), _by_uid(standard)
    yield _same_keys("images", theirs, ours)
    for uid in sorted(theirs.keys() & ours.keys()):
        for each in wanted:
            check = _compared(each, ours[uid], theirs[uid])
            yield check if each.required else Check(check.what, check.expected, check.found, True)


def documents_in(result: _Element) -> list[bytes]:
    """The documents of a RetrieveDocumentSetResponse that has them as base64."""
    return [b64decode("".join(map(str, each.itertext()))) for each in result.iter("{*}Document")]


def _compared(wanted: Attribute, found: "_Image", standard: "_Image") -> Check:
    one, other = standard.text(wanted.tag), found.text(wanted.tag)
    expected, passed = {
        "SAME": (one, one == other),
        "DIFFERENT": (f"not {one}", one != other),
        "SAME_SIZE": (f"{standard.size(wanted.tag)} items", standard.size(wanted.tag) == found.size(wanted.tag)),
        "PRESENT": ("there", found.has(wanted.tag)),
        "NOT_EMPTY": ("there and not empty", bool(other)),
        "ABSENT": ("absent", not found.has(wanted.tag)),
        "CONSTANT": (wanted.value, other == wanted.value),
    }.get(wanted.kind, (f"a kind of comparison that is known, not {wanted.kind}", False))
    return Check(f"{wanted.name} of {standard.uid}", expected, other, passed)


@dataclass(frozen=True, slots=True)
class _Image:
    uid: str
    data: bytes
    header: Dataset

    def has(self, tag: int) -> bool:
        return tag in self.header

    def size(self, tag: int) -> int:
        return len(self.header[tag].value) if tag in self.header and self.header[tag].VR == "SQ" else 0

    def text(self, tag: int) -> str:
        if not tag:
            return hashlib.sha256(self.data).hexdigest()
        return str(self.header[tag].value or "") if tag in self.header else ""


def _by_uid(files: Sequence[bytes]) -> dict[str, _Image]:
    images = dict[str, _Image]()
    header: Dataset
    for number, data in enumerate(files, 1):
        try:
            header = pydicom.dcmread(BytesIO(data), stop_before_pixels=True)
            uid = str(header.get("SOPInstanceUID", "")) or f"file {number} without SOP Instance UID"
        except (InvalidDicomError, EOFError, ValueError):
            header, uid = Dataset(), f"file {number}, which is not DICOM"
        images[uid] = _Image(uid, data, header)
    return images


def _same_keys(what: str, gold: Mapping[str, object], found: Mapping[str, object]) -> Check:
    differ = [f"{each} missing" for each in sorted(gold.keys() - found.keys())]
    differ += [f"{each} too many" for each in sorted(found.keys() - gold.keys())]
    return Check(
        what, f"{len(gold)}: {', '.join(sorted(gold))}"[:500], "; ".join(differ)[:500] or f"the same {len(found)}", not differ
    )


def _documents(answer: _Element) -> dict[str, _Element]:
    return {xml.text_of(each, "DocumentUniqueId"): each for each in answer.iter("{*}DocumentResponse")}


def _requested(request: _Element) -> dict[str, tuple[str, str, str, str]]:
    return {
        xml.text_of(each, "DocumentUniqueId"): (
            study.get("studyInstanceUID", ""),
            series.get("seriesInstanceUID", ""),
            xml.text_of(each, "HomeCommunityId"),
            xml.text_of(each, "RepositoryUniqueId"),
        )
        for study in request.iter("{*}StudyRequest")
        for series in study.iter("{*}SeriesRequest")
        for each in series.iter("{*}DocumentRequest")
    }


def _errors(answer: _Element) -> Counter[str]:
    return Counter(
        f"{each.get('errorCode')} {each.get('severity', '').rpartition(':')[2]}" for each in answer.iter("{*}RegistryError")
    )


def _status(answer: _Element) -> str:
    return next((each.get("status", "") for each in answer.iter("{*}RegistryResponse")), "no RegistryResponse")
