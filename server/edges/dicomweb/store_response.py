"""The Store Instances Response (PS3.18 section 10.5.3): what was stored, what was not and why, as DICOM JSON or XML."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import orjson
from starlette.requests import Request
from starlette.responses import Response

from profiles import dicom_xml
from profiles.vocabulary import DICOM_JSON, DICOM_XML
from server.edges.dicomweb import accept
from server.errors import ImageShareError, NotAcceptable
from server.work.ingest import Receipt

Attributes = dict[str, dict[str, object]]

COERCED: Final = 0xB000
"""PS3.18 table 10.5.3-2, Warning Reason: Coercion of Data Elements. Of the others none applies: nothing is discarded, and an
instance is not compared with what its SOP Class wants."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An instance that was not stored; its UIDs are empty where they could not be read."""

    error: ImageShareError
    sop_class_uid: str = ""
    sop_instance_uid: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of every part of one request."""

    receipts: Sequence[Receipt]
    failures: Sequence[Failure]
    coerced: Collection[str] = frozenset()
    """Study Instance UIDs of those studies whose instances say otherwise than they were sent."""

    @property
    def status(self) -> int:
        """PS3.18 table 10.5.3-1."""
        if not self.failures:
            return 202 if any(receipt.study_instance_uid in self.coerced for receipt in self.receipts) else 200
        return 202 if self.receipts else 409


def media_type(request: Request) -> str:
    """JSON by default, XML where the client prefers it. Raises `NotAcceptable`."""
    for wanted in accept.ranges(request):
        for offered in (DICOM_JSON, accept.JSON, DICOM_XML):
            if wanted.type in (offered, "application/*", "*/*"):
                return offered
    raise NotAcceptable(f"the result of a store is offered as {DICOM_JSON} or {DICOM_XML}")


def answer(outcome: Outcome, base: str, study: str | None, content_type: str) -> Response:
    """PS3.18 section 10.5.3: the response; `study` is the Study Instance UID of the request's URL."""
    attributes = response_attributes(outcome, base, study)
    body = dicom_xml.render(attributes) if content_type == DICOM_XML else orjson.dumps(attributes)
    return Response(body, outcome.status, media_type=content_type)


def response_attributes(outcome: Outcome, base: str, study: str | None) -> Attributes:
    """PS3.18 table 10.5.3-2, with Error Comment (0000,0902) beside each Failure Reason, as other servers do."""
    studies = {receipt.study_instance_uid for receipt in outcome.receipts}
    if study is None and len(studies) == 1:
        (study,) = studies
    result: Attributes = {}
    if study is not None and studies:
        result["00081190"] = _one("UR", f"{base}/studies/{study}")
    named = [_failed(failure) for failure in outcome.failures if failure.sop_instance_uid]
    others = [_reason(failure) for failure in outcome.failures if not failure.sop_instance_uid]
    if named:
        result["00081198"] = {"vr": "SQ", "Value": named}
    if outcome.receipts:
        result["00081199"] = {"vr": "SQ", "Value": [_stored(receipt, base, outcome.coerced) for receipt in outcome.receipts]}
    if others:
        result["0008119A"] = {"vr": "SQ", "Value": others}
    return result


def _stored(receipt: Receipt, base: str, coerced: Collection[str]) -> Attributes:
    url = f"{base}/studies/{receipt.study_instance_uid}/series/{receipt.series_instance_uid}/instances/{receipt.sop_instance_uid}"
    return {
        "00081150": _one("UI", receipt.sop_class_uid),
        "00081155": _one("UI", receipt.sop_instance_uid),
        "00081190": _one("UR", url),
        **({"00081196": _one("US", COERCED)} if receipt.study_instance_uid in coerced else {}),
    }


def _failed(failure: Failure) -> Attributes:
    return {
        **_reason(failure),
        "00081150": _one("UI", failure.sop_class_uid),
        "00081155": _one("UI", failure.sop_instance_uid),
    }


def _reason(failure: Failure) -> Attributes:
    return {"00000902": _one("LO", failure.error.short), "00081197": _one("US", failure.error.stow_reason)}


def _one(vr: str, value: str | int) -> dict[str, object]:
    return {"vr": vr, "Value": [value]}
