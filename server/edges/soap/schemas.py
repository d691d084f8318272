"""SOAP messages held against the schemas of their standards, where the operator has these (`soap_schemas`): a debugging aid for a connectathon.

The schemas are IHE's and OASIS's, laid out as in the NIST toolkit's `schema/v3`; they are not part of this program.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from lxml import etree
from lxml.etree import _Element

from ihe import xml
from ihe.soap import SoapFault
from server import files, telemetry
from server.settings import Settings

_FILES: Final[Mapping[str, str]] = {
    xml.QUERY: "query.xsd", xml.RS: "rs.xsd", xml.LCM: "lcm.xsd", xml.RMD: "rmd.xsd", xml.XDS_B: "XDS.b_DocumentRepository.xsd",
    xml.XDSI_B: "XDSI.b_ImagingDocumentSource.xsd",
}  # fmt: skip
_NO_SCHEMA: Final = "it is no XML Schema, or one that it needs is not beside it as in the NIST toolkit's schema/v3"


def require(settings: Settings) -> None:
    """Raises `SettingsError` for a folder that has not all schemas."""
    if settings.soap_schemas is not None:
        _loaded(settings.soap_schemas)


def check_request(settings: Settings, body: _Element) -> None:
    """A payload as it came. Raises `SoapFault` Sender, which names the first line that is wrong, and what is there by its name alone."""
    if (
        settings.soap_schemas is not None
        and settings.soap_validation == "messages"
        and (wrong := _wrong(settings.soap_schemas, body))
    ):
        raise SoapFault("Sender", f"the message does not meet its schema: {wrong}")


def check_answer(settings: Settings, body: _Element | bytes) -> None:
    """A payload that is about to be sent. Raises `SoapFault` Receiver, and the log has it too: the fault is ours."""
    if settings.soap_schemas is not None and (wrong := _wrong(settings.soap_schemas, body)):
        telemetry.log().error("soap schema", error=wrong)
        raise SoapFault("Receiver", f"the answer does not meet its schema: {wrong}")


def _wrong(folder: Path, body: _Element | bytes) -> str:
    """What is wrong, without any value: these may be a patient's. Empty where nothing is, or where there is no schema for such a payload."""
    sent = body if isinstance(body, bytes) else etree.tostring(body)
    wire = etree.fromstring(sent, etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True))
    schema = _loaded(folder).get(xml.namespace_of(wire))
    if schema is None:
        return ""
    # XOP 1.0 section 2: the schema describes the message with each Include replaced by its base64.
    for include in list(wire.iter(f"{{{xml.XOP}}}Include")):
        parent = include.getparent()
        if parent is not None:
            parent.remove(include)
    if schema.validate(wire):
        return ""
    first = next(iter(schema.error_log))  # type: ignore[call-overload]
    place = (first.path or "").rpartition("/")[2]
    return f"line {first.line} of the payload, {place}: {first.type_name}"


@cache
def _loaded(folder: Path) -> Mapping[str, etree.XMLSchema]:
    found = {}
    for namespace, name in _FILES.items():
        data = files.read(folder / name, "soap_schemas")
        try:
            found[namespace] = etree.XMLSchema(etree.fromstring(data, base_url=str(folder / name)))
        except etree.LxmlError:
            raise files.unusable(folder / name, "soap_schemas", _NO_SCHEMA) from None
    return found
