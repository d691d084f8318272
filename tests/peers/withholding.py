"""Callers of a `SmartSite` and what consents keep from them: tokens of people, requests, resources, Consents."""

from typing import Any

from httpx2 import Response
from peers.smart_site import SmartSite
from sqlalchemy import select

from server.access.oauth import granting
from server.access.oauth.granting import Granted
from server.records.catalogue import STUDY
from server.store.db import micros

Json = dict[str, Any]
FHIR = {"Content-Type": "application/fhir+json"}


def token(site: SmartSite, who: str = "practitioner", scope: str = "user/*.cruds", **given: Any) -> str:
    """Of a grant of one of the people."""
    with site.node.database.write() as connection:
        granted = Granted("", "public", scope, site.people[who].id, expires=micros() + 3600 * 10**6, **given)
        id_ = granting.begin(connection, granted).id
        return site.node.tokens.issue_for(connection, grant=id_, client="public", subject="x", scope=scope, seconds=600).token


def of_patient(site: SmartSite, value: str = "A", scope: str = "patient/*.cruds", who: str = "patient") -> str:
    """Of an app in the context of one patient."""
    return token(site, who, scope, patient=site.patients[value])


def script(site: SmartSite) -> str:
    return site.node.tokens.issue(client="script", scope="system/*.cruds")


def call(site: SmartSite, method: str, path: str, by: str, json: Json | None = None, **headers: str) -> Response:
    response: Response = site.http.request(method, path, json=json, headers={"Authorization": f"Bearer {by}", **headers})
    return response


def get(site: SmartSite, path: str, by: str) -> Response:
    return call(site, "GET", path, by)


def put(site: SmartSite, resource: Json, by: str | None = None, **headers: str) -> Response:
    path = f"/fhir/{resource['resourceType']}/{resource['id']}"
    return call(site, "PUT", path, by or script(site), resource, **headers)


def stored(site: SmartSite, *given: Json) -> None:
    """Puts resources as a service does."""
    for resource in given:
        answer = put(site, resource, **FHIR)
        assert answer.status_code in (200, 201), answer.text


def consent(site: SmartSite, provision: Json, patient: str = "A", id_: str = "c", **more: Any) -> Json:
    return {
        "resourceType": "Consent", "id": id_, "status": "active", "scope": {"text": "privacy"}, "category": [{"text": "privacy"}],
        "patient": {"reference": f"Patient/{site.patients[patient]}"}, "policy": [{"uri": "urn:policy"}], "provision": provision, **more,
    }  # fmt: skip


def consented(site: SmartSite, provision: Json, patient: str = "A", id_: str = "c") -> None:
    stored(site, consent(site, provision, patient, id_))


def observation(site: SmartSite, id_: str, patient: str = "A", **more: Any) -> Json:
    subject = {"reference": f"Patient/{site.patients[patient]}"}
    return {"resourceType": "Observation", "id": id_, "status": "final", "code": {"text": "x"}, "subject": subject, **more}


def study_ids(site: SmartSite) -> dict[str, str]:
    """ImagingStudy ids by Study Instance UID."""
    with site.node.database.read() as connection:
        return {uid: id_ for uid, id_ in connection.execute(select(STUDY.c.uid, STUDY.c.id))}
