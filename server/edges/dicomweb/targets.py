"""What a URL names: PS3.18 section 10.1.1, and how its retrieval is put into the trail."""

import re
import time
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, select
from starlette.requests import Request

from profiles.audit_event import RAD_107, AuditedEntity, Kind, dicom_objects
from profiles.identifiers import InvalidIdentifier, lenient_uid
from server.access import capabilities
from server.edges import context
from server.errors import MalformedQuery
from server.records.catalogue import STUDY, StoredInstance
from server.store.prepared import Prepared
from server.work.retrieve import locate

_CAPABILITY = re.compile(r"^/c/[^/]*")
_STUDY_ID = Prepared(lambda _: select(STUDY.c.id).where(STUDY.c.uid == bindparam("uid")), ("uid",))


@dataclass(frozen=True, slots=True)
class Target:
    """The instances that a URL names, never none, and the resource id of their study's ImagingStudy."""

    instances: list[StoredInstance]
    study_id: str


def uid(request: Request, name: str) -> str | None:
    """A UID of the path, None where the route has no such part. Raises `MalformedQuery`."""
    value: str | None = request.path_params.get(name)
    if value is None:
        return None
    try:
        return lenient_uid(value)
    except InvalidIdentifier as error:
        raise MalformedQuery(f"{name}: {error}") from None


def require_capability(request: Request) -> None:
    """SMART Imaging Access, "Issuing capability URLs": raises `Forbidden` for an address that is not this caller's for this study."""
    capability: str | None = request.path_params.get("capability")
    if capability is not None:
        key, made = context.node(request).installation.cursor_key, context.decision(request)
        capabilities.require(key, capability, made, request.path_params["study"], time.time())


def located(request: Request, connection: Connection, *, partly: bool = False, taking: bool = False) -> Target:
    """The target of a retrieval; `partly` as for `locate`; `taking` where whole objects leave, which may only be looked at by some.

    Raises `Unauthenticated`, `Forbidden`, `NotFound` or `MalformedQuery`.
    """
    decision = context.decision(request)
    study = uid(request, "study")
    assert study is not None
    found = locate(connection, decision, study, uid(request, "series"), uid(request, "instance"), partly=partly)
    if taking:
        decision.require_taking()
    ((id_,),) = _STUDY_ID.rows(connection, {"uid": study})
    return Target(found, str(id_))


def told(request: Request, target: Target) -> None:
    """IHE RAD TF-2 section 4.107.5.1: the retrieval in the trail, before its first byte."""
    first = target.instances[0]
    details = (("instances", str(len(target.instances))),) if len(target.instances) > 1 else (("instance", first.uid),)
    entity = AuditedEntity(reference=f"ImagingStudy/{target.study_id}", details=details)
    context.told(request, "read", RAD_107, patients=[first.patient], entities=(entity,))


def asked(request: Request, kind: Kind) -> tuple[AuditedEntity, ...]:
    """What a request was after, for the trail: the query as the client wrote it, or what the UIDs of the path name."""
    if kind == "query":
        path = _CAPABILITY.sub("", str(request.scope["path"]).removeprefix("/dicomweb")).encode("utf-8", "replace")
        return (AuditedEntity(query=path + b"?" + request.scope["query_string"]),)
    given = request.path_params
    return dicom_objects(given.get("study", ""), given.get("series", ""), given.get("instance", "") or given.get("workitem", ""))


def base(request: Request) -> str:
    """The base URL of this DICOMweb service, as clients call it."""
    return f"{context.node(request).settings.base_url}/dicomweb"


def url(request: Request, instance: StoredInstance) -> str:
    """The Retrieve URL of an instance."""
    return f"{base(request)}/studies/{instance.study_uid}/series/{instance.series_uid}/instances/{instance.uid}"
