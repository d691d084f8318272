"""One transaction of a step carried out: what is sent, what came back, what was to be expected."""

import re
import time
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterator
from html import unescape
from http import HTTPStatus

from lxml import etree
from lxml.etree import _Element

from conformance.nist import feed, messages, vocabulary
from conformance.nist.expected import Check, check_contents, unknown
from conformance.nist.messages import Document, Reply
from conformance.nist.patients import FeedError
from conformance.nist.plan import Step, Transaction
from conformance.nist.preparation import Preparation
from conformance.nist.preparing import PATIENT_REPORT
from conformance.nist.record import add_copy
from conformance.nist.replies import check_documents, check_reply
from conformance.nist.results import NotRun
from conformance.nist.scene import Scene
from conformance.nist.testkit import Test
from conformance.nist.values import Values
from conformance.nist.vocabulary import KINDS, Form, Kind
from conformance.nist.wire import Answer
from ihe import soap

_LONGEST_WAIT = 60_000
_PATIENTS = re.compile(r'value="([^"<>]+\^\^\^&amp;[0-9.]+&amp;ISO)"')


class Transactions:
    """Carries out the transactions of one section."""

    def __init__(self, scene: Scene, test: Test, preparation: Preparation, values: Values) -> None:
        self._scene, self._test, self._preparation, self._values = scene, test, preparation, values

    def run(self, transaction: Transaction, step: Step, noted: _Element) -> Iterator[Check]:
        """Everything that is looked at. Raises `NotRun`, `FeedError`, `wire.NoAnswer`."""
        if transaction.has("WaitBefore"):
            time.sleep(min(int(transaction.text("WaitBefore") or 0), _LONGEST_WAIT) / 1000)
        match transaction.kind.form:
            case Form.NOTHING:
                return iter(())
            case Form.FEED:
                return self._feed(transaction, noted)
            case Form.WADO:
                return self._wado(transaction, step, noted)
            case Form.HTTP:
                return self._http(transaction, step, noted)
            case _:
                return self._soap(transaction, step, noted)

    def _url(self, endpoint: str) -> str:
        url = self._scene.target.endpoint(endpoint)
        if not url:
            actor, _, name = endpoint.partition(".")
            raise NotRun(f"the endpoints file has no {name} in [{actor}]")
        return url

    def _soap(self, transaction: Transaction, step: Step, noted: _Element) -> Iterator[Check]:
        kind = _simple(transaction) if transaction.kind.form is Form.SIMPLE else transaction.kind
        url = self._url(kind.endpoint)
        if names := [name for each in transaction.all("ExpectedContents") for name in unknown(each)]:
            raise NotRun(f"unknown instruction {', '.join(names)} in ExpectedContents")
        headers = self._headers(transaction, kind.endpoint)
        request = self._preparation.request(transaction, step, noted)
        documents = self._documents(transaction, noted)
        if kind.form is Form.PROVISION:
            request = messages.provide_and_register(request, documents, inline=transaction.has("NoMTOM"))
        add_copy(noted, "InputMetadata", request)
        message_id = uuid.uuid4().urn
        root = messages.envelope(kind.action, request, message_id, url, headers)
        if kind.form in (Form.PROVISION, Form.RETRIEVE) and not transaction.has("NoMTOM"):
            content_type, body = messages.packed(root, kind.action, documents, f"boundary-{uuid.uuid4().hex}")
        else:
            content_type, body = soap.content_type(kind.action), root
        answer = self._scene.wire.post(url, body, {"Content-Type": content_type})
        reply = _noted(answer, noted)
        yield from self._checks(reply, step, kind, message_id)
        if reply.payload is not None and reply.status != "Fault":
            sent = noted.find("InputMetadata/*")
            yield from self._contents(transaction, step, noted if sent is None else sent, reply.payload)

    def _checks(self, reply: Reply, step: Step, kind: Kind, message_id: str) -> Iterator[Check]:
        yield from check_reply(reply, step, kind, message_id)
        if reply.payload is not None and reply.status != "Fault" and self._scene.schemas is not None:
            check = self._scene.schemas.check(reply.payload)
            if check is not None:
                yield check

    def _contents(self, transaction: Transaction, step: Step, request: _Element, answer: _Element) -> Iterator[Check]:
        for each in transaction.all("ExpectedContents"):
            yield from check_contents(answer, each, self._values.use_id)
        home = transaction.text("homeCommunityId")
        for each in answer.iter("{*}RegistryError") if home else ():
            yield Check("location of an error", home, each.get("location", ""), each.get("location") == home)
        wants = transaction.kind.form is Form.RETRIEVE and request.find("{*}DocumentRequest") is not None
        if wants and step.status in ((), ("Success",)):
            metadata = [
                entry
                for each in transaction.all("ReferenceMetadata")
                for entry in self._values.result(each.get("testdir", ""), each.get("step", "")).iter("{*}ExtrinsicObject")
            ]
            yield from check_documents(
                request,
                answer,
                media_type=transaction.text("ExpectedMimeType"),
                contents=self._reference_documents(transaction),
                metadata=metadata,
            )

    def _reference_documents(self, transaction: Transaction) -> dict[str, bytes]:
        known = {**self._values.linked(transaction, strict=False), **self._values.symbols(transaction)}
        found = {}
        for each in transaction.all("ReferenceDocument"):
            uid = each.get("uid", "")
            try:
                found[known.get(uid, uid)] = self._preparation.file((each.text or "").strip()).read_bytes()
            except NotRun:
                found[known.get(uid, uid)] = self._preparation.file(f"../{(each.text or '').strip()}").read_bytes()
        return found

    def _documents(self, transaction: Transaction, noted: _Element) -> list[Document]:
        uuids = {each.get("symbol", ""): each.get("id", "") for each in noted.iterfind("AssignedUuids/Assign")}
        made = []
        for each in transaction.all("Document"):
            name = each.get("id", "")
            data = self._preparation.file((each.text or "").strip()).read_bytes()
            made.append(Document(uuids.get(name, name), "application/octet-stream", data))
        return made

    def _headers(self, transaction: Transaction, endpoint: str) -> list[bytes]:
        blocks = [etree.tostring(each[0]) for each in transaction.all("SOAPHeader") if len(each)]
        assertion = self._scene.assertion(self._test.id, self._test.collections, endpoint)
        return [*blocks, messages.security(assertion)] if assertion else blocks

    def _http(self, transaction: Transaction, step: Step, noted: _Element) -> Iterator[Check]:
        named = transaction.element.get("type", "")
        if named not in vocabulary.HTTP_TYPES:
            raise NotRun(f"HttpTransaction of the unknown type {named}")
        url = self._url(vocabulary.HTTP_TYPES[named])
        text = self._preparation.file(transaction.text("BodyFile")).read_bytes().decode("latin-1")
        if PATIENT_REPORT in text:
            text = text.replace(PATIENT_REPORT, self._preparation.patient().replace("&", "&amp;"))
        for old, new in self._scene.target.replace.items():
            text = text.replace(old, new)
        for patient in dict.fromkeys(_PATIENTS.findall(text)):  # such a body has ids of its own
            self._scene.patients.make_known(unescape(patient))
        headers = dict(_pairs(transaction.text("Headers"), ":"))
        answer = self._scene.wire.post(url, text.encode("latin-1"), headers)
        reply = _noted(answer, noted)
        yield from check_reply(reply, step, Kind(Form.HTTP, answer=_answer_of(vocabulary.HTTP_TYPES[named])), "")
        if named in ("pr.b", "prb"):
            yield Check(
                "parts of the answer", "1, as MTOM", str(reply.parts) if reply.parts else "not multipart", reply.parts == 1
            )

    def _wado(self, transaction: Transaction, step: Step, noted: _Element) -> Iterator[Check]:
        url = self._url("imaging_source.wado")
        headers = {"Accept": "application/dicom", **dict(_pairs(transaction.text("Headers"), ":"))}
        usual = {"requestType": "WADO", "contentType": "application/dicom", **dict(_pairs(transaction.text("Parameters"), "="))}
        requests = [usual] if {"studyUID", "seriesUID", "objectUID"} <= usual.keys() else []
        if name := transaction.text("UIDFile"):
            for line in self._preparation.file(name).read_text().splitlines():
                uids = [part.strip() for part in line.split(":")]
                if len(uids) >= 3:
                    requests.append({**usual, **dict(zip(("studyUID", "seriesUID", "objectUID"), uids, strict=False))})
        if not requests:
            raise NotRun("the plan has neither study, series and object UID, nor a UIDFile")
        result = etree.SubElement(etree.SubElement(noted, "Result"), "Transactions")
        failing = "Failure" in step.status
        for number, parameters in enumerate(requests, 1):
            answer = self._scene.wire.get(url, parameters, headers)
            _note_image(result, number, parameters["objectUID"], answer)
            wanted = step.error_code or ("not 200" if failing else "200")
            passed = str(answer.status) == step.error_code if step.error_code else (answer.status != 200) == failing
            yield Check(f"HTTP status of request {number}", wanted, str(answer.status), passed)

    def _feed(self, transaction: Transaction, noted: _Element) -> Iterator[Check]:
        patients, values = self._scene.patients, self._values.symbols(transaction)
        if transaction.name == "PatientIdentityFeedTransaction":
            patient = transaction.text("PatientID") or patients.fresh()
            patients.use(self._test.id, patient)
            noted.set("patient", patient)
            etree.SubElement(noted, "PatientId").text = patient
            if not patients.fed:
                raise NotRun("the endpoints file has no [feed]; the patient is used as if it were known")
            yield self._fed(lambda: patients.make_known(patient))
            return
        if not patients.fed:
            raise NotRun("the endpoints file has no [feed]")
        new, old = values.get("$NewXADPID$", ""), values.get("$OldXADPID$", "")
        local = values.get("$NewLocalPID$", "")
        if not new or not old:
            raise NotRun("the plan does not say which patient ids are merged or moved")
        if transaction.name == "PatientMergeTransaction":
            message = feed.merged(patients.header(), new, old)
        else:
            message = feed.moved(patients.header(), new, old, local, values.get("$OldLocalPID$", ""))
        yield self._fed(lambda: patients.send(message))

    def _fed(self, send: Callable[[], str]) -> Check:
        try:
            return Check("acknowledgment", "AA or CA", send(), True)
        except FeedError as error:
            return Check("acknowledgment", "AA or CA", str(error), False)


def _simple(transaction: Transaction) -> Kind:
    """SimpleTransaction names its action; the endpoint is the one that takes it."""
    action = transaction.text("Action")
    found = next((each for each in KINDS.values() if each.action == action and action), None)
    if found is None:
        raise NotRun(f"SimpleTransaction with the unknown action {action}")
    form = Form.RETRIEVE if transaction.has("Mtom") else Form.QUERY
    return Kind(form, found.endpoint, action, found.answer, found.answer_action)


def _noted(answer: Answer, noted: _Element) -> Reply:
    """The reply of an answer, its payload copied into the record."""
    reply = messages.read(answer.headers.get("content-type", ""), answer.body)
    if reply.payload is not None:
        add_copy(noted, "Result", reply.payload)
        return reply
    status = f"HTTP {answer.status} {HTTPStatus(answer.status).phrase if answer.status in set(HTTPStatus) else ''}".strip()
    return Reply(reply.status, problem=f"{status}, {reply.problem}")


def _answer_of(endpoint: str) -> str:
    return next((each.answer for each in KINDS.values() if each.endpoint == endpoint), "RegistryResponse")


def _pairs(text: str, separator: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        name, found, value = line.partition(separator)
        if found and name.strip():
            yield name.strip(), value.strip()


def _note_image(result: _Element, number: int, uid: str, answer: Answer) -> None:
    status = etree.SubElement(etree.SubElement(result, "Transaction", id=str(number)), "Status")
    etree.SubElement(status, "Code").text = str(answer.status)
    if answer.status == 200:
        made = etree.SubElement(result, "DocumentResponse")
        etree.SubElement(made, "DocumentUniqueId").text = uid
        etree.SubElement(made, "mimeType").text = answer.headers.get("content-type", "")
        etree.SubElement(made, "Document").text = b64encode(answer.body).decode()
