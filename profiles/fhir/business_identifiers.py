"""Business identifiers that exist once per resource type: who comes second with one means the same thing, not another."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

_UNIQUE: Final[Mapping[str, Callable[[str], bool]]] = {
    "Patient": lambda system: system.startswith("urn:oid:"),
    "ImagingStudy": lambda system: system == "urn:dicom:uid",
    "DocumentReference": lambda system: system == "urn:ietf:rfc:3986",
    "Endpoint": bool,
}


def unique_identifiers(resource: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(system, value) of those: of a Patient by an assigning authority's OID, of an ImagingStudy its Study Instance UID, of a DocumentReference
    its UUID and OID, of an Endpoint any with a system.
    """
    unique = _UNIQUE.get(resource["resourceType"])
    if unique is None:
        return
    held = [*resource.get("identifier", ()), resource.get("masterIdentifier")]
    for identifier in held:
        if identifier and "value" in identifier and unique(identifier.get("system", "")):
            yield identifier["system"], identifier["value"]
