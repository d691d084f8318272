"""Restricted Update Document Set, ITI-92 (IHE ITI supplement Restricted Metadata Update, section 3.92): as ITI-57, for new versions of entries alone."""

from typing import Final

from ihe import iti42

REQUEST_ACTION: Final = "urn:ihe:iti:2018:RestrictedUpdateDocumentSet"
RESPONSE_ACTION: Final = "urn:ihe:iti:2018:RestrictedUpdateDocumentSetResponse"

parse_request = iti42.parse_request
request = iti42.request
