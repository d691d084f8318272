"""Invoke Image Display, RAD-106 (IHE RAD TF-2 section 4.106): another system sends somebody's browser here with the patient or the studies to be looked at.

Who looks has signed in here, and sees what they may. Signing in keeps no query; what was asked waits in a cookie that only we can read.
"""

from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl

from sqlalchemy import Connection
from starlette.responses import Response

from profiles.identifiers import InvalidIdentifier, PatientIdentifier
from server.access import sealed
from server.access.decisions import Decision
from server.edges.pages.browser import SIGN_IN, Visit
from server.errors import NotFound, Refused
from server.records import belonging, identities
from server.work.portal import studies
from server.work.portal.studies import SeenStudy

PATH: Final = "/IHEInvokeImageDisplay"
_PURPOSE, _COOKIE, _SECONDS = "invoke", "invoke", 900
_MOST: Final = 50
_LONGEST: Final = 2000


def invoke(visit: Visit) -> Response:
    """`GET /IHEInvokeImageDisplay?requestType=PATIENT|STUDY&...`: the newest of what is asked for, the rest of the patient beside it."""
    asked = visit.request.url.query[:_LONGEST]
    key = visit.node.installation.cursor_key
    if visit.session is None:
        visit.keep(_COOKIE, sealed.seal(key, _PURPOSE, asked), _SECONDS)
        return visit.redirect(SIGN_IN, next=PATH)
    if not asked:
        asked = sealed.unseal(key, _PURPOSE, visit.kept(_COOKIE)) or ""
        visit.keep(_COOKIE, "")
    wanted = dict(parse_qsl(asked))
    with visit.node.database.read() as connection:
        decision = visit.decided(connection)
        found = (
            _of_patient(connection, decision, wanted)
            if wanted.get("requestType") == "PATIENT"
            else _of_studies(connection, decision, wanted)
        )
    if not found:
        raise NotFound(studies.NO_STUDY)
    return visit.redirect(f"/images/{found[0].id}/view")


def _of_patient(connection: Connection, decision: Decision, wanted: Mapping[str, str]) -> list[SeenStudy]:
    """Table 4.106.4.1-1: patientID, with the bounds of date and the modalities that may stand beside it."""
    try:
        identifier = PatientIdentifier.from_cx(wanted.get("patientID", ""))
    except InvalidIdentifier:
        raise Refused("patientID is needed, with the OID of who assigned it: 4711^^^&1.2.3&ISO") from None
    patient = identities.by_identity(connection, "Patient", identifier.authority.system, identifier.value)
    whose = belonging.same(connection, belonging.replaced_by(connection, patient) or patient) if patient else ()
    seen = studies.studies(connection, decision, patients=whose, most=_MOST) if whose else ()
    first, last = wanted.get("lowerDateTime", "")[:10].replace("-", ""), wanted.get("upperDateTime", "")[:10].replace("-", "")
    modalities = set(filter(None, wanted.get("modalitiesInStudy", "").split(",")))
    return [
        each
        for each in seen
        if each.date >= first and (not last or each.date <= last) and (not modalities or modalities & set(each.modalities))
    ]


def _of_studies(connection: Connection, decision: Decision, wanted: Mapping[str, str]) -> list[SeenStudy]:
    """Table 4.106.4.1-2: studyUID or accessionNumber, each of them a list."""
    uids, numbers = (
        [each for each in wanted.get(name, "").split(",") if each][:_MOST] for name in ("studyUID", "accessionNumber")
    )
    if wanted.get("requestType") != "STUDY" or bool(uids) == bool(numbers):
        raise Refused("requestType is PATIENT, with patientID, or STUDY, with either studyUID or accessionNumber")
    if uids:
        return list(studies.of_uids(connection, decision, uids))
    return list(studies.of_accession_numbers(connection, decision, numbers))
