"""Multi-Patient Stored Query, ITI-51 (ITI TF-2 section 3.51): ITI-18 with queries of its own."""

from typing import Final

from lxml.etree import _Element

from ihe import iti18
from ihe.iti18 import StoredQuery, parse_response, request, response
from ihe.stored_queries import MULTI_PATIENT_QUERIES

__all__ = ["REQUEST_ACTION", "RESPONSE_ACTION", "parse_request", "parse_response", "request", "response"]

REQUEST_ACTION: Final = "urn:ihe:iti:2009:MultiPatientStoredQuery"
RESPONSE_ACTION: Final = "urn:ihe:iti:2009:MultiPatientStoredQueryResponse"


def parse_request(body: _Element) -> StoredQuery:
    """ITI TF-2 section 3.51.4.1.2: `query:AdhocQueryRequest` as a checked StoredQuery. Raises `RegistryError`."""
    return iti18.parse_request(body, MULTI_PATIENT_QUERIES)
