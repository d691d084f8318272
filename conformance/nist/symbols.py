"""Symbols in messages: replaced in text and attributes, and ids, unique ids and patient ids assigned as the toolkit does it."""

from collections.abc import Callable, Iterator, Mapping

from lxml.etree import _Element

from ihe import xml

_LEFT_ALONE = frozenset(["Report", "UseReport", "UseId"])
_UUID = "urn:uuid:"
UNIQUE_IDS = {
    "ExtrinsicObject": ("urn:uuid:2e82c1f6-a085-4c72-9da3-8640a32e42ab",),
    "RegistryPackage": (
        "urn:uuid:96fdda7c-d067-4183-912e-bf5ee74998a8",
        "urn:uuid:75df8f67-9973-4fbe-a900-df66cefecc5a",
    ),
}
PATIENT_IDS = {
    "ExtrinsicObject": ("urn:uuid:58a6f841-87b3-4a3e-92fd-a8ffeff98427",),
    "RegistryPackage": (
        "urn:uuid:6b5aea1a-874d-4603-a4bc-96a0a7b38446",
        "urn:uuid:f64ffdf0-4b97-4e06-b79f-a52b38ec2f8a",
    ),
}
SOURCE_IDS = {"RegistryPackage": ("urn:uuid:554ac39e-e3fe-47fe-b233-965d2a147832",)}
_REFERENCES = ("id", "sourceObject", "targetObject", "classifiedObject", "registryObject")


def replace(element: _Element, values: Mapping[str, str]) -> None:
    """Every key of `values` becomes its value, in all text and attributes below `element`; not in documents, nor where values are asked for."""
    if not values or not isinstance(element.tag, str):
        return
    name = xml.local_name(element)
    if name in _LEFT_ALONE or (name == "Document" and xml.namespace_of(element) == xml.XDS_B):
        return
    for symbol, value in values.items():
        if element.text and symbol in element.text:
            element.text = element.text.replace(symbol, value)
        for attribute, text in attributes(element):
            if symbol in text:
                element.set(attribute, text.replace(symbol, value))
    for child in element:
        replace(child, values)


def attributes(element: _Element) -> list[tuple[str, str]]:
    """Names and values, as text."""
    return [(str(name), str(value)) for name, value in element.items()]


def unresolved(element: _Element) -> list[str]:
    """Symbols that are still in a message, such as `$docuuid$`."""
    texts = [each for node in element.iter() for each in (node.text or "", *(text for _, text in attributes(node)))]
    return sorted({word for text in texts for word in _symbols(text)})


def _symbols(text: str) -> Iterator[str]:
    parts = text.split("$")
    for number in range(1, len(parts) - 1):
        if parts[number] and parts[number].replace("_", "").isalnum():
            yield f"${parts[number]}$"


def _identifiers(root: _Element, schemes: Mapping[str, tuple[str, ...]]) -> Iterator[tuple[str, _Element]]:
    for kind, wanted in schemes.items():
        for holder in root.iter(f"{{*}}{kind}"):
            for each in holder.iterfind("{*}ExternalIdentifier"):
                if each.get("identificationScheme") in wanted:
                    yield holder.get("id", ""), each


def assign(
    root: _Element,
    schemes: Mapping[str, tuple[str, ...]],
    value: Callable[[str], str],
    *,
    without: str = "",
    excluded: frozenset[str] = frozenset(),
) -> dict[str, str]:
    """Gives every external identifier of these schemes a value, made of the old one. Returns the values by the id of their object.

    The object `without` and the schemes `excluded` keep what they have.
    """
    assigned = {}
    for holder, each in list(_identifiers(root, schemes)):
        if holder != without and each.get("identificationScheme") not in excluded:
            each.set("value", value(each.get("value", "")))
            assigned[holder] = each.get("value", "")
    return assigned


def assign_uuids(root: _Element, new: Callable[[], str]) -> dict[str, str]:
    """Gives every object with a symbolic id a `urn:uuid:` one, wherever it is named. Returns the new ids by the old."""
    uuids = {old: new() for node in root.iter() if (old := node.get("id", "")) and not old.lower().startswith(_UUID)}
    for node in root.iter():
        for name in _REFERENCES:
            if new_id := uuids.get(node.get(name, "")):
                node.set(name, new_id)
    return uuids


def clean(request: _Element) -> None:
    """Takes out of a query, or of a request for documents, what still has a symbol (CleanParams)."""
    for query in request.iter("{*}AdhocQuery"):
        for name, value in attributes(query):
            if "$" in value:
                del query.attrib[name]
        for slot in query.findall("{*}Slot"):
            values = slot.findall("{*}ValueList/{*}Value")
            for each in values:
                if (each.text or "").count("$") > 1:
                    parent = each.getparent()
                    assert parent is not None
                    parent.remove(each)
            if slot.find("{*}ValueList/{*}Value") is None:
                query.remove(slot)
    for wanted in [each for each in request.iter("{*}DocumentRequest") if unresolved(each)]:
        parent = wanted.getparent()
        assert parent is not None
        parent.remove(wanted)
