"""IPF, another project's XDS in Java: its clients against our server, and our client against its endpoints. Its validators look at everything."""

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from lxml.etree import _Element
from peers import imageshare, ipf_peer
from peers.ipf_peer import Ipf, IpfError, NoIpf, Values, contents, errors, query
from peers.registering import submitted
from peers.registry_objects import author, entry
from peers.shows import shows
from peers.soap_server import served
from peers.xds import REGISTRY, REPOSITORY, SOURCE, Archive, cx, instance, uids

from ihe import ebrs, iti18, iti41, iti42, iti43, rad69
from ihe.ebrs import FAILURE, SUCCESS
from ihe.find_documents import FindDocuments
from ihe.iti41 import Provided
from ihe.iti43 import DocumentRequest
from ihe.mtom import Attachment
from ihe.rad69 import SeriesRequest, StudyRequest
from profiles.document import Submission
from profiles.identifiers import PatientIdentifier
from profiles.study import Patient
from server.outbound.soap import SoapClient
from server.records import patients
from server.settings import DocumentRecipient, load

pytestmark = [pytest.mark.peers, pytest.mark.timeout(300)]
HER = {"extension": "id3", "root": "1.3"}
CX = "id3^^^&1.3&ISO"
EXPLICIT, JPEG_2000_PART_2 = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.93"
BOTH = ("ObjectRef", "LeafClass")
_numbers = count(1)


@pytest.fixture(scope="session")
def ipf() -> Iterator[Ipf]:
    try:
        with ipf_peer.running() as running:
            yield running
    except NoIpf as reason:
        pytest.skip(str(reason))


@dataclass
class Site:
    """Our server, as IPF's clients meet it."""

    archive: Archive
    ipf: Ipf
    url: str

    def sample(self, content: bytes = b"", **changed: Any) -> Values:
        """IPF's own sample of a submission, of a patient whom we know, with ids that are new, and one Association that IPF leaves out.

        `changed` is of the Document Entry. The documents of ITI-41 are in it where there is `content`.
        """
        made = self.ipf.sample("createRegisterDocumentSet")
        for each in (made["submissionSet"], *made["folders"], *made["documentEntries"]):
            each["uniqueId"] = f"1.2.826.0.1.{next(_numbers)}"
        for each in made["associations"]:
            each["previousVersion"] = None
        made["associations"].append(_has("filed", "docFolderAss"))
        made["documentEntries"][0].update(changed)
        return self.provided(made, content) if content else made

    def provided(self, made: Values, *of_documents: bytes) -> Values:
        """A submission as that of ITI-41."""
        own = {"size": None, "hash": None, "repositoryUniqueId": None}  # the repository's to say
        pairs = zip(made.pop("documentEntries"), of_documents, strict=True)
        return {**made, "documents": [ipf_peer.document({**each, **own}, content) for each, content in pairs]}

    def register(self, body: Values) -> Values:
        return self.ipf.send("xds-iti42", self.url + REGISTRY, body)

    def provide(self, body: Values) -> Values:
        return self.ipf.send("xds-iti41", self.url + REPOSITORY, body)

    def ask(self, name: str, return_type: str = "LeafClass", **values: object) -> Values:
        return self.ipf.send("xds-iti18", self.url + REGISTRY, query(name, return_type, **values))

    def find(self, *statuses: str) -> dict[str, Values]:
        """Her documents by unique id."""
        found = self.ask("FindDocuments", patientId=HER, status=statuses or ["Approved"], documentEntryType=["stable"])
        assert (found["status"], found["error"]) == ("Success", [])
        return {each["uniqueId"]: each for each in found["documentEntries"]}

    def get(self, *unique_ids: str) -> Values:
        ours = self.archive.node.installation.repository
        wanted = [{"repositoryUniqueId": ours, "documentUniqueId": each} for each in unique_ids]
        return self.ipf.send("xds-iti43", self.url + REPOSITORY, {"documents": wanted})

    def images(self, file: bytes, *syntaxes: str) -> Values:
        study, series, uid = uids(file)
        named = {"repositoryUniqueId": self.archive.node.installation.imaging_source, "documentUniqueId": uid}
        serieses = [{"seriesInstanceUID": series, "documents": [named]}]
        body = {"retrieveStudies": [{"studyInstanceUID": study, "retrieveSerieses": serieses}], "transferSyntaxId": syntaxes}
        return self.ipf.send("xdsi-rad69", self.url + SOURCE, body)


def _has(id_: str, target: str, label: str | None = None) -> Values:
    return {
        "entryUuid": id_,
        "sourceUuid": "submissionSet01",
        "targetUuid": target,
        "associationType": "HasMember",
        "label": label,
    }


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, ipf: Ipf, module_database_url: str) -> Iterator[Site]:
    with imageshare.node(tmp_path_factory.mktemp("site") / "data", module_database_url) as node:
        archive = Archive(node)
        archive.send(instance())
        with node.database.write() as connection:
            patients.made(connection, Patient(PatientIdentifier.from_cx(CX), "DOE^JANE"))
        with served(node.settings) as (url, _):
            yield Site(archive, ipf, url)


@pytest.fixture(scope="module")
def registered(site: Site) -> dict[str, str]:
    """Two documents, of which the second replaces the first, with a Folder: the ids that the registry gave and that IPF did."""
    first = site.sample()
    assert site.register(first) == {"status": "Success", "error": []}
    found = site.find()[first["documentEntries"][0]["uniqueId"]]
    second = site.sample()
    replaces = {"entryUuid": "rplc", "sourceUuid": "document01", "targetUuid": found["entryUuid"], "associationType": "RPLC"}
    second["associations"].append(replaces)
    assert site.register(second) == {"status": "Success", "error": []}
    whole = site.ask("GetSubmissionSetAndContents", uniqueId=second["submissionSet"]["uniqueId"])
    return {
        "first": found["entryUuid"],
        "first unique": found["uniqueId"],
        "second": whole["documentEntries"][0]["entryUuid"],
        "second unique": whole["documentEntries"][0]["uniqueId"],
        "folder": whole["folders"][0]["entryUuid"],
        "folder unique": whole["folders"][0]["uniqueId"],
        "set": whole["submissionSets"][0]["entryUuid"],
        "set unique": whole["submissionSets"][0]["uniqueId"],
    }


@shows("transaction", "ITI-42 Document Registry", "ITI-18 Document Registry")
def test_what_is_registered_is_found_as_it_was(site: Site) -> None:
    """Every attribute of IPF's sample comes back, in IPF's own reading of both."""
    sent = site.sample()
    assert site.register(sent) == {"status": "Success", "error": []}
    whole = site.ask("GetSubmissionSetAndContents", uniqueId=sent["submissionSet"]["uniqueId"])
    for kind, asked, found in (
        ("set", [sent["submissionSet"]], whole["submissionSets"]),
        ("folder", sent["folders"], whole["folders"]),
        ("document", sent["documentEntries"], whole["documentEntries"]),
    ):
        (wanted,), (got,) = asked, found
        ours = {"entryUuid", "logicalUuid", "version", "homeCommunityId"} | ({"lastUpdateTime"} if kind == "folder" else set())
        assert _without(got, ours) == _without(wanted, ours), kind
    names = {wanted["entryUuid"]: got["entryUuid"] for wanted, got in _pairs(sent, whole)}
    related = {(each["sourceUuid"], each["associationType"], each["targetUuid"]) for each in whole["associations"]}
    assert (names["submissionSet01"], "HasMember", names["document01"]) in related
    assert (names["folder01"], "HasMember", names["document01"]) in related


def _without(values: Values, names: set[str]) -> Values:
    return {name: value for name, value in values.items() if name not in names}


def _pairs(sent: Values, whole: Values) -> list[tuple[Values, Values]]:
    return [
        (sent["submissionSet"], whole["submissionSets"][0]),
        (sent["folders"][0], whole["folders"][0]),
        (sent["documentEntries"][0], whole["documentEntries"][0]),
    ]


@shows("transaction", "ITI-41 Document Repository", "ITI-43 Document Repository")
def test_documents_are_provided_and_retrieved(site: Site) -> None:
    """ITI-41 with several documents as MTOM, and ITI-43."""
    texts = [b"first\r\n--", b"second" * 100_000, b"3"]
    made = site.sample()
    (one,) = made["documentEntries"]
    made["documentEntries"] = [{**one, "entryUuid": f"document0{i}", "uniqueId": f"{one['uniqueId']}.{i}"} for i in (1, 2, 3)]
    made["associations"] += [_has(f"has{i}", f"document0{i}", "Original") for i in (2, 3)]
    assert site.provide(site.provided(made, *texts)) == {"status": "Success", "error": []}
    ids = [f"{one['uniqueId']}.{i}" for i in (1, 2, 3)]
    answer = site.get(*ids)
    assert (answer["status"], contents(answer)) == ("Success", dict(zip(ids, texts, strict=True)))
    found = site.find()
    for id_, text in zip(ids, texts, strict=True):
        assert (found[id_]["size"], found[id_]["hash"]) == (len(text), hashlib.sha1(text).hexdigest())
        assert found[id_]["repositoryUniqueId"] == site.archive.node.installation.repository
    partly = site.get(ids[0], "1.2.3.999")
    assert (partly["status"], list(contents(partly))) == ("PartialSuccess", ids[:1])
    assert errors(partly) == [("XDSDocumentUniqueIdError", "1.2.3.999")]


def test_a_document_is_replaced(site: Site, registered: dict[str, str]) -> None:
    assert registered["second unique"] in site.find()
    assert registered["first unique"] not in site.find()
    assert registered["first unique"] in site.find("Deprecated")


QUERIES: dict[str, tuple[Values, tuple[str, ...]]] = {
    # IPF's validator takes no FindDocumentsByTitle. Name: what is asked, with names of `registered` in braces, and which of those must be found
    "FindDocuments": ({"patientId": HER, "status": ["Approved"], "documentEntryType": ["stable"]}, ("second",)),
    "FindSubmissionSets": ({"patientId": HER, "status": ["Approved"]}, ("set",)),
    "FindFolders": ({"patientId": HER, "status": ["Approved"]}, ("folder",)),
    "GetAll": (
        {"patientId": HER, "documentStatus": ["Approved"], "submissionSetStatus": ["Approved"], "folderStatus": ["Approved"]},
        ("second", "folder", "set"),
    ),
    "GetDocuments": ({"uuid": ["{first}"]}, ("first",)),
    "GetFolders": ({"uniqueId": ["{folder unique}"]}, ("folder",)),
    "GetAssociations": ({"uuid": ["{first}"]}, ()),
    "GetDocumentsAndAssociations": ({"uniqueId": ["{second unique}"]}, ("second",)),
    "GetSubmissionSets": ({"uuid": ["{second}"]}, ("set",)),
    "GetSubmissionSetAndContents": ({"uniqueId": "{set unique}"}, ("set", "second", "folder")),
    "GetFolderAndContents": ({"uuid": "{folder}"}, ("folder", "second")),
    "GetFoldersForDocument": ({"uniqueId": "{second unique}"}, ("folder",)),
    "GetRelatedDocuments": ({"uuid": "{second}", "associationType": ["RPLC"]}, ("first", "second")),
    "FindDocumentsByReferenceId": (
        {
            "patientId": HER, "status": ["Approved"],
            "referenceId": {"list": [["ref-id-1^^^&1.1.2.3&ISO^urn:ihe:iti:xds:2013:order"]]},
        },
        (),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", QUERIES)
@shows("transaction", "ITI-18 Document Registry")
def test_every_stored_query(site: Site, registered: dict[str, str], name: str) -> None:
    asked, wanted = QUERIES[name]
    values = _filled(asked, registered)
    leaves, references = site.ask(name, "LeafClass", **values), site.ask(name, "ObjectRef", **values)
    found = {
        each["entryUuid"] for kind in ("documentEntries", "folders", "submissionSets", "associations") for each in leaves[kind]
    }
    assert leaves["status"] == references["status"] == "Success"
    assert {each["uuid"] for each in references["reference"]} == found
    assert {registered[each] for each in wanted} <= found
    if name == "GetAssociations":
        kinds = {each["associationType"] for each in leaves["associations"]}
        assert kinds == {"HasMember", "RPLC"}


def _filled(value: Any, names: dict[str, str]) -> Any:
    match value:
        case str() if value.startswith("{"):
            return names[value[1:-1]]
        case list():
            return [_filled(each, names) for each in value]
        case dict():
            return {name: _filled(each, names) for name, each in value.items()}
    return value


@shows("transaction", "ITI-51 Document Registry")
def test_several_patients_are_asked_for_at_once(site: Site, registered: dict[str, str]) -> None:
    """ITI-51."""
    body = query("FindDocumentsForMultiplePatients", "ObjectRef", patientIds=[HER], status=["Approved"])
    found = site.ipf.send("xds-iti51", site.url + REGISTRY, body)
    assert registered["second"] in {each["uuid"] for each in found["reference"]}


def test_errors_are_read(site: Site, registered: dict[str, str]) -> None:
    stranger = site.sample()
    for each in (stranger["submissionSet"], *stranger["folders"], *stranger["documentEntries"]):
        each["patientId"] = {"extension": "nobody", "root": "1.3"}
    answer = site.register(stranger)
    assert answer["status"] == "Failure"
    assert {code for code, _ in errors(answer)} == {"XDSUnknownPatientId"}
    twice = site.sample(content=b"one", uniqueId=registered["second unique"])
    assert {code for code, _ in errors(site.provide(twice))} == {"XDSNonIdenticalHash", "XDSNonIdenticalSize"}
    assert {code for code, _ in errors(site.get("1.2.3.999"))} == {"XDSDocumentUniqueIdError"}
    with pytest.raises(IpfError, match="wsa:Action"):
        site.ipf.send("xds-iti42", site.url + SOURCE, site.sample())


@shows("transaction", "RAD-69 Imaging Document Source")
def test_images_come_in_a_transfer_syntax_that_is_listed(site: Site) -> None:
    """RAD-69."""
    (file,) = site.archive.sent.values()
    answer = site.images(file, JPEG_2000_PART_2, EXPLICIT)
    assert (answer["status"], list(contents(answer).values())) == ("Success", [file])
    refused = site.images(file, JPEG_2000_PART_2)
    assert (refused["status"], errors(refused)) == ("Failure", [("XDSRepositoryError", uids(file)[2])])


@shows("transaction", "ITI-57 Document Registry", "ITI-62 Document Registry")
def test_metadata_is_updated_and_removed(site: Site) -> None:
    """ITI-57: a new status. ITI-62: all of one submission; a part of it is refused."""
    sent, change = site.sample(), site.sample()
    site.register(sent)
    id_ = site.find()[sent["documentEntries"][0]["uniqueId"]]["entryUuid"]
    status = {"associationType": "UpdateAvailabilityStatus", "originalStatus": "Approved", "newStatus": "Deprecated"}
    update = {"submissionSet": change["submissionSet"], "associations": [{**_has("change", id_), **status}]}
    assert site.ipf.send("xds-iti57", site.url + REGISTRY, update) == {"status": "Success", "error": []}
    assert sent["documentEntries"][0]["uniqueId"] in site.find("Deprecated")
    whole = site.ask("GetSubmissionSetAndContents", uniqueId=sent["submissionSet"]["uniqueId"])
    related = site.ask("GetAssociations", uuid=[id_])["associations"]
    kinds = ("documentEntries", "folders", "submissionSets", "associations")
    ids = {each["entryUuid"] for kind in kinds for each in whole[kind]} | {each["entryUuid"] for each in related}
    ids |= {each["sourceUuid"] for each in related}
    refused = site.ipf.send("xds-iti62", site.url + REGISTRY, {"reference": [{"uuid": id_}]})
    assert {code for code, _ in errors(refused)} == {"ReferencesExistException"}
    removed = site.ipf.send("xds-iti62", site.url + REGISTRY, {"reference": [{"uuid": each} for each in sorted(ids)]})
    assert removed == {"status": "Success", "error": []}
    assert site.ask("GetDocuments", uuid=[id_])["documentEntries"] == []


# Our client against IPF's endpoints.


@pytest.fixture(scope="module")
def client_of(ipf: Ipf, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A function that gives our client of one of IPF's endpoints."""
    settings = load(data=tmp_path_factory.mktemp("settings"))
    yield lambda name: SoapClient(settings, f"{ipf.url}/{name}")
    ipf.received()


def ours(number: int, patient: str = CX, **changed: Any) -> Submission:
    """A submission with one document, whose author has no telephone: IPF takes numbers with digits alone (XTN-7 is NM)."""
    made = entry("Document01", f"1.2.3.77.{number}", **{"patient_id": patient, "authors": (author(telecoms=()),), **changed})
    whole = submitted(made, patient=patient)
    assert whole.submission_set
    return replace(whole, submission_set=replace(whole.submission_set, authors=()))


def test_ipf_registers_and_finds_what_we_send(ipf: Ipf, client_of: Any) -> None:
    """ITI-42 and ITI-18."""
    sent = ours(1)
    with client_of("xds-iti42") as client:
        answer = ebrs.read(client.call(iti42.REQUEST_ACTION, iti42.request(sent), expect=iti42.RESPONSE_ACTION))
        assert (answer.status, answer.errors) == (SUCCESS, ())
        request = iti42.request(ours(9, "nobody^^^&1.3&ISO"))
        answer = ebrs.read(client.call(iti42.REQUEST_ACTION, request, expect=iti42.RESPONSE_ACTION))
        assert (answer.status, [each.code for each in answer.errors]) == (FAILURE, ["XDSUnknownPatientId"])
    understood = ipf.received()[0]["body"]["documentEntries"][0]
    assert (understood["uniqueId"], understood["title"]["value"], understood["size"]) == ("1.2.3.77.1", "Example", 3654)
    with client_of("xds-iti18") as client:
        asked = FindDocuments(CX).query()
        found = iti18.parse_response(client.call(iti18.REQUEST_ACTION, iti18.request(asked), expect=iti18.RESPONSE_ACTION))
        (got,) = [each for each in found.entries if each.unique_id == "1.2.3.77.1"]
        (wanted,) = sent.documents
        for name in (
            "hash",
            "size",
            "title",
            "class_code",
            "type_code",
            "confidentiality",
            "creation_time",
            "reference_ids",
            "mime_type",
        ):
            assert getattr(got, name) == getattr(wanted, name), name


def test_ipf_takes_documents_from_us_and_gives_them_back(ipf: Ipf, client_of: Any) -> None:
    """ITI-41 and ITI-43, streamed."""
    content = b"\r\n--boundary" * 300_000
    body = iti41.request(ours(2, hash="", size=None, repository_unique_id=""), [Provided("Document01", content_id="1@ours")])
    with client_of("xds-iti41") as client:
        attached = [Attachment("1@ours", "application/dicom", len(content))]
        answer = client.provide(iti41.REQUEST_ACTION, body, attached, lambda _: _cut(content), expect=iti41.RESPONSE_ACTION)
        assert ebrs.read(answer).status == SUCCESS
    request = iti43.request([DocumentRequest("1.2.3", "1.2.3.77.2"), DocumentRequest("1.2.3", "1.2.3.999")])
    with client_of("xds-iti43") as client, client.retrieve(iti43.REQUEST_ACTION, request, expect=iti43.RESPONSE_ACTION) as reply:
        told = iti43.parse_response(reply.body)
        (part,) = [b"".join(part.chunks) for part in reply.parts]
        assert [each.code for each in told.errors] == ["XDSDocumentUniqueIdError"]
        assert [each.request.document_unique_id for each in told.documents] == ["1.2.3.77.2"]
        assert part == content


def _cut(content: bytes) -> Iterator[bytes]:
    for at in range(0, len(content), 65_536):
        yield content[at : at + 65_536]


def test_ipf_gives_images(ipf: Ipf, client_of: Any, tmp_path: Path) -> None:
    """RAD-69."""
    files = {f"2.25.1.1.{number}": instance(uid=f"2.25.1.1.{number}", pixels=256) for number in (1, 2)}
    for uid, file in files.items():
        (tmp_path / uid).write_bytes(file)
        ipf.keep(uid, tmp_path / uid, "application/dicom")
    wanted = SeriesRequest("2.25.1.1", tuple(DocumentRequest("1.2.9", uid) for uid in files))
    request: _Element = rad69.request([StudyRequest("2.25.1", (wanted,))], [EXPLICIT])
    with client_of("xdsi-rad69") as client, client.retrieve(rad69.REQUEST_ACTION, request, expect=rad69.RESPONSE_ACTION) as reply:
        told = rad69.parse_response(reply.body)
        parts = {part.content_id: b"".join(part.chunks) for part in reply.parts}
    assert {each.request.document_unique_id: parts[each.content_id] for each in told.documents} == files
    assert ipf.received()[-1]["body"]["transferSyntaxId"] == [EXPLICIT]


@shows("transaction", "RAD-68 Imaging Document Source")
def test_ipf_is_given_the_manifest_of_a_study(ipf: Ipf, client_of: Any, tmp_path: Path) -> None:
    """RAD-68: what the server does by itself when a study is published, and again when the study has grown."""
    recipient = DocumentRecipient(name="ipf", url=f"{ipf.url}/xds-iti41")
    ipf.received()
    with imageshare.node(tmp_path / "data", documents_to=(recipient,)) as node:
        archive = Archive(node)
        archive.send(instance(study="2.25.68"))
        archive.send(instance(study="2.25.68"))
        (current,) = archive.find(cx(archive))
        first, second = (each["body"] for each in ipf.received())
        assert [each.outcome for each in archive.trail("RAD-68")] == ["0", "0"]
    (provided,) = second["documents"]
    assert provided["documentEntry"]["uniqueId"] == current.unique_id
    assert provided["documentEntry"]["mimeType"] == "application/dicom"
    assert hashlib.sha1(base64.b64decode(provided["data"])).hexdigest() == current.hash
    before = first["documents"][0]["documentEntry"]["entryUuid"]
    related = {(each["associationType"], each["targetUuid"]) for each in second["associations"]}
    assert ("RPLC", before) in related
