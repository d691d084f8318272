"""Update Document Set, ITI-57 (ITI TF-2 section 3.57): a Submission whose Associations say what it is a new version of, or a new status for."""

from typing import Final

from ihe import iti42

REQUEST_ACTION: Final = "urn:ihe:iti:2010:UpdateDocumentSet"
RESPONSE_ACTION: Final = "urn:ihe:iti:2010:UpdateDocumentSetResponse"

parse_request = iti42.parse_request
request = iti42.request
