"""Fetching from other communities for programs, as `imageshare fetch` does it (PS3.18 has no such transaction). The worker does it.

POST /fetches            {"community": "county", "patient": "4711^^^&1.2.3&ISO", "study": "1.2.3.4"}    202, Location
GET  /fetches/{fetch}    how far it is, and what came of each document

It brings images of whom the community names, so only `system/` and `user/` scopes that may store studies of every patient open it. How a fetch
stands is told to who asked for it, and to who may read what it brings.
"""

from typing import Any, Final

import orjson
from pydantic import BaseModel, Field, ValidationError, field_validator
from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from profiles.audit_event import REST_CREATE, REST_READ, AuditedEntity
from profiles.identifiers import PatientIdentifier
from server.access.decisions import Decision, Interaction, Unseen
from server.edges import context
from server.edges.dicomweb.answers import answering, answering_async
from server.errors import Forbidden, MalformedBody, NotFound, TooLarge
from server.records import fetches, patients
from server.records.fetches import Fetching
from server.records.patients import Known
from server.settings import Way
from server.store.db import Database
from server.work.fetching.asked import Asked
from server.work.fetching.jobs import ask, asked_of, has_asked
from server.work.registry.standing import DOCUMENT, LIST
from server.work.retrieve import STUDY_TYPE

_NO_FETCH: Final = "there is no such fetch, or it was over more than 30 days ago"
_MOST: Final = 1 << 16
_JSON: Final = "application/json"


class _Wanted(BaseModel, extra="forbid", strict=True):
    """The body of a POST, as the options of the command."""

    community: str
    patient: str
    accession: str = Field(default="", max_length=1000)
    study: str = Field(default="", max_length=64)
    document: str = Field(default="", max_length=200)
    by: Way | None = None
    documents: bool = False

    @field_validator("patient")
    @classmethod
    def _cx(cls, value: str) -> str:
        PatientIdentifier.from_cx(value)
        return value


@answering_async("create", REST_CREATE)
async def begin(request: Request) -> Response:
    """202 once the fetch is a job that survives a restart; Location says where it can be asked about."""
    await run_in_threadpool(_permitted, request)
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _MOST:
            raise TooLarge("what is to be fetched is said in at most 64 KiB")
    return await run_in_threadpool(_begin, request, body)


def _begin(request: Request, body: bytes) -> Response:
    try:
        wanted = _Wanted.model_validate(orjson.loads(body))
    except orjson.JSONDecodeError:
        raise MalformedBody("the body is no JSON") from None
    except ValidationError as error:
        wrong = sorted({".".join(map(str, each["loc"])) or "the whole" for each in error.errors(include_input=False)})
        raise MalformedBody(f"wrong in the body: {', '.join(wrong)[:200]}") from None
    _permitted(request, documents=wanted.documents)
    node = context.node(request)
    if not any(each.name == wanted.community for each in node.settings.communities):
        raise NotFound("the settings name no such community")
    asked = Asked(
        PatientIdentifier.from_cx(wanted.patient), wanted.accession, wanted.study, wanted.document, wanted.by, wanted.documents
    )
    agent = context.client(request)
    with node.database.write() as connection:
        id_ = ask(connection, wanted.community, asked, agent.user or agent)
    context.told(request, "create", REST_CREATE, patients=_whose(node.database, asked.patient), entities=(_entity(id_),))
    return Response(status_code=202, headers={"Location": f"{node.settings.base_url}/dicomweb/fetches/{id_}"})


@answering("read", REST_READ)
def status(request: Request) -> Response:
    """How a fetch stands: waiting, running, done or failed. Told to who asked for it, and to who may read what it brings; to others as if there were none."""
    decision = context.decision(request)
    if decision.some_of(STUDY_TYPE, Interaction.CREATE) == frozenset():
        decision.require(STUDY_TYPE, Interaction.READ)
    with context.reading(request) as connection:
        found = fetches.find(connection, request.path_params["fetch"])
        asked = asked_of(found) if found is not None else None
        known = patients.find(connection, asked.patient) if asked is not None else None
        agent = context.client(request)
        if found is None or asked is None:
            raise NotFound(_NO_FETCH)
        mine = has_asked(found, agent.user or agent) and _may_fetch(decision)
        if not mine and not _may_read(decision, connection, asked, known):
            raise Unseen(_NO_FETCH, frozenset([known.id] if known is not None else []))
    context.told(request, "read", REST_READ, patients=[known.id] if known else [], entities=(_entity(found.id),))
    return Response(orjson.dumps(_told(found)), media_type=_JSON)


def _may_fetch(decision: Decision) -> bool:
    return decision.patients(STUDY_TYPE, Interaction.CREATE) is None


def _may_read(decision: Decision, connection: Connection, asked: Asked, known: Known | None) -> bool:
    """Whether the caller sees the patient's studies, and documents where some were asked for. Of who is not known here: everybody's."""
    return all(
        decision.patients(type_, Interaction.READ) is None
        if known is None
        else decision.sees_whose(connection, type_, Interaction.READ, known.id)
        for type_ in ((STUDY_TYPE, DOCUMENT) if asked.documents else (STUDY_TYPE,))
    )


def _told(found: Fetching) -> dict[str, Any]:
    return {
        "id": found.id, "community": found.community, "state": found.state, "done": found.done, "total": found.total,
        "error": found.error, "documents": found.documents,
    }  # fmt: skip


def _permitted(request: Request, *, documents: bool = False) -> None:
    """Raises `Forbidden` for who may not store studies of every patient; with `documents` their documents too."""
    decision = context.decision(request)
    for type_ in (STUDY_TYPE, DOCUMENT, LIST) if documents else (STUDY_TYPE,):
        decision.require(type_, Interaction.CREATE)
        if decision.patients(type_, Interaction.CREATE) is not None:
            raise Forbidden(f"fetching needs a system/ or user/ scope for {type_} that includes 'c'")


def _whose(database: Database, patient: PatientIdentifier) -> list[str]:
    """Whom the fetch is about, where she is known here."""
    with database.read() as connection:
        known = patients.find(connection, patient)
    return [known.id] if known else []


def _entity(id_: str) -> AuditedEntity:
    return AuditedEntity(identifier=id_, details=(("object", "Fetch"),))
