"""Its FHIR: studies, Patients, batches, brands."""

import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from peers.faulty_smart.callers import CREATE, READ, SEARCH, UPDATE, Caller, Refusal, answered, caller, refused
from peers.faulty_smart.state import FHIR, PATIENTS, UPDATED, WADO, Images, State, handle
from peers.faulty_smart.tokens import preflight
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

_KNOWN: Final = frozenset(["patient", "identifier", "_lastUpdated", "_include", "_count", "_page", "modality"])


def resource(state: State, study: Images) -> dict[str, Any]:
    series = [
        {"uid": uid, "modality": {"code": "CT"}, "numberOfInstances": len(instances),
         "instance": [{"uid": one, "sopClass": {"code": "urn:oid:1.2.840.10008.5.1.4.1.1.2"}} for one in instances]}
        for uid, instances in study.series.items()
    ]  # fmt: skip
    return {
        "resourceType": "ImagingStudy",
        "id": study.id,
        "meta": {"lastUpdated": UPDATED},
        "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{study.uid}"}],
        "status": "available",
        "modality": [{"system": "http://dicom.nema.org/resources/ontology/DCM", "code": "CT"}],
        "subject": {"reference": f"Patient/{PATIENTS[study.patient]}"},
        "numberOfSeries": len(series),
        "numberOfInstances": sum(len(each) for each in study.series.values()),
        "series": series,
        "endpoint": [{"reference": "Endpoint/wado"}],
    }


def endpoint(state: State, address: str, id_: str = "wado") -> dict[str, Any]:
    return {
        "resourceType": "Endpoint",
        "id": id_,
        "extension": [
            {"url": "http://fhir.org/argonaut/smart-imaging/StructureDefinition/requires-access-token", "valueBoolean": True}
        ],
        "status": "active",
        "connectionType": {
            "system": "http://terminology.hl7.org/CodeSystem/endpoint-connection-type",
            "code": "dicom-wado-rs",
        },
        "payloadType": [{"text": "DICOM"}],
        "address": address,
    }


def _with_capability(who: Caller, study: Images) -> dict[str, Any]:
    """The study with an Endpoint of its own, contained, whose address is a capability URL."""
    capability = handle()
    who.state.capabilities[capability] = (study.uid, who.grant)
    contained = endpoint(who.state, f"{who.state.base}{WADO}/c/{capability}", "own")
    return {**resource(who.state, study), "contained": [contained], "endpoint": [{"reference": "#own"}]}


def search(who: Caller, pairs: list[tuple[str, str]]) -> dict[str, Any]:
    state, given = who.state, dict(pairs)
    patients = {each.removeprefix("Patient/") for name, value in pairs if name == "patient" for each in value.split(",")}
    if set(given) - _KNOWN - {"access_token", "token"} or not patients:
        raise Refusal(400)
    allowed = who.patients("ImagingStudy", SEARCH)
    if not allowed:
        raise Refusal(403)
    if state.wrong("patients-joined"):
        first = next(value for name, value in pairs if name == "patient").split(",")[0]
        if first not in allowed:
            raise Refusal(403)
    elif not patients <= allowed and not state.wrong("empty-bundle"):
        raise Refusal(403)
    elif not patients <= allowed:
        patients = set()
    candidates = [each for each in state.studies if PATIENTS[each.patient] in patients and _matches(state, each, given)]
    if any(each.pending for each in candidates) and "identifier" in given:
        raise Refusal(503, Retry_After="2")
    candidates = [each for each in candidates if not each.pending]
    shown = [each for each in candidates if who.sees(each, SEARCH) or state.wrong("withheld-told")]
    total = len(candidates) if state.wrong("total-counts-withheld") else len(shown)
    return _bundle(who, shown, total, given)


def _bundle(who: Caller, shown: list[Images], total: int, given: Mapping[str, str]) -> dict[str, Any]:
    state = who.state
    count, page = int(given.get("_count", "100")), int(given.get("_page", "0"))
    part = shown[page * count : (page + 1) * count]
    entries = [
        {
            "fullUrl": f"{state.fhir}/ImagingStudy/{each.id}",
            "resource": _with_capability(who, each) if state.with_capabilities else resource(state, each),
            "search": {"mode": "match"},
        }
        for each in part
    ]
    included = given.get("_include") == "ImagingStudy:endpoint" and not state.wrong("no-endpoint")
    if part and included and not state.with_capabilities:
        entries.append(
            {
                "fullUrl": f"{state.fhir}/Endpoint/wado",
                "resource": endpoint(state, state.base + WADO),
                "search": {"mode": "include"},
            }
        )
    own = {name: value for name, value in given.items() if name != "_page"}
    links = [{"relation": "self", "url": f"{state.fhir}/ImagingStudy?{urlencode(own)}"}]
    if len(shown) > (page + 1) * count:
        links.append({"relation": "next", "url": f"{state.fhir}/ImagingStudy?{urlencode({**own, '_page': str(page + 1)})}"})
    return {"resourceType": "Bundle", "type": "searchset", "total": total, "link": links, "entry": entries}


def _matches(state: State, study: Images, given: Mapping[str, str]) -> bool:
    if "identifier" in given and not given["identifier"].endswith(f"urn:oid:{study.uid}"):
        return False
    updated = given.get("_lastUpdated", "")
    if not updated or state.wrong("updated-ignored"):
        return True
    from datetime import datetime

    moment, own = datetime.fromisoformat(updated[2:]), datetime.fromisoformat(UPDATED)
    return own > moment if updated.startswith("gt") else own >= moment


def read(who: Caller, type_: str, id_: str) -> dict[str, Any]:
    if type_ == "ImagingStudy":
        study = next((each for each in who.state.studies if each.id == id_), None)
        if study is None:
            raise Refusal(403)
        who.require(type_, READ, PATIENTS[study.patient])
        if not who.sees(study, READ):
            raise Refusal(403)
        return resource(who.state, study)
    if type_ == "Patient":
        who.require(type_, READ, id_)
        return {"resourceType": "Patient", "id": id_}
    raise Refusal(403)


def asked(who: Caller, path: str, query: str) -> dict[str, Any]:
    """A GET below the base: a read or a search."""
    match path.split("/"):
        case ["ImagingStudy"]:
            return search(who, parse_qsl(query, True))
        case [type_, id_] if not query:
            return read(who, type_, id_)
        case [type_, id_, "_history"]:
            return {"resourceType": "Bundle", "type": "history", "entry": [{"resource": read(who, type_, id_)}]}
        case _:
            raise Refusal(403)


async def fhir(request: Request) -> Response:
    path = request.path_params["path"]
    if request.method == "OPTIONS":
        return preflight(request)
    try:
        who = caller(request)
        body = await request.body()
        if request.method == "POST" and path.endswith("/_search"):
            return answered(request, search(who, parse_qsl(body.decode(), True)))
        if request.method in ("POST", "PUT"):
            type_ = path.split("/")[0]
            who.require(type_, CREATE if request.method == "POST" else UPDATE, who.grant.patient)
            return answered(request, json.loads(body), 201)
        return answered(request, asked(who, path, request.url.query))
    except Refusal as refusal:
        return refused(request, refusal)


async def batch(request: Request) -> Response:
    try:
        who = caller(request)
    except Refusal as refusal:
        return refused(request, refusal)
    entries = []
    for each in (await request.json())["entry"]:
        path, _, query = each["request"]["url"].partition("?")
        try:
            content = asked(who, path, query)
            entries.append({"resource": content, "response": {"status": "200"}})
        except Refusal as refusal:
            status = 200 if who.state.wrong("batch-open") else refusal.status
            entries.append({"response": {"status": str(status)}})
    return answered(request, {"resourceType": "Bundle", "type": "batch-response", "entry": entries})


async def metadata(request: Request) -> Response:
    answer = JSONResponse({"resourceType": "CapabilityStatement", "status": "active", "rest": [{"mode": "server"}]})
    answer.headers["Access-Control-Allow-Origin"] = "*"
    return answer


async def brands(request: Request) -> Response:
    state: State = request.app.state.smart
    headers = {"Access-Control-Allow-Origin": "*", "ETag": 'W/"1"'}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    meta = {"lastUpdated": UPDATED}
    organization = {
        "resourceType": "Organization",
        "id": "hospital",
        "meta": meta,
        "name": "Hospital",
        "identifier": [{"system": "urn:ietf:rfc:3986", "value": "https://example.org"}],
        "endpoint": [{"reference": "Endpoint/fhir"}],
    }
    own = {"resourceType": "Endpoint", "id": "fhir", "meta": meta, "status": "active", "address": state.fhir}
    entries = [{"fullUrl": f"{state.base}/{each['resourceType']}/{each['id']}", "resource": each} for each in (organization, own)]
    return JSONResponse({"resourceType": "Bundle", "type": "collection", "timestamp": UPDATED, "entry": entries}, headers=headers)


async def style(request: Request) -> Response:
    return JSONResponse({"color_background": "#ffffff"})


ROUTES: Final = [
    Route(f"{FHIR}/metadata", metadata),
    Route(FHIR, batch, methods=["POST"]),
    Route(FHIR + "/{path:path}", fhir, methods=["GET", "POST", "PUT", "OPTIONS"]),
    Route("/brands", brands),
    Route("/style.json", style),
]
