"""zeep, a SOAP client that knows nothing of XDS, with another project's WSDL: ITI-42, 51, 57 and 62 against a server in a process of its own."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from lxml.etree import _Element
from peers import imageshare
from peers.registering import PATIENT, Registry, document, new_status, submitted
from peers.shows import shows
from peers.soap_server import served
from peers.xds import REGISTRY, SHARED, check_schema

from ihe import iti42, xml
from profiles.document import APPROVED, DEPRECATED, Submission

zeep = pytest.importorskip("zeep")
WSDL = SHARED / "ipf" / "xds-main-wsdl" / "wsdl"
pytestmark = [pytest.mark.timeout(120), pytest.mark.skipif(not WSDL.exists(), reason="../shared/testdata is not here")]
MULTI_PATIENT = "urn:uuid:3d1bdb10-39a2-11de-89c2-2f44d94eaa9f"
Call = Callable[..., Any]


class _Filling(zeep.Plugin):  # type: ignore[misc, name-defined]
    """Puts the RegistryObjectList of a Submission in: zeep knows no substitution groups. Looks at every answer."""

    submission: Submission | None = None

    def egress(self, envelope: _Element, headers: Any, operation: Any, options: Any) -> tuple[_Element, Any]:
        if self.submission is not None:
            name = f"{{{xml.RIM}}}RegistryObjectList"
            (place,) = envelope.iter(name)
            place.extend(next(iti42.request(self.submission).iter(name)))
        return envelope, headers

    def ingress(self, envelope: _Element, headers: Any, operation: Any) -> tuple[_Element, Any]:
        check_schema(envelope[-1][0])
        return envelope, headers


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Registry, Call]]:
    """Our registry, and a function that calls it by zeep."""
    with imageshare.node(tmp_path_factory.mktemp("site") / "data") as node, served(node.settings) as (url, _):
        filling = _Filling()

        def call(wsdl: str, operation: str, submission: Submission | None = None, **given: Any) -> Any:
            filling.submission = submission
            client = zeep.Client(str(WSDL / wsdl), settings=zeep.Settings(strict=False), plugins=[filling])
            (binding,) = client.wsdl.bindings
            service = client.create_service(binding, url + REGISTRY)
            return getattr(service, operation)(**given)

        yield Registry(node), call


@shows("transaction", "ITI-42 Document Registry", "ITI-18 Document Registry")
@shows("transaction", "ITI-57 Document Registry", "ITI-62 Document Registry")
def test_zeep_registers_asks_updates_and_removes(site: tuple[Registry, Call]) -> None:
    registry, call = site
    register = "DocumentRegistry_RegisterDocumentSet-b"
    made = submitted(document())
    assert call("iti42.wsdl", register, made, RegistryObjectList={}).status.endswith(":Success")
    refused = call("iti42.wsdl", register, submitted(document(unique_id=""), members=False), RegistryObjectList={})
    assert refused.status.endswith(":Failure")
    assert {error.errorCode for error in refused.RegistryErrorList.RegistryError} == {"XDSRegistryMetadataError"}

    asked = {"$XDSDocumentEntryPatientId": f"('{PATIENT}')", "$XDSDocumentEntryStatus": f"('{APPROVED}')"}
    asked["$XDSDocumentEntryClassCode"] = f"('{_code(made)}')"
    slots = [{"name": name, "ValueList": {"_value_1": [{"Value": value}]}} for name, value in asked.items()]
    answer = call(
        "iti51.wsdl", "DocumentRegistry_MultiPatientStoredQuery",
        ResponseOption={"returnType": "ObjectRef", "returnComposedObjects": True}, AdhocQuery={"id": MULTI_PATIENT, "Slot": slots},
    )  # fmt: skip
    assert answer.status.endswith(":Success")
    (found,) = [each.get("id") for each in answer.RegistryObjectList["_raw_elements"]]
    assert registry.one(found).unique_id == made.documents[0].unique_id

    update = new_status(found, DEPRECATED)
    assert call("iti57.wsdl", "DocumentRegistry_UpdateDocumentSet", update, RegistryObjectList={}).status.endswith(":Success")
    assert registry.one(found).status == DEPRECATED

    def remove(*ids: str) -> Any:
        named = {"_value_1": [{"ObjectRef": {"id": each}} for each in ids]}
        return call("iti62.wsdl", "DocumentRegistry_DeleteDocumentSet", ObjectRefList=named)

    refused = remove(found)
    assert {error.errorCode for error in refused.RegistryErrorList.RegistryError} == {"ReferencesExistException"}
    around = registry.around(found)
    assert remove(found, *(each.entry_uuid for each in around), *(each.source for each in around)).status.endswith(":Success")
    assert not registry.has(found)


def _code(made: Submission) -> str:
    code = made.documents[0].class_code
    assert code
    return f"{code.code}^^{code.scheme}"
