"""Capability URLs in ImagingStudies that are read and searched for, where the settings want them."""

import time

from starlette.requests import Request

from server.access import capabilities
from server.edges import context
from server.work.fhir.own_addresses import Address


def own(request: Request) -> Address | None:
    """SMART Imaging Access, "Issuing capability URLs": the address of a study for whoever asks; None where all have the server's own."""
    node = context.node(request)
    settings = node.settings
    if not settings.imaging_capability_urls:
        return None
    made, now = context.decision(request), time.time()

    def address(study_uid: str) -> str:
        capability = capabilities.issue(node.installation.cursor_key, made, study_uid, now, settings.imaging_capability_seconds)
        return f"{settings.base_url}/dicomweb/c/{capability}" if capability else ""

    return address
