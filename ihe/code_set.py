"""The code set of an affinity domain: which codes each coded attribute may have (ITI TF-3 section 4.2.3.1.2).

Its file form is that of NIST's XDS Toolkit (`codes.xml`): CodeType by attribute with its classification scheme, Code with its coding scheme;
CodeType `mimeType` without schemes; AssigningAuthority of the domain's patient ids.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from lxml.etree import _Element

from ihe import xml
from ihe.attribute_rules import KIND_OF
from ihe.ebrs import RegistryError
from ihe.metadata import KINDS
from ihe.metadata_rules import Actor
from profiles.document import Code, DocumentEntry, RegistryObject, Submission

_LONGEST: Final = 16 * 1024 * 1024
_MIME_TYPE: Final = "mimeType"
_SCHEMES: Final = frozenset(row.key for kind in KINDS for row in kind.attributes if row.place == "code")


class CodeSetError(ValueError):
    """A file that is no code set. The message says where and what to do."""


@dataclass(frozen=True, slots=True)
class CodeSet:
    """`codes` is code and coding scheme to display name, by the classification scheme (`urn:uuid:...`) of the attribute.

    What has no codes here is not restricted; the same for `mime_types`. `authorities` are OIDs, empty where the file names none.
    """

    codes: Mapping[str, Mapping[tuple[str, str], str]]
    mime_types: frozenset[str] = frozenset()
    authorities: tuple[str, ...] = ()

    def has(self, scheme: str, code: Code) -> bool:
        """Whether the attribute with the classification scheme `scheme` may have `code`. Its display name does not matter."""
        allowed = self.codes.get(scheme)
        return allowed is None or (code.code, code.scheme) in allowed


def parse(data: bytes) -> CodeSet:
    """The code set in `data`, at most 16 MiB. Raises `CodeSetError`."""
    try:
        root = xml.parse(data, _LONGEST)
    except xml.XmlError as error:
        raise CodeSetError(f"the code set cannot be read: {error}") from None
    if xml.local_name(root) != "Codes":
        raise CodeSetError(f"the code set has to have the root element Codes, it has {xml.local_name(root)}")
    codes: dict[str, dict[tuple[str, str], str]] = {}
    mime_types: set[str] = set()
    for listed in root.iterfind("{*}CodeType"):
        name, scheme = listed.get("name", ""), listed.get("classScheme", "")
        if name == _MIME_TYPE:
            mime_types.update(code.lower() for code, _, _ in _listed(listed, name, with_scheme=False))
        elif scheme in _SCHEMES:
            codes.setdefault(scheme, {}).update(((code, of), display) for code, of, display in _listed(listed, name))
        else:
            raise CodeSetError(f"line {listed.sourceline}: CodeType {name} has a classScheme of no attribute that has codes")
    return CodeSet(codes, frozenset(mime_types), tuple(_authorities(root)))


def _listed(listed: _Element, name: str, *, with_scheme: bool = True) -> Iterator[tuple[str, str, str]]:
    """Code, coding scheme and display name of each Code."""
    for found in listed.iterfind("{*}Code"):
        code, scheme = found.get("code", ""), found.get("codingScheme", "")
        if not code or (with_scheme and not scheme):
            raise CodeSetError(f"line {found.sourceline}: a Code of {name} needs {'codingScheme' if code else 'code'}")
        yield code, scheme, found.get("display", "")


def _authorities(root: _Element) -> Iterator[str]:
    for found in root.iterfind("{*}AssigningAuthority"):
        parts = found.get("id", "").split("&")
        if len(parts) != 3 or not parts[1] or parts[2] != "ISO":
            raise CodeSetError(f"line {found.sourceline}: an AssigningAuthority needs an id &OID&ISO")
        yield parts[1]


def check_codes(submission: Submission, code_set: CodeSet, actor: Actor = "Registry") -> tuple[RegistryError, ...]:
    """An error for each attribute with a code (or MIME type) that the affinity domain does not have; empty where all are known."""
    return tuple(
        RegistryError(f"XDS{actor}MetadataError", f"{value.entry_uuid[:100]}: {words}", value.entry_uuid[:100])
        for value in submission.objects()
        for words in _unknown(value, code_set)
    )


def _unknown(value: RegistryObject, code_set: CodeSet) -> Iterator[str]:
    kind = KIND_OF[type(value)]
    for row in kind.attributes:
        if row.place != "code":
            continue
        given: Any = getattr(value, row.field)
        for code in given if row.multiple else filter(None, (given,)):
            if not code_set.has(row.key, code):
                what = f"the code {code.code[:64]} of the coding scheme {code.scheme[:64]}"
                yield f"{kind.name}.{row.name} has {what}, which is not in the affinity domain's code set"
    if isinstance(value, DocumentEntry) and code_set.mime_types:
        plain = value.mime_type.partition(";")[0].strip().lower()
        if plain and plain not in code_set.mime_types:
            yield f"DocumentEntry.mimeType has {plain[:64]}, which is not in the affinity domain's code set"
