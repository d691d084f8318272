"""Who asks for data, and what they may."""

import json
from typing import Any, Final

from peers.faulty_smart.state import ORIGIN, Grant, Images, State
from peers.faulty_smart.tokens import validated
from starlette.requests import Request
from starlette.responses import Response

from profiles.smart.scopes import Interaction, Scope, parse_scopes

_JSON: Final = "application/fhir+json"
READ, SEARCH, CREATE, UPDATE = Interaction.READ, Interaction.SEARCH, Interaction.CREATE, Interaction.UPDATE


class Refusal(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, **headers: str) -> None:
        super().__init__(status)
        self.status, self.headers = status, {name.replace("_", "-"): value for name, value in headers.items()}


class Caller:
    """Who asks, and what they may: the grant of the token."""

    def __init__(self, state: State, grant: Grant, scope: str) -> None:
        self.state, self.grant, self.scopes = state, grant, parse_scopes(scope)

    def scopes_for(self, type_: str, interaction: Interaction) -> list[Scope]:
        return [each for each in self.scopes if each.covers(type_, interaction)]

    def patients(self, type_: str, interaction: Interaction) -> frozenset[str]:
        reach, found = self.state.reach(self.grant), set[str]()
        for each in self.scopes_for(type_, interaction):
            own = reach if self.state.wrong("no-patient-is-all") and not self.grant.patient else {self.grant.patient} & reach
            found |= own if each.context == "patient" else reach
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


def refused(request: Request, refusal: Refusal) -> Response:
    words = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "forbidden"}]}
    answer = answered(request, words, refusal.status)
    answer.headers.update(refusal.headers)
    return answer
