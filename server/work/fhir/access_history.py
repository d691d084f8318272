"""`$access-history`: who saw what of a patient, and when, as plain rows (our own OperationDefinition patient-access-history)."""

from typing import Any, Final

from sqlalchemy import Connection

from profiles.fhir.json import serialize
from server.access.decisions import Interaction
from server.errors import NotFound
from server.records import resources
from server.store.db import instant, micros
from server.work.access_history import AccessRow, Place, rows
from server.work.fhir.caller import Caller
from server.work.fhir.inputs import Inputs
from server.work.fhir.paging import seal, unseal
from server.work.fhir.reading import FHIR_ID
from server.work.fhir.searching import address

PARAMETERS: Final = ("start", "end", "_count", "cursor")
DEFINITION: Final = "http://imageshare.example/fhir/OperationDefinition/patient-access-history"
DEFAULT_COUNT: Final = 50
MOST: Final = 500
_TYPE: Final = "AuditEvent"
_NOBODY: Final = "there is no Patient with this id"
Json = dict[str, Any]


def access_history(connection: Connection, caller: Caller, id_: str, inputs: Inputs, *, key: bytes) -> bytes:
    """OperationDefinition patient-access-history: a Parameters resource, as JSON, with an `access` for each event, the newest first.

    It is for who may search the AuditEvents of the patient: the patient's own token, that of a proxy, or of staff. Refused attempts are in it,
    and what was done to those who were merged into this patient: without their AuditEvents, which are of Patients whom the caller may not see.
    Raises `Forbidden`, `NotFound`, `ParameterError`.
    """
    inputs.only(PARAMETERS)
    made = caller.decision
    made.require_patient(_TYPE, Interaction.SEARCH, id_)
    if not made.sees_whose(connection, _TYPE, Interaction.SEARCH, id_):
        raise made.unseen(_TYPE, Interaction.SEARCH, id_, _NOBODY)
    if not FHIR_ID.fullmatch(id_) or resources.last(connection, "Patient", id_) is None:
        raise NotFound(_NOBODY)
    start, end = inputs.moments("start"), inputs.moments("end")
    count = min(inputs.number("_count") or DEFAULT_COUNT, MOST)
    path, given = f"Patient/{id_}/$access-history", [(name, inputs.text(name)) for name in PARAMETERS[:3] if inputs.text(name)]
    before: Place | None = None
    if cursor := inputs.text("cursor"):
        found: list[Any] = unseal(key, cursor, path, given, made)
        before = (int(found[0]), int(found[1]), int(found[2]))
    told = rows(connection, [id_], before, count + 1, start=start[0] if start else None, end=end[1] if end else None)
    parameters = [_access(each) for each in told[:count]]
    if len(told) > count:
        following = seal(key, told[count - 1].place, path, given, made)
        parameters += [
            {"name": "next", "valueUrl": address(caller.base, path, [*given, ("cursor", following)])},
            {"name": "cursor", "valueString": following},
        ]
    whole = [{"name": "asked", "valueInstant": instant(micros())}, *parameters]
    return serialize({"resourceType": "Parameters", "parameter": whole})


def _access(row: AccessRow) -> Json:
    texts = (
        ("who", row.who), ("organization", row.organization), ("app", row.app), ("what", row.what), ("purpose", row.purpose),
    )  # fmt: skip
    return {
        "name": "access",
        "part": [
            {"name": "when", "valueInstant": instant(micros(row.when))},
            *({"name": name, "valueString": text} for name, text in texts if text),
            {"name": "outcome", "valueCode": row.outcome},
            *([] if row.is_former else [{"name": "event", "valueReference": {"reference": f"{_TYPE}/{row.event}"}}]),
        ],
    }
