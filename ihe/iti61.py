"""Register On-Demand Document Entry, ITI-61 (ITI TF-2 section 3.61): a Submission of entries whose documents are made when they are asked for."""

from typing import Final

from ihe import iti42

REQUEST_ACTION: Final = "urn:ihe:iti:2010:RegisterOnDemandDocumentEntry"
RESPONSE_ACTION: Final = "urn:ihe:iti:2010:RegisterOnDemandDocumentEntryResponse"

parse_request = iti42.parse_request
request = iti42.request
