"""Messages held against the schemas of the standards (`soap_schemas`)."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from lxml import etree
from lxml.etree import _Element
from peers import imageshare
from peers.registering import PATIENT, Registry, document, submitted
from peers.xds import REGISTRY, SHARED, Archive, needs_shared

from ihe import ebrs, iti18, iti42, soap, xml
from ihe.find_documents import FindDocuments
from ihe.soap import SoapFault
from server.edges.soap import schemas
from server.errors import SettingsError
from server.settings import load

SCHEMAS = SHARED / "nist" / "schema" / "v3"
pytestmark = needs_shared


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with imageshare.node(tmp_path / "data", soap_schemas=SCHEMAS, soap_validation="messages") as node:
        Registry(node)
        yield Archive(node)


def asked(archive: Archive, action: str, body: _Element) -> _Element:
    response = archive.post(REGISTRY, action, body)
    return soap.response_of(soap.parse(response.content))


def wrong() -> _Element:
    """A Slot where none may be, with what nobody else is to read."""
    body = iti42.request(submitted(document()))
    etree.SubElement(body, f"{{{xml.RIM}}}Surname").text = "Alba"
    return body


def test_what_is_right_goes_through(archive: Archive) -> None:
    assert ebrs.read(asked(archive, iti42.REQUEST_ACTION, iti42.request(submitted(document())))).errors == ()
    found = asked(archive, iti18.REQUEST_ACTION, iti18.request(FindDocuments(PATIENT).query()))
    assert len(iti18.parse_response(found).entries) == 1


def test_what_is_wrong_is_told_with_its_place_and_without_its_values(archive: Archive) -> None:
    with pytest.raises(SoapFault, match=r"does not meet its schema: line \d+ .*Surname") as fault:
        asked(archive, iti42.REQUEST_ACTION, wrong())
    assert fault.value.code == "Sender"
    assert "Alba" not in fault.value.reason
    assert archive.find(PATIENT) == ()
    (event,) = archive.trail("ITI-42")
    assert event.outcome == "4"


def test_our_own_fault_is_not_sent(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ebrs, "to_element", lambda _: xml.element(xml.RS, "Nonsense"))
    with pytest.raises(SoapFault, match="the answer does not meet its schema") as fault:
        asked(archive, iti42.REQUEST_ACTION, iti42.request(submitted(document())))
    assert fault.value.code == "Receiver"


def test_a_folder_without_schemas_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"soap_schemas: .* no such file"):
        schemas.require(load(data=tmp_path, soap_schemas=tmp_path))
