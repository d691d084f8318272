"""Binary: bytes of any kind, judged as the resource that is their security context (FHIR R4 section 2.44).

The resource that is stored has no `data`: its content is a blob, whose SHA-256 stands in the resource, so that other content is another version.
A Binary of a Bundle has its content in its body. The document of a manifest is the Binary with the id of its DocumentReference.
"""

import base64
import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson
from sqlalchemy import Connection

from profiles.audit_event import REST_CREATE, REST_DELETE, REST_READ, REST_UPDATE, REST_VREAD
from profiles.fhir.issues import Issue
from profiles.fhir.json import serialize
from profiles.fhir.references import parse_reference
from server.access.decisions import OTHER_PATIENT, Interaction, Unseen
from server.errors import Conflict, Forbidden, Invalid, NotFound, NotSupported
from server.records import binaries, documents, resources
from server.records.resources import Stored
from server.records.trail import Audited
from server.store.blobs import Blob
from server.work.fhir import permission
from server.work.fhir.caller import Caller, Outcome
from server.work.fhir.create import new_id
from server.work.fhir.delete import refused
from server.work.fhir.offered import MethodNotOffered
from server.work.fhir.reading import FHIR_ID, Deleted
from server.work.fhir.storing import require_targets, require_version
from server.work.fhir.update import current
from server.work.registry import from_fhir

Json = dict[str, Any]
_DIGEST: Final = "urn:imageshare:sha256"
_MEDIA_TYPE: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+([ \t]*;[\t !-~]*)?", re.ASCII)
_LONGEST: Final = 255
_NOT_HERS: Final = (
    "the token is for one patient: the security context has to name a resource of that patient which is there, and not deleted"
)


class ReadAlone(NotSupported):
    """Content that a Bundle has no room for."""

    http_status = 501


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
    """FHIR R4 sections 2.44.4, 3.1.0.2 and 3.1.0.3: the current version, or the one that is named. Raises `NotFound`, `Deleted`, `Forbidden`.

    A version is for those who may read what it belonged to, and what the Binary belongs to now; a deletion is as what it deleted.
    """
    stored = _version(connection, id_, version)
    nothing = "there is no Binary with this id and version" if version else "there is no Binary with this id"
    with _in_same_words(nothing):
        if not version and FHIR_ID.fullmatch(id_) and (found := _document(connection, caller, id_)) is not None:
            return found
        if stored is None:
            with permission.if_granted(caller.decision, _judged(caller, Interaction.READ)):
                raise NotFound(nothing)
        patients = _require_of(connection, caller, Interaction.READ, stored)
    if stored.deleted:
        headers = {"ETag": stored.etag, "Location": f"{caller.base}/Binary/{id_}/_history/{stored.version}"}
        raise Deleted("this Binary was deleted", headers, frozenset(patients) - {""})
    content = _content(connection, stored)
    name = f"Binary/{id_}/_history/{stored.version}" if version else f"Binary/{id_}"
    audited = tuple(Audited("read", REST_VREAD if version else REST_READ, name, each) for each in patients)
    return replace(content, audited=audited)


def _version(connection: Connection, id_: str, version: str) -> Stored | None:
    """A version, or the current one, deleted or not. A version id is a string; ours are numbers without leading zeros, all others name nothing."""
    if not FHIR_ID.fullmatch(id_):
        return None
    if not version:
        return resources.last(connection, "Binary", id_)
    is_one = version.isascii() and version.isdigit() and str(int(version[:9])) == version
    return resources.past(connection, "Binary", id_, int(version)) if is_one else None


def as_resource(connection: Connection, caller: Caller, id_: str, version: str = "") -> Outcome:
    """As `read`, for an entry of a Bundle: the resource with its data (FHIR R4 section 2.44.4).

    Raises `ReadAlone` (501) for content that is in a file of its own, whatever its size: it is streamed, and a Bundle is made whole.
    """
    found = read(connection, caller, id_, version)
    if found.blob_id:
        raise ReadAlone("the content of this Binary has a file of its own; read it by itself, by GET [base]/Binary/[id]")
    data = {"data": base64.b64encode(found.inline).decode()} if found.inline else {}
    stored = replace(found.stored, body=serialize({**found.head, **data}), patient=found.audited[0].patient)
    return Outcome(200, stored, audited=found.audited)


def require_write(connection: Connection, caller: Caller, id_: str, given: Json) -> None:
    """Raises `Forbidden`, `Invalid` and `Conflict` where `write` would: to be asked before anything is taken from the client."""
    _writable(connection, caller, id_, given, resources.last(connection, "Binary", id_) if id_ else None)


def write(
    connection: Connection,
    caller: Caller,
    id_: str,
    given: Json,
    blob: Blob | None = None,
    *,
    if_match: str = "",
    named: str = "",
) -> Outcome:
    """FHIR R4 section 2.44.3, create (without `id_`) and update: `given`, a valid Binary, becomes a new version.

    Its content is `blob`; without one it is its data, which stay in it. Where that is what it was already there is no new version, no location,
    and the blob is nobody's. `named` is the id of a new one that a transaction knew before.
    Raises `Forbidden`, `MethodNotOffered`, `Invalid`, `Conflict`, `PreconditionFailed`.
    """
    _require_form(given)
    before = current(connection, "Binary", id_) if id_ else None
    patient = _writable(connection, caller, id_, given, before)
    require_version(if_match, before)
    made = _made(caller, given, id_ or named or new_id(), blob)
    if caller.rules.references == "check":
        require_targets(connection, caller, made)
    stored = resources.put(connection, made, method="PUT" if id_ else "POST", base=caller.base)
    is_new = before is None or before.deleted
    reference = f"Binary/{stored.id}/_history/{stored.version}"
    audited = Audited("create", REST_CREATE, reference, patient) if is_new else Audited("update", REST_UPDATE, reference, patient)
    is_changed = before is None or before.version != stored.version
    if is_changed and blob is not None:
        binaries.keep(connection, stored, blob)
    if is_changed:
        from_fhir.document_arrived(connection, caller.base, made)
    told = orjson.dumps({name: value for name, value in orjson.loads(stored.body).items() if name != "_data"})
    location = f"{caller.base}/{reference}" if is_changed else ""
    return Outcome(201 if is_new else 200, replace(stored, body=told, patient=patient), location=location, audited=(audited,))


def delete(connection: Connection, caller: Caller, id_: str, *, if_match: str = "") -> Outcome:
    """FHIR R4 section 3.1.0.7, delete: gone, with its earlier versions as they are. What is not there is deleted as well: 204."""
    before = resources.locked(connection, "Binary", id_)
    if before is None:
        permission.require(caller.decision, "Binary", Interaction.DELETE)
        _refuse_document(connection, caller, id_)
        permission.require_absent(caller.decision, "Binary", Interaction.DELETE)
        require_version(if_match, before)
        return Outcome(204)
    try:
        (patient, *_) = _require_of(connection, caller, Interaction.DELETE, before)
    except Unseen as error:
        require_version(if_match, None)
        return Outcome(204, audited=refused(f"Binary/{id_}", error))
    require_version(if_match, before)
    stored = resources.delete(connection, "Binary", id_)
    return Outcome(204, stored, audited=(Audited("delete", REST_DELETE, f"Binary/{id_}/_history/{stored.version}", patient),))


# --- what is stored


def _require_form(given: Json) -> None:
    """What the content needs to be sent as it is, and what it has no place for."""
    kind = given.get("contentType")
    if not isinstance(kind, str) or len(kind) > _LONGEST or not _MEDIA_TYPE.fullmatch(kind):
        raise Invalid([Issue("error", "value", "Binary.contentType", "the content needs a media type, such as application/pdf")])
    if "_data" in given:
        why = "the content has no extensions here, for it is kept as bytes; put them on the Binary itself"
        raise Invalid([Issue("error", "not-supported", "Binary.data", why)], 422)


def _made(caller: Caller, given: Json, id_: str, blob: Blob | None) -> Json:
    """As it is stored: with its context in the form that leads there whatever this server is called, and with the mark of its blob."""
    made = {**given, "resourceType": "Binary", "id": id_}
    if (context := given.get("securityContext")) is not None:
        target = parse_reference(context["reference"], caller.base)
        reference = f"{target.type}/{target.id}" + (f"/_history/{target.version}" if target.version else "")
        made["securityContext"] = {**context, "reference": reference}
    if blob is not None:
        assert blob.sha256 is not None
        made.pop("data", None)
        made["_data"] = {"extension": [{"url": _DIGEST, "valueString": blob.sha256.hex()}]}
    return made


# --- whose it is


@contextlib.contextmanager
def _in_same_words(nothing: str) -> Iterator[None]:
    """Who may not read a Binary is not told whether there is one, nor of what type its security context is; `nothing` says that there is none."""
    try:
        yield
    except Forbidden as error:
        raise Forbidden("the token opens no such Binary; it takes a scope for the resource whose it is", error.patients) from None
    except Unseen as error:
        raise Unseen(nothing, error.patients) from None


def _judged(caller: Caller, interaction: Interaction) -> str:
    """The type of which a scope has to be there to be told that there is nothing: those who may read documents ask for theirs here."""
    return "Binary" if permission.is_granted(caller.decision, "Binary", interaction) else "DocumentReference"


def _require(connection: Connection, caller: Caller, interaction: Interaction, binary: Json) -> str:
    """The patient whose it is, or empty. Raises `Forbidden` unless the caller may do to the security context what it wants to do here.

    Without a context, or where that is no more, it is nobody's: a patient/ scope does not open it. What consents withhold of a context they
    withhold when that is deleted too. To write below a context is to update that.
    """
    of = _context(connection, caller, binary)
    if of is None or of.deleted:
        caller.decision.require_patient("Binary", interaction, "")
    if of is None:
        return ""
    asked = Interaction.READ if interaction is Interaction.READ else Interaction.UPDATE
    try:
        if of.type == "Patient" and caller.decision.studies is not None:
            raise Forbidden(OTHER_PATIENT)  # what hangs on the patient is of more than the study
        permission.require_resource(connection, caller.decision, of.type, asked, of.id, of.patient, now=not of.deleted)
    except Forbidden as error:
        raise Forbidden(error.detail, frozenset([of.patient])) from None
    return of.patient


def _require_of(connection: Connection, caller: Caller, interaction: Interaction, stored: Stored) -> tuple[str, ...]:
    """As `_require`, of a version that is there: the patients whose it was, and whose the Binary is now, or one that is empty."""
    patients = {_require(connection, caller, interaction, _said(connection, stored))}
    now = resources.last(connection, "Binary", stored.id)
    if now is not None and now.version != stored.version:
        patients.add(_require(connection, caller, interaction, _said(connection, now)))
    return tuple(sorted(patients - {""})) or ("",)


def _said(connection: Connection, stored: Stored) -> Json:
    """What a version says of itself, a deletion what it deleted."""
    found = resources.past(connection, "Binary", stored.id, stored.version - 1) if stored.deleted else stored
    said: Json = orjson.loads(found.body) if found is not None and found.body else {}
    return said


def _context(connection: Connection, caller: Caller, binary: Json) -> Stored | None:
    """FHIR R4 section 2.44.2: the resource of this server that is its security context, deleted or not, if there is one."""
    given = binary.get("securityContext")
    reference = given.get("reference") if isinstance(given, dict) else None
    target = parse_reference(reference, caller.base) if isinstance(reference, str) else None
    return resources.last(connection, target.type, target.id) if target is not None and target.id and not target.url else None


def _writable(connection: Connection, caller: Caller, id_: str, given: Json, before: Stored | None) -> str:
    """The patient whose it will be."""
    interaction = Interaction.UPDATE if id_ else Interaction.CREATE
    if before is not None and not before.deleted:
        _require(connection, caller, interaction, orjson.loads(before.body))
    elif before is not None:  # who takes the id could read what it was
        caller.decision.require_patient("Binary", interaction, "")
    try:
        patient = _require(connection, caller, interaction, given)
    except Forbidden as error:
        raise Forbidden(_NOT_HERS if error.detail == OTHER_PATIENT else error.detail, error.patients) from None
    if "securityContext" in given and ((of := _context(connection, caller, given)) is None or of.deleted):
        why = (
            "the security context is a reference to a resource of this server, such as DocumentReference/7, that is there already"
        )
        raise Invalid([Issue("error", "not-found", "Binary.securityContext", why)], 422)
    if id_:
        _require_id(connection, caller, id_, given, before)
    return patient


def _require_id(connection: Connection, caller: Caller, id_: str, given: Json, before: Stored | None) -> None:
    """FHIR R4 sections 3.1.0.4 and 3.1.0.4.1: that an update may be of this id."""
    if not FHIR_ID.fullmatch(id_):
        raise Invalid([Issue("error", "value", "Binary.id", "an id has 1 to 64 letters, digits, dots and hyphens")])
    if given.get("id") != id_:
        raise Invalid([Issue("error", "invalid", "Binary.id", "the resource has to have the id that is in the URL")])
    _refuse_document(connection, caller, id_)
    if before is None and not caller.rules.update_creates:
        raise MethodNotOffered("there is no Binary with this id, and an update creates none here; POST it to Binary", "GET, HEAD")


def _refuse_document(connection: Connection, caller: Caller, id_: str) -> None:
    if FHIR_ID.fullmatch(id_) and _document(connection, caller, id_) is not None:
        raise Conflict(
            "this Binary is the document of the DocumentReference with its id: it changes and goes with that study's images"
        )


# --- what there is


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
    if not found or not found[0].blob_id:  # another repository has it
        return None
    stored = resources.read(connection, "DocumentReference", id_)
    permission.require_resource(connection, caller.decision, "DocumentReference", Interaction.READ, id_, stored.patient)
    size = binaries.size(connection, found[0].blob_id)
    head = {
        "resourceType": "Binary",
        "id": id_,
        "contentType": found[0].entry.mime_type,
        "securityContext": {"reference": f"DocumentReference/{id_}"},
    }
    audited = Audited("read", REST_READ, f"Binary/{id_}", stored.patient)
    return Content(stored, head, size, blob_id=found[0].blob_id, audited=(audited,))
