"""The message schemas of the standards, for the tests of the codecs."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from lxml import etree
from lxml.etree import _Element

from ihe import xml

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "testdata"

_SCHEMAS = {
    xml.QUERY: "query.xsd",
    xml.RS: "rs.xsd",
    xml.RIM: "rim.xsd",
    xml.XDS_B: "XDS.b_DocumentRepository.xsd",
    xml.XDSI_B: "XDSI.b_ImagingDocumentSource.xsd",
}


@cache
def _schema(name: str) -> etree.XMLSchema:
    return etree.XMLSchema(etree.parse(SHARED / "nist" / "schema" / "v3" / name))


@pytest.fixture(scope="session")
def validate() -> Callable[[_Element], None]:
    """A function that holds an element against the schema of its namespace, as it would be on the wire."""
    if not SHARED.exists():
        pytest.skip("../shared/testdata is not here")

    def check(element: _Element) -> None:
        wire = etree.fromstring(etree.tostring(element))
        # XOP: the schema describes the message with each Include replaced by its base64 (XOP 1.0 section 2).
        for include in list(wire.iter(f"{{{xml.XOP}}}Include")):
            parent = include.getparent()
            assert parent is not None
            parent.remove(include)
        _schema(_SCHEMAS[xml.namespace_of(wire)]).assertValid(wire)

    return check
