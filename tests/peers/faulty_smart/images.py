"""Its FHIR and its images."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode

from peers.faulty_smart.oauth import preflight, scopes_of, validated
from peers.faulty_smart.state import FHIR, ORIGIN, PATIENTS, UPDATED, WADO, Grant, Images, State, dicom
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from profiles.smart.scopes import Interaction, Scope

_JSON: Final = "application/fhir+json"
_R, _S, _C, _U = Interaction.READ, Interaction.SEARCH, Interaction.CREATE, Interaction.UPDATE
_KNOWN: Final = frozenset(["patient", "identifier", "_lastUpdated", "_include", "_count", "_page", "modality"])
_PICTURE: Final = b"\xff\xd8\xff\xd9"


class Refusal(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, **headers: str) -> None:
        super().__init__(status)
        self.status, self.headers = status, {name.replace("_", "-"): value for name, value in headers.items()}


class Caller:
    """Who asks, and what they may: the grant of the token."""

    def __init__(self, state: State, grant: Grant, scope: str) -> None:
        self.state, self.grant, self.scopes = state, grant, scopes_of(scope)

    def scopes_for(self, type_: str, interaction: Interaction) -> list[Scope]:
        return [each for each in self.scopes if each.covers(type_, interaction)]

    def patients(self, type_: str, interaction: Interaction) -> frozenset[str]:
        reach, found = self.state.reach(self.grant), set[str]()
        for each in self.scopes_for(type_, interaction):
            found |= {self.grant.patient} & reach if each.context == "patient" else reach
        return frozenset(found)

    def require(self, type_: str, interaction: Interaction, patient: str) -> None:
        if patient not in self.patients(type_, interaction):
            raise Refusal(403)

    def sees(self, study: Images, interaction: Interaction) -> bool:
        """Whether a constraint of the scope and what is withheld let this study be seen."""
        kept = self.state.principal(self.grant) in study.withheld
        granted = self.scopes_for("ImagingStudy", interaction)
        return not kept and any(all(_meets(study, *one) for one in each.query) for each in granted)

    def sees_series(self, study: Images, series: str) -> bool:
        return not (self.state.principal(self.grant) in study.series_withheld and series == study.last_series)


def _meets(study: Images, name: str, value: str) -> bool:
    return (name == "identifier" and value.endswith(f"urn:oid:{study.uid}")) or (name == "modality" and value == "CT")


def caller(request: Request) -> Caller:
    """Raises `Refusal` 401 where nobody is known."""
    state: State = request.app.state.smart
    given = request.headers.get("authorization", "").removeprefix("Bearer ")
    if state.wrong("token-in-url") and not given:
        given = request.query_params.get("access_token", request.query_params.get("token", ""))
    found = validated(state, given)
    if found is None:
        raise Refusal(401, WWW_Authenticate='Bearer error="invalid_token"')
    return Caller(state, found[0], str(found[1]["scope"]))


def answered(request: Request, content: Any, status: int = 200, kind: str = _JSON) -> Response:
    """With the CORS headers that are due."""
    state: State = request.app.state.smart
    headers = {"Cache-Control": "private, no-store"}
    origin = request.headers.get("origin", "")
    if origin and (origin == ORIGIN or state.wrong("cors-anywhere")):
        headers["Access-Control-Allow-Origin"] = origin
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return Response(body, status, headers, kind)


# --- FHIR


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


def endpoint(state: State) -> dict[str, Any]:
    return {
        "resourceType": "Endpoint",
        "id": "wado",
        "extension": [
            {"url": "http://fhir.org/argonaut/smart-imaging/StructureDefinition/requires-access-token", "valueBoolean": True}
        ],
        "status": "active",
        "connectionType": {
            "system": "http://terminology.hl7.org/CodeSystem/endpoint-connection-type",
            "code": "dicom-wado-rs",
        },
        "payloadType": [{"text": "DICOM"}],
        "address": state.base + WADO,
    }


def search(who: Caller, pairs: list[tuple[str, str]]) -> dict[str, Any]:
    state, given = who.state, dict(pairs)
    patients = {each.removeprefix("Patient/") for name, value in pairs if name == "patient" for each in value.split(",")}
    if set(given) - _KNOWN - {"access_token", "token"} or not patients:
        raise Refusal(400)
    allowed = who.patients("ImagingStudy", _S)
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
    shown = [each for each in candidates if who.sees(each, _S) or state.wrong("withheld-told")]
    total = len(candidates) if state.wrong("total-counts-withheld") else len(shown)
    return _bundle(state, shown, total, given)


def _bundle(state: State, shown: list[Images], total: int, given: Mapping[str, str]) -> dict[str, Any]:
    count, page = int(given.get("_count", "100")), int(given.get("_page", "0"))
    part = shown[page * count : (page + 1) * count]
    entries = [
        {"fullUrl": f"{state.fhir}/ImagingStudy/{each.id}", "resource": resource(state, each), "search": {"mode": "match"}}
        for each in part
    ]
    if part and given.get("_include") == "ImagingStudy:endpoint" and not state.wrong("no-endpoint"):
        entries.append({"fullUrl": f"{state.fhir}/Endpoint/wado", "resource": endpoint(state), "search": {"mode": "include"}})
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
        who.require(type_, _R, PATIENTS[study.patient])
        if not who.sees(study, _R):
            raise Refusal(403)
        return resource(who.state, study)
    if type_ == "Patient":
        who.require(type_, _R, id_)
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
            who.require(type_, _C if request.method == "POST" else _U, who.grant.patient)
            return answered(request, json.loads(body), 201)
        return answered(request, asked(who, path, request.url.query))
    except Refusal as refusal:
        return _refused(request, refusal)


def _refused(request: Request, refusal: Refusal) -> Response:
    words = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "forbidden"}]}
    answer = answered(request, words, refusal.status)
    answer.headers.update(refusal.headers)
    return answer


async def batch(request: Request) -> Response:
    try:
        who = caller(request)
    except Refusal as refusal:
        return _refused(request, refusal)
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


# --- WADO-RS


async def wado(request: Request) -> Response:
    if request.method == "OPTIONS":
        return preflight(request)
    try:
        return _images(request, caller(request))
    except Refusal as refusal:
        return _refused(request, refusal)


def _images(request: Request, who: Caller) -> Response:
    state, path = who.state, request.path_params["path"]
    uid, _, rest = path.partition("/")
    study = next((each for each in state.studies if each.uid == uid), None)
    last = rest.rpartition("/")[2]
    open_ = (
        state.wrong("wado-open")
        or (state.wrong("metadata-open") and last == "metadata")
        or (state.wrong("rendered-open") and last in ("rendered", "thumbnail"))
    )
    if study is None:
        raise Refusal(404)
    if not open_:
        _permitted(who, study)
    if study.pending:
        raise Refusal(503, Retry_After="2")
    chosen = list(_chosen(who, study, rest))
    accept = request.headers.get("accept", "")
    if last in ("rendered", "thumbnail"):
        return answered(request, _PICTURE, kind="image/png" if "png" in accept else "image/jpeg")
    if last == "metadata":
        return answered(request, [_header(study, *each) for each in chosen], kind="application/dicom+json")
    if "frames" in rest.split("/") or last == "bulkdata":
        if last not in ("1", "bulkdata"):
            raise Refusal(404)
        return _multipart(request, [bytes(64)], "application/octet-stream")
    if "application/dicom" not in accept:
        raise Refusal(406)
    return _multipart(request, [dicom(study, *each) for each in chosen], "application/dicom")


def _permitted(who: Caller, study: Images) -> None:
    if who.state.wrong("scope-ignored"):
        if PATIENTS[study.patient] not in {who.grant.patient, *who.state.reach(who.grant)}:
            raise Refusal(403)
        return
    who.require("ImagingStudy", _R, PATIENTS[study.patient])
    if not who.sees(study, _R):
        raise Refusal(403)


def _chosen(who: Caller, study: Images, rest: str) -> Iterator[tuple[str, str]]:
    """Series and instance UIDs of what is asked for."""
    pieces = rest.split("/") if rest else []
    if pieces and pieces[0] not in ("series", "metadata", "rendered", "thumbnail"):
        raise Refusal(404)
    wanted = pieces[1] if pieces[:1] == ["series"] else ""
    instance = pieces[3] if len(pieces) > 3 and pieces[2] == "instances" else ""
    if wanted and (wanted not in study.series or (instance and instance not in study.series[wanted])):
        raise Refusal(404)
    for series, instances in study.series.items():
        if wanted in ("", series):
            if not who.sees_series(study, series):
                if wanted or not (who.state.wrong("trimmed") or rest == "metadata"):
                    raise Refusal(403)
                continue
            yield from ((series, each) for each in instances if instance in ("", each))


def _header(study: Images, series: str, instance: str) -> dict[str, Any]:
    values = {"00080018": instance, "0020000D": study.uid, "0020000E": series}
    return {tag: {"vr": "UI", "Value": [value]} for tag, value in values.items()}


def _multipart(request: Request, parts: list[bytes], kind: str) -> Response:
    body = b"".join(b"--kit\r\nContent-Type: %s\r\n\r\n%s\r\n" % (kind.encode(), each) for each in parts) + b"--kit--\r\n"
    return answered(request, body, kind=f'multipart/related; type="{kind}"; boundary={quote("kit")}')


async def qido(request: Request) -> Response:
    try:
        who = caller(request)
    except Refusal as refusal:
        return _refused(request, refusal)
    seen = [
        each
        for each in who.state.studies
        if PATIENTS[each.patient] in who.patients("ImagingStudy", _S) and who.sees(each, _S) and not each.pending
    ]
    return answered(request, [{"0020000D": {"vr": "UI", "Value": [each.uid]}} for each in seen], kind="application/dicom+json")


ROUTES: Final = [
    Route(f"{FHIR}/metadata", metadata),
    Route(FHIR, batch, methods=["POST"]),
    Route(FHIR + "/{path:path}", fhir, methods=["GET", "POST", "PUT", "OPTIONS"]),
    Route(f"{WADO}/studies", qido),
    Route(WADO + "/studies/{path:path}", wado, methods=["GET", "OPTIONS"]),
    Route("/brands", brands),
    Route("/style.json", style),
]
