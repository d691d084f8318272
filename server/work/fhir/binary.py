"""Binary: bytes of any kind, judged as the resource that is their security context (FHIR R4 section 2.44).

The resource that is stored has no `data`: its content is a blob, whose SHA-256 stands in the resource, so that other content is another version.
A Binary of a transaction has its content in its body. The document of a manifest is the Binary with the id of its DocumentReference.
"""

import base64
import re
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson
from sqlalchemy import Connection

from profiles.audit_event import REST_CREATE, REST_DELETE, REST_READ, REST_UPDATE, REST_VREAD
from profiles.fhir.issues import Issue
from profiles.fhir.references import parse_reference
from server.access.decisions import Interaction
from server.errors import Conflict, Forbidden, Gone, Invalid, NotFound
from server.records import binaries, documents, resources
from server.records.resources import Stored
from server.store.blobs import Blob
from server.work.fhir import permission
from server.work.fhir.caller import Audited, Caller, Outcome
from server.work.fhir.create import new_id
from server.work.fhir.reading import FHIR_ID
from server.work.fhir.storing import require_version

Json = dict[str, Any]
_DIGEST: Final = "urn:imageshare:sha256"
_MEDIA_TYPE: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+([ \t]*;[\t !-~]*)?", re.ASCII)
_LONGEST: Final = 255


@dataclass(frozen=True, slots=True)
class Content:
    """One version, ready to be sent. `head` is the resource without `data`; the bytes are `inline`, or the blob `blob_id`."""

    stored: Stored
    head: Json
    size: int
    blob_id: str = ""
    inline: bytes = b""
    audited: tuple[Audited, ...] = ()

    @property
    def media_type(self) -> str:
        return str(self.head["contentType"])


def read(connection: Connection, caller: Caller, id_: str, version: str = "") -> Content:
    """FHIR R4 sections 2.44.4, 3.1.0.2 and 3.1.0.3: the current version, or the one that is named. Raises `NotFound`, `Gone`, `Forbidden`."""
    with permission.if_granted(caller.decision, _judged(caller, Interaction.READ)):
        if not FHIR_ID.fullmatch(id_):
            raise NotFound("there is no Binary with this id")
        if not version and (found := _document(connection, caller, id_)) is not None:
            return found
        if version and not (version.isascii() and version.isdigit() and str(int(version[:9])) == version):
            raise NotFound("there is no Binary with this id and version")
        try:
            stored = (
                resources.vread(connection, "Binary", id_, int(version)) if version else resources.read(connection, "Binary", id_)
            )
        except Gone:
            permission.require(caller.decision, "Binary", Interaction.READ)
            raise
    content = _content(connection, stored)
    patient = _require(connection, caller, Interaction.READ, _context_of(content.head))
    name = f"Binary/{id_}/_history/{stored.version}" if version else f"Binary/{id_}"
    audited = Audited("read", REST_VREAD if version else REST_READ, name, patient)
    return Content(content.stored, content.head, content.size, content.blob_id, content.inline, (audited,))


def require_write(connection: Connection, caller: Caller, id_: str, context: str) -> None:
    """Raises `Forbidden`, `Invalid` and `Conflict` where `write` would: to be asked before anything is taken from the client."""
    _writable(connection, caller, id_, context, resources.last(connection, "Binary", id_) if id_ else None)


def write(
    connection: Connection,
    caller: Caller,
    id_: str,
    media_type: str,
    context: str,
    blob: Blob,
    *,
    if_match: str = "",
    meta: Json | None = None,
) -> Outcome:
    """FHIR R4 section 2.44.3, create (without `id_`) and update: `blob` becomes the content of a new version.

    Where that is what it was already there is no new version, no location, and the blob is nobody's.
    `context` is a reference such as `DocumentReference/7`, or empty. Raises `Forbidden`, `Invalid`, `Conflict`, `PreconditionFailed`.
    """
    if len(media_type) > _LONGEST or not _MEDIA_TYPE.fullmatch(media_type):
        raise Invalid([Issue("error", "value", "Binary.contentType", "the content needs a media type, such as application/pdf")])
    before = resources.locked(connection, "Binary", id_) if id_ else None
    require_version(if_match, before)
    patient = _writable(connection, caller, id_, context, before)
    assert blob.sha256 is not None
    made: Json = {
        "resourceType": "Binary",
        "id": id_ or new_id(),
        **({"meta": meta} if meta else {}),
        "contentType": media_type,
    }
    if context:
        made["securityContext"] = {"reference": context}
    made["_data"] = {"extension": [{"url": _DIGEST, "valueString": blob.sha256.hex()}]}
    stored = resources.put(connection, made, method="PUT" if id_ else "POST", base=caller.base)
    is_new = before is None or before.deleted
    reference = f"Binary/{stored.id}/_history/{stored.version}"
    audited = Audited("create", REST_CREATE, reference, patient) if is_new else Audited("update", REST_UPDATE, reference, patient)
    is_changed = before is None or before.version != stored.version
    if is_changed:
        binaries.keep(connection, stored, blob)
    told = orjson.dumps({name: value for name, value in orjson.loads(stored.body).items() if name != "_data"})
    location = f"{caller.base}/{reference}" if is_changed else ""
    return Outcome(201 if is_new else 200, replace(stored, body=told, patient=patient), location=location, audited=(audited,))


def delete(connection: Connection, caller: Caller, id_: str, *, if_match: str = "") -> Outcome:
    """FHIR R4 section 3.1.0.7, delete: gone, with its earlier versions as they are. What is not there is deleted as well: 204."""
    before = resources.locked(connection, "Binary", id_)
    require_version(if_match, before)
    if before is None or before.deleted:
        permission.require(caller.decision, "Binary", Interaction.DELETE)
        _refuse_document(connection, caller, id_)
        return Outcome(204, before)
    patient = _require(connection, caller, Interaction.DELETE, _context_of(orjson.loads(before.body)))
    stored = resources.delete(connection, "Binary", id_)
    return Outcome(204, stored, audited=(Audited("delete", REST_DELETE, f"Binary/{id_}/_history/{stored.version}", patient),))


# --- whose it is


def _judged(caller: Caller, interaction: Interaction) -> str:
    """The type of which a scope has to be there to be told that there is nothing: those who may read documents ask for theirs here."""
    return "Binary" if permission.is_granted(caller.decision, "Binary", interaction) else "DocumentReference"


def _require(connection: Connection, caller: Caller, interaction: Interaction, context: str) -> str:
    """The patient whose it is, or empty. Raises `Forbidden` unless the caller may do to the security context what it wants to do here.

    Without a context, or where that is no more, it is nobody's: a patient/ scope does not open it. To write below a context is to update that.
    """
    of = _existing(connection, context) if context else None
    if of is None:
        caller.require_patient("Binary", interaction, "")
        return ""
    asked = Interaction.READ if interaction is Interaction.READ else Interaction.UPDATE
    try:
        permission.require_patient(caller.decision, of.type, asked, of.patient)
    except Forbidden as error:
        raise Forbidden(error.detail, frozenset([of.patient])) from None
    return of.patient


def _existing(connection: Connection, context: str) -> Stored | None:
    target = parse_reference(context)
    try:
        return resources.read(connection, target.type, target.id) if target.form == "relative" else None
    except (NotFound, Gone):
        return None


def _writable(connection: Connection, caller: Caller, id_: str, context: str, before: Stored | None) -> str:
    """The patient whose it will be."""
    interaction = Interaction.UPDATE if id_ else Interaction.CREATE
    if before is not None and not before.deleted:
        _require(connection, caller, interaction, _context_of(orjson.loads(before.body)))
    elif before is not None:  # who takes the id could read what it was
        caller.require_patient("Binary", interaction, "")
    patient = _require(connection, caller, interaction, context)
    if context and _existing(connection, context) is None:
        why = "the security context is a resource of this server, such as DocumentReference/7, that is there already"
        raise Invalid([Issue("error", "not-found", "Binary.securityContext", why)], 422)
    if id_:
        if not FHIR_ID.fullmatch(id_):
            raise Invalid([Issue("error", "value", "Binary.id", "an id has 1 to 64 letters, digits, dots and hyphens")])
        _refuse_document(connection, caller, id_)
    return patient


def _refuse_document(connection: Connection, caller: Caller, id_: str) -> None:
    if FHIR_ID.fullmatch(id_) and _document(connection, caller, id_) is not None:
        raise Conflict(
            "this Binary is the document of the DocumentReference with its id: it changes and goes with that study's images"
        )


# --- what there is


def _context_of(head: Json) -> str:
    found = head.get("securityContext", {}).get("reference", "")
    return found if isinstance(found, str) else ""


def _content(connection: Connection, stored: Stored) -> Content:
    head: Json = orjson.loads(stored.body)
    data = head.pop("data", None)
    head.pop("_data", None)
    kept = binaries.of(connection, stored.id, stored.version)
    if kept is not None:
        return Content(stored, head, kept.size, blob_id=kept.blob_id)
    inline = base64.b64decode(data) if isinstance(data, str) else b""
    return Content(stored, head, len(inline), inline=inline)


def _document(connection: Connection, caller: Caller, id_: str) -> Content | None:
    """The document of a manifest, judged as its DocumentReference."""
    found = documents.by_uuid(connection, [f"urn:uuid:{id_}"])
    if not found:
        return None
    stored = resources.read(connection, "DocumentReference", id_)
    caller.require_patient("DocumentReference", Interaction.READ, stored.patient)
    size = binaries.size(connection, found[0].blob_id)
    head = {
        "resourceType": "Binary",
        "id": id_,
        "contentType": found[0].entry.mime_type,
        "securityContext": {"reference": f"DocumentReference/{id_}"},
    }
    audited = Audited("read", REST_READ, f"Binary/{id_}", stored.patient)
    return Content(stored, head, size, blob_id=found[0].blob_id, audited=(audited,))
