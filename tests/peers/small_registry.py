"""A small registry and repository that has nothing of our server: what the test-plan runner's own tests run it against.

It keeps registry objects as XML, knows patients by MLLP, and answers ITI-42, 41, 18 (four queries) and 43. `faults` make it misbehave.
"""

import hashlib
import socket
import socketserver
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from lxml import etree
from lxml.etree import _Element

from conformance.nist import messages
from conformance.nist.messages import Document
from conformance.nist.symbols import PATIENT_IDS, UNIQUE_IDS
from ihe import ebrs, mtom, soap, xml
from ihe.ebrs import RegistryError
from ihe.multipart import PartData, PartStart

_APPROVED = "urn:oasis:names:tc:ebxml-regrep:StatusType:Approved"
_DEPRECATED = "urn:oasis:names:tc:ebxml-regrep:StatusType:Deprecated"
_KEPT = ("ExtrinsicObject", "RegistryPackage", "Association")
REPOSITORY = "1.2.3.4.5"


@dataclass
class SmallRegistry:
    """`faults` are words that make it misbehave: `status`, `action`, `relates`, `deprecates nothing`, `bytes`, `plain`."""

    objects: list[_Element] = field(default_factory=list)
    nodes: list[_Element] = field(default_factory=list)
    patients: set[str] = field(default_factory=set)
    documents: dict[str, bytes] = field(default_factory=dict)
    faults: set[str] = field(default_factory=set)
    bodies: list[bytes] = field(default_factory=list)
    url: str = ""
    feed_port: int = 0

    def answer(self, body: _Element, parts: dict[str, bytes]) -> tuple[_Element, list[Document]]:
        """The payload of an answer, with its documents."""
        match xml.local_name(body):
            case "SubmitObjectsRequest":
                return self._submitted(body), []
            case "ProvideAndRegisterDocumentSetRequest":
                return self._provided(body, parts), []
            case "AdhocQueryRequest":
                return self._queried(body), []
            case "RetrieveDocumentSetRequest":
                return self._retrieved(body)
        raise soap.SoapFault("Sender", "not here", "ActionNotSupported")

    def _submitted(self, request: _Element) -> _Element:
        listed = next(request.iter(f"{{{xml.RIM}}}RegistryObjectList"))
        wanted = {value for each in listed for value in _values(each, PATIENT_IDS)}
        if wanted - self.patients:
            return ebrs.to_element(ebrs.RegistryResponse(ebrs.FAILURE, (RegistryError("XDSUnknownPatientId", "who is this?"),)))
        ids = {str(each.get("id", "")): _uuid(str(each.get("id", ""))) for each in listed}
        for node in listed.iter():
            for name in ("id", "sourceObject", "targetObject", "classifiedObject", "registryObject"):
                if new := ids.get(node.get(name, "")):
                    node.set(name, new)
        for each in listed:
            kept = deepcopy(each)
            kept.set("status", _APPROVED)
            kept.set("lid", str(each.get("lid") or each.get("id", "")))
            (self.objects if xml.local_name(each) in _KEPT else self.nodes).append(kept)
            if each.get("associationType", "").endswith(":RPLC") and "deprecates nothing" not in self.faults:
                for old in self.objects:
                    if old.get("id") == each.get("targetObject"):
                        old.set("status", _DEPRECATED)
        return ebrs.to_element(ebrs.RegistryResponse("urn:wrong:Success!" if "status" in self.faults else ebrs.SUCCESS))

    def _provided(self, request: _Element, parts: dict[str, bytes]) -> _Element:
        entries = {each.get("id"): each for each in request.iter(f"{{{xml.RIM}}}ExtrinsicObject")}
        for each in request.iterfind(f"{{{xml.XDS_B}}}Document"):
            include = each[0]
            data = parts[mtom.content_id_of(include.get("href", ""))]
            entry = entries[each.get("id")]
            self.documents[next(_values(entry, UNIQUE_IDS))] = data
            digest = hashlib.sha1(data, usedforsecurity=False).hexdigest()
            for name, value in (("hash", digest), ("size", str(len(data))), ("repositoryUniqueId", REPOSITORY)):
                slot = etree.Element(f"{{{xml.RIM}}}Slot", name=name)
                xml.child(xml.child(slot, xml.RIM, "ValueList"), xml.RIM, "Value", value)
                entry.insert(0, slot)
        return self._submitted(request)

    def _queried(self, request: _Element) -> _Element:
        text = " ".join(each.text or "" for each in request.iter(f"{{{xml.RIM}}}Value"))
        slots = " ".join(each.get("name", "") for each in request.iter(f"{{{xml.RIM}}}Slot"))
        named = [each for each in self.objects if self._is_named(each, text)]
        if "SubmissionSet" in slots and "Folder" not in slots:
            members = [each for each in self.objects if each.get("sourceObject") in {one.get("id") for one in named}]
            targets = {each.get("targetObject") for each in members}
            named = [*named, *members, *(each for each in self.objects if each.get("id") in targets)]
        elif "$uuid" in slots and "DocumentEntry" not in slots:
            ids = {each.get("id") for each in named}
            named = [each for each in self.objects if {each.get("sourceObject"), each.get("targetObject")} & ids]
        made = xml.element(xml.QUERY, "AdhocQueryResponse", status=ebrs.SUCCESS)
        listed = xml.child(made, xml.RIM, "RegistryObjectList")
        leaf = next(request.iter(f"{{{xml.QUERY}}}ResponseOption")).get("returnType") == "LeafClass"
        for each in {id(one): one for one in named}.values():
            if leaf:
                listed.append(deepcopy(each))
                listed.extend(deepcopy(one) for one in self.nodes if one.get("classifiedObject") == each.get("id"))
            else:
                xml.child(listed, xml.RIM, "ObjectRef", id=each.get("id", ""))
        return made

    def _is_named(self, each: _Element, text: str) -> bool:
        names = [each.get("id", ""), *_values(each, UNIQUE_IDS)]
        names += [] if "StatusType" not in text else _values(each, PATIENT_IDS)
        return any(name and name in text for name in names)

    def _retrieved(self, request: _Element) -> tuple[_Element, list[Document]]:
        made = xml.element(xml.XDS_B, "RetrieveDocumentSetResponse")
        made.append(ebrs.to_element(ebrs.RegistryResponse(ebrs.SUCCESS)))
        documents = []
        for each in request.iter(f"{{{xml.XDS_B}}}DocumentRequest"):
            uid = xml.text_of(each, "DocumentUniqueId")
            data = self.documents[uid] + (b"!" if "bytes" in self.faults else b"")
            documents.append(Document(uid, "text/plain", data))
            response = xml.child(made, xml.XDS_B, "DocumentResponse")
            xml.child(response, xml.XDS_B, "RepositoryUniqueId", REPOSITORY)
            xml.child(response, xml.XDS_B, "DocumentUniqueId", uid)
            entry = next(one for one in self.objects if uid in _values(one, UNIQUE_IDS))
            xml.child(response, xml.XDS_B, "mimeType", entry.get("mimeType", ""))
            holder = xml.child(response, xml.XDS_B, "Document")
            xml.child(holder, xml.XOP, "Include", href=mtom.href(messages.content_id(uid)))
        return made, documents


def _values(element: _Element, schemes: dict[str, tuple[str, ...]]) -> Iterator[str]:
    wanted = {each for group in schemes.values() for each in group}
    for each in element.iter(f"{{{xml.RIM}}}ExternalIdentifier"):
        if each.get("identificationScheme") in wanted:
            yield each.get("value", "")


def _uuid(old: str) -> str:
    return old if old.startswith("urn:uuid:") else uuid.uuid4().urn


def _unpacked(content_type: str, body: bytes) -> tuple[bytes, dict[str, bytes]]:
    if not soap.request_format(content_type).mtom:
        return body, {}
    reader, root, parts, current = mtom.Reader(content_type), b"", dict[str, bytes](), ""
    for event in reader.feed(body):
        if isinstance(event, mtom.Root):
            root = event.data
        elif isinstance(event, PartStart):
            current = event.content_id
            parts[current] = b""
        elif isinstance(event, PartData):
            parts[current] += bytes(event.data)
    return root, parts


def _handler(registry: SmallRegistry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            registry.bodies.append(body)
            content_type = self.headers["Content-Type"]
            root, parts = _unpacked(content_type, body)
            got = soap.parse(root, understood={soap.SECURITY})
            try:
                payload, documents = registry.answer(got.body, parts)
            except soap.SoapFault as fault:
                self._send(500, soap.content_type(""), soap.render_fault(fault, got.message_id, uuid.uuid4().urn))
                return
            action = "urn:wrong" if "action" in registry.faults else f"{got.action}Response"
            relates_to = "urn:uuid:0" if "relates" in registry.faults else got.message_id
            made = soap.render(action, relates_to, payload, uuid.uuid4().urn)
            if soap.request_format(content_type).mtom and "plain" not in registry.faults:
                self._send(200, *messages.packed(made, action, documents, uuid.uuid4().hex))
            else:
                self._send(200, soap.content_type(action), made)

        def _send(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def _feed(registry: SmallRegistry) -> type[socketserver.BaseRequestHandler]:
    class Feed(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            received = b""
            while not received.endswith(b"\x1c\r") and (data := self.request.recv(4096)):
                received += data
            segments = {each[:3]: each.split("|") for each in received.strip(b"\x0b\x1c\r").decode().split("\r")}
            registry.patients.add(segments["PID"][3])
            code = "AE" if "feed" in registry.faults else "AA"
            answer = f"MSH|^~\\&|A|B|C|D|20260101||ACK|1|P|2.3.1\rMSA|{code}|{segments['MSH'][9]}\r"
            self.request.sendall(b"\x0b" + answer.encode() + b"\x1c\r")

    return Feed


@contextmanager
def small_registry(*faults: str) -> Iterator[SmallRegistry]:
    """One that listens on free ports of loopback."""
    registry = SmallRegistry(faults=set(faults))
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), _handler(registry)) as http,
        socketserver.ThreadingTCPServer(("127.0.0.1", 0), _feed(registry)) as feed,
    ):
        http.daemon_threads = feed.daemon_threads = True
        for server in (http, feed):
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        registry.url, registry.feed_port = f"http://127.0.0.1:{http.server_address[1]}", feed.server_address[1]
        try:
            yield registry
        finally:
            http.shutdown()
            feed.shutdown()


def unused_port() -> int:
    """A port of loopback where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
