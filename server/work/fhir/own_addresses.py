"""An ImagingStudy with an Endpoint of its own, whose address is a capability URL for whoever asks (`server.access.capabilities`)."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from profiles.fhir.json import parse, serialize
from profiles.imaging_study import study_uid, with_own_endpoint
from server.work.fhir.listing import Listing

Address = Callable[[str], str]
"""From a Study Instance UID to the WADO-RS base URL for it; empty where the server's own is to stay."""
_TYPE: Final = "/ImagingStudy/"


def of_listing(listing: Listing, address: Address) -> Listing:
    """The same Bundle, with the ImagingStudies in it so."""
    entries = tuple(
        replace(each, body=of_study(each.body, address)) if each.body and _TYPE in each.full_url else each
        for each in listing.entries
    )
    return replace(listing, entries=entries)


def of_study(body: bytes, address: Address) -> bytes:
    """The ImagingStudy in `body` so; as it is where it has no endpoint (`_elements`), or no Study Instance UID."""
    study = parse(body, limit=len(body))
    uid = study_uid(study)
    own = address(uid) if uid and "endpoint" in study else ""
    return serialize(with_own_endpoint(study, own)) if own else body
