"""Answers held against what a step expects: status, errors, addressing, schema, documents."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from lxml import etree
from lxml.etree import _Element

from conformance.nist.expected import Check, counted
from conformance.nist.imaging import documents_in
from conformance.nist.messages import Reply, described
from conformance.nist.plan import Step
from conformance.nist.vocabulary import Kind
from ihe import xml

_SCHEMAS: Final = {xml.QUERY: "query.xsd", xml.RS: "rs.xsd", xml.XDS_B: "XDS.b_DocumentRepository.xsd"}


def check_reply(reply: Reply, step: Step, kind: Kind, message_id: str) -> Iterator[Check]:
    """The status, then errors and addressing. A fault that is expected is all that is looked at."""
    wanted = step.status or ("Success",)
    found = reply.status
    if reply.payload is not None and found == "Fault":
        found = f"Fault: {described(reply.payload)}"
    yield Check("status", " or ".join(wanted), reply.problem or found, reply.status in wanted)
    if reply.payload is None or reply.status == "Fault":
        return
    yield Check("element", kind.answer, xml.local_name(reply.payload), xml.local_name(reply.payload) == kind.answer)
    yield from _check_errors(reply, step)
    if kind.action:
        yield Check("wsa:Action", kind.expected_action, reply.action, reply.action == kind.expected_action)
        yield Check("wsa:RelatesTo", message_id, reply.relates_to, reply.relates_to == message_id)


def _check_errors(reply: Reply, step: Step) -> Iterator[Check]:
    errors = [(code, context) for code, context, severity in reply.errors if severity != "Warning"]
    told = "; ".join(f"{code}: {context}" for code, context in errors) or "none"
    if step.status in ((), ("Success",)):
        yield Check("errors", "none", told, not errors)
    if step.error_code:
        yield Check("error code", step.error_code, told, step.error_code in [code for code, _ in errors])
    if step.error_message:
        yield Check("text of an error", step.error_message, told, step.error_message in told)


class Schemas:
    """The message schemas of a folder (the toolkit's `schema/v3`)."""

    def __init__(self, folder: Path) -> None:
        """Raises `OSError` or `etree.XMLSchemaParseError` where they cannot be read."""
        self._schemas = {space: etree.XMLSchema(etree.parse(folder / name)) for space, name in _SCHEMAS.items()}

    def check(self, payload: _Element) -> Check | None:
        """Whether a message is valid; None where there is no schema for it."""
        schema = self._schemas.get(xml.namespace_of(payload))
        if schema is None:
            return None
        valid = schema.validate(etree.fromstring(etree.tostring(payload)))
        errors = "valid" if valid else str(schema.error_log)
        return Check("schema", "valid", errors[:500], valid)


def check_documents(
    request: _Element, answer: _Element, *, media_type: str, contents: Mapping[str, bytes], metadata: Sequence[_Element]
) -> Iterator[Check]:
    """ITI TF-2 section 3.43.4.2: each document that was asked for, once, from its repository, with the size and hash that its metadata have.

    `contents` are the bytes that some have by unique id; `metadata` are ExtrinsicObjects of an earlier query.
    """
    wanted = {
        xml.text_of(each, "DocumentUniqueId"): xml.text_of(each, "RepositoryUniqueId")
        for each in request.iterfind("{*}DocumentRequest")
    }
    got = {xml.text_of(each, "DocumentUniqueId"): each for each in answer.iter("{*}DocumentResponse")}
    yield counted("documents", list(answer.iter("{*}DocumentResponse")), len(wanted))
    entries = {_unique_id(each): each for each in metadata}
    for uid, repository in wanted.items():
        yield Check(f"document {uid}", "there", "there" if uid in got else "missing", uid in got)
        if uid not in got:
            continue
        found = xml.text_of(got[uid], "RepositoryUniqueId")
        yield Check(f"RepositoryUniqueId of {uid}", repository, found, found == repository)
        mime = xml.text_of(got[uid], "mimeType")
        data = (documents_in(got[uid]) or [b""])[0]
        if media_type:
            yield Check(f"mimeType of {uid}", media_type, mime, mime == media_type)
        if uid in contents:
            yield Check(f"bytes of {uid}", _told(contents[uid]), _told(data), contents[uid] == data)
        if metadata:
            yield from _check_entry(uid, entries.get(uid), mime, data)


def _check_entry(uid: str, entry: _Element | None, mime: str, data: bytes) -> Iterator[Check]:
    yield Check(f"entry of {uid}", "in the answer to the query", "there" if entry is not None else "missing", entry is not None)
    if entry is not None:
        size, digest = slot(entry, "size"), slot(entry, "hash").lower()
        sha1 = hashlib.sha1(data, usedforsecurity=False).hexdigest()
        yield Check(f"size of {uid}", size, str(len(data)), size == str(len(data)))
        yield Check(f"hash of {uid}", digest, sha1, digest == sha1)
        yield Check(f"mimeType of {uid}", entry.get("mimeType", ""), mime, entry.get("mimeType") == mime)


def slot(entry: _Element, name: str) -> str:
    """The first value of a Slot; empty if there is none."""
    for each in entry.iterfind("{*}Slot"):
        if each.get("name") == name:
            return (each.findtext("{*}ValueList/{*}Value") or "").strip()
    return ""


def _unique_id(entry: _Element) -> str:
    scheme = "urn:uuid:2e82c1f6-a085-4c72-9da3-8640a32e42ab"
    identifiers = entry.iterfind("{*}ExternalIdentifier")
    return next((each.get("value", "") for each in identifiers if each.get("identificationScheme") == scheme), "")


def _told(data: bytes) -> str:
    return f"{len(data)} bytes, SHA-1 {hashlib.sha1(data, usedforsecurity=False).hexdigest()}"
