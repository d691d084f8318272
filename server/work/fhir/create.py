"""Create: `POST [base]/[type]` (FHIR R4 section 3.1.0.8), also conditional, by If-None-Exist (section 3.1.0.8.1)."""

import uuid
from typing import Any

from sqlalchemy import Connection

from profiles.audit_event import REST_CREATE, REST_READ
from server.access.decisions import Interaction
from server.records import resources
from server.records.trail import Audited
from server.work.fhir import conditional, offered
from server.work.fhir.caller import Caller, Outcome
from server.work.fhir.storing import checked, for_readers, put


def create(
    connection: Connection,
    caller: Caller,
    resource: dict[str, Any],
    *,
    if_none_exist: str = "",
    id_: str = "",
    is_checked: bool = False,
) -> Outcome:
    """FHIR R4 section 3.1.0.8: stores a resource of the type that it says, under a new id whatever id it has. 201.

    With `if_none_exist`, a query, and one match: nothing is stored, 200 with what is there. `id_` is given by a transaction that knew it before;
    `is_checked` says that `storing.checked` has been passed. Raises `Forbidden`, `Invalid`, `PreconditionFailed`, `Conflict`.
    """
    type_ = str(resource.get("resourceType"))
    offered.require(type_, "create")
    caller.require(type_, Interaction.CREATE)
    if not is_checked:
        checked(resource, type_)
    if if_none_exist and (found := conditional.only(connection, caller, type_, if_none_exist)):
        return there(connection, caller, type_, found)
    made = {**resource, "id": id_ or new_id()}
    return put(connection, caller, made, None, method="POST", interaction=Interaction.CREATE, audit=("create", REST_CREATE))


def new_id() -> str:
    """An id that the server names: 122 random bits."""
    return str(uuid.uuid4())


def there(connection: Connection, caller: Caller, type_: str, id_: str) -> Outcome:
    """Section 3.1.0.8.1, one match: 200, what is there stays as it is. Its content is for those who may read it."""
    stored = for_readers(connection, caller, resources.read(connection, type_, id_))
    reference = f"{type_}/{id_}/_history/{stored.version}"
    return Outcome(
        200, stored, location=f"{caller.base}/{reference}", audited=(Audited("read", REST_READ, reference, stored.patient),)
    )
