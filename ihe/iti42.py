"""Register Document Set-b, ITI-42 (ITI TF-2 section 3.42): the request, both ways. ITI-57 and ITI-61 have the same messages under other names."""

from typing import Final

from lxml.etree import _Element

from ihe import ebxml, xml
from ihe.ebrs import RegistryError
from ihe.ebxml import Reading
from profiles.document import Submission

REQUEST_ACTION: Final = "urn:ihe:iti:2007:RegisterDocumentSet-b"
RESPONSE_ACTION: Final = "urn:ihe:iti:2007:RegisterDocumentSet-bResponse"


def parse_request(body: _Element, reading: Reading) -> Submission:
    """ITI TF-2 section 3.42.4.1.2: what `lcm:SubmitObjectsRequest` submits; `reading` takes what is wrong in it. Raises `RegistryError`."""
    listed = body.find(f"{{{xml.RIM}}}RegistryObjectList")
    if body.tag != f"{{{xml.LCM}}}SubmitObjectsRequest" or listed is None:
        raise RegistryError(
            "XDSRegistryMetadataError", "the message must be lcm:SubmitObjectsRequest with a rim:RegistryObjectList"
        )
    return ebxml.submission(listed, reading)


def request(submission: Submission) -> _Element:
    """ITI TF-2 section 3.42.4.1.2: `submission` as `lcm:SubmitObjectsRequest`."""
    made = xml.element(xml.LCM, "SubmitObjectsRequest")
    listed = xml.child(made, xml.RIM, "RegistryObjectList")
    for id_ in submission.references:
        xml.child(listed, xml.RIM, "ObjectRef", id=id_)
    for each in ebxml.submission_elements(submission):
        listed.append(each)
    return made
