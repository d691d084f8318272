"""Whatever puts an event into the trail, each at least once: people, apps, services, strangers, devices and commands, at one site."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson
from httpx2 import Response
from peers import mhd_source, querying, registry_events, scanner, scheduled
from peers.every_route import FHIR_JSON, ROWS, Site, calling, everything
from peers.generated import CT, Made
from peers.hl7_sender import DOMAIN, adt, feeding, mrg, pid, sending
from peers.imageshare import publish_all
from peers.people import PASSWORD
from peers.querying import Archive
from peers.smart_site import STUDIES, SmartSite, basic
from peers.visitor import Pages, pages
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian
from typer.testing import CliRunner, Result

from profiles.audit_event import APPLICATION_START, APPLICATION_STOP, Agent
from profiles.query_retrieve import STUDY_ROOT
from profiles.storage_commitment import PUSH_MODEL, PUSH_MODEL_INSTANCE
from server import roles
from server.access import break_glass
from server.cli import app
from server.edges.context import Node
from server.edges.dimse.mpps import PERFORMED_STEP
from server.edges.dimse.worklist import MODALITY_WORKLIST
from server.errors import Refused
from server.records import trail, worklist
from server.store.tables import AccessGrant
from server.work.sealing import Sealer

_GRANT: Final = AccessGrant.__table__  # type: ignore[attr-defined]
_FIRST: Final = STUDIES["A"][0]
WRONG: Final = "canary of a wrong password"
NEW: Final = "canary of a new password"


@dataclass
class Happened:
    """The site after all of it. `output` is what each command printed, `answers` what HTTP answered."""

    pages: Pages
    site: Site
    output: dict[tuple[str, ...], Result] = field(default_factory=dict)
    answers: list[Response] = field(default_factory=list)
    secrets: dict[str, str] = field(default_factory=dict)
    kept: list[dict[str, Any]] = field(default_factory=list)

    @property
    def smart(self) -> SmartSite:
        return self.pages.site

    @property
    def node(self) -> Node:
        return self.pages.site.node

    def events(self) -> list[dict[str, Any]]:
        """Oldest first; those as well that were erased at the end."""
        self.node.strangers.flush()
        with self.node.database.read() as connection:
            found = [orjson.loads(each.body) for each in trail.events(connection, limit=100_000)]
        known = {each["id"] for each in found}
        return [*(each for each in self.kept if each["id"] not in known), *reversed(found)]


@contextmanager
def happened(folder: Path, **settings: Any) -> Iterator[Happened]:
    """Everything, once."""
    with pages(folder, sign_in_failures=1000, imaging_capability_urls=True, **settings) as opened:
        done = Happened(opened, everything(opened.site))
        for part in (
            _of_apps,
            _of_documents,
            _of_registries,
            _of_people,
            _of_devices,
            _of_feeds,
            _of_practitioners,
            _of_roles,
            _of_commands,
        ):
            part(done)
        yield done


def _of_apps(done: Happened) -> None:
    """Every row of FHIR, DICOMweb and SOAP: by a service, by a person of each kind, by another patient, by nobody."""
    smart = done.smart
    patient = smart.tokens("public", "openid patient/*.cruds launch/patient offline_access", "patient")
    doctor = smart.tokens("secret", "openid fhirUser user/*.cruds", "practitioner")
    backend = smart.backend("system/*.cruds").json()
    given = {"patient": patient["access_token"], "doctor": doctor["access_token"], "backend": backend["access_token"]}
    done.secrets |= {**given, "system": done.site.system, "theirs": done.site.theirs, "refresh": patient["refresh_token"]}
    for row, build in sorted(ROWS.items()):
        asked = build(done.site)
        for token in (*given.values(), done.site.theirs, "canary-of-a-token"):
            done.answers.append(done.site.ask(token, asked, calling(done.site, row)))
        done.answers.append(done.site.ask(done.site.system, build(done.site), calling(done.site, row)))
    place = smart.http.post(
        "/fhir/Organization", content=b'{"resourceType": "Organization", "name": "Nord"}', headers=done.site.headers(FHIR_JSON)
    )
    at = place.headers["location"].removeprefix(smart.base).partition("/_history")[0]
    done.answers += [place, *(smart.http.request(method, at, headers=done.site.headers({})) for method in ("GET", "DELETE"))]
    for form in ({"token": given["patient"]}, {"token": "canary-of-another-token"}):
        headers = {"Authorization": basic("ehr", smart.secret["ehr"])}
        done.answers.append(smart.http.post("/oauth/introspect", data=form, headers=headers))
    refreshed = smart.refresh(patient["refresh_token"])
    done.secrets["refreshed"] = refreshed.json()["refresh_token"]
    done.answers += [refreshed, smart.refresh("canary-of-a-refresh-token"), smart.launch(patient=done.site.a)]
    done.answers.append(
        smart.http.post("/oauth/revoke", data={"token": refreshed.json()["refresh_token"], "client_id": "public"})
    )


def _of_documents(done: Happened) -> None:
    """IHE MHD: a Bundle that provides a document, and one that is published by itself."""
    patient = f"Patient/{done.site.a}"
    for path, body in (
        ("", mhd_source.provided(patient, mhd_source.oid())),
        ("/DocumentReference", mhd_source.published(patient, mhd_source.oid())),
    ):
        done.answers.append(
            done.smart.http.post(f"/fhir{path}", content=orjson.dumps(body), headers=done.site.headers(FHIR_JSON))
        )


def _of_registries(done: Happened) -> None:
    """XDS.b: documents that are registered, provided, found, retrieved, changed and removed."""
    done.answers += registry_events.happened(done.node)


def _of_people(done: Happened) -> None:
    """Signing in and out, and not; pages; another password; a code; apps allowed and ended."""
    visitor = done.pages.visitor()
    visitor.get("/sign-in")
    done.answers.append(visitor.sign_in("patient@example.org", WRONG))
    done.answers.append(visitor.sign_in("nobody@example.org", WRONG))
    proxy = done.pages.signed_in("proxy")
    done.answers += [proxy.get("/account/activity"), proxy.get("/account/apps"), proxy.get("/sign-out")]
    done.answers.append(proxy.press("Sign out"))
    patient = done.pages.signed_in("patient")
    done.smart.tokens("public", "patient/*.rs", "patient")
    done.answers += [patient.get("/account/apps"), patient.press("Disconnect"), patient.get("/account/activity")]
    patient.get("/account/password")
    done.answers.append(patient.press("Save the new password", current=PASSWORD, password=NEW))
    chooser = done.pages.visitor()
    chooser.get("/oauth/authorize", **done.smart.asking("public", "launch/patient user/*.rs"))
    done.answers.append(chooser.sign_in("staff@example.org"))
    done.secrets |= {"password": PASSWORD, "new password": NEW, "wrong password": WRONG}


def _of_devices(done: Happened) -> None:
    """C-STORE, C-FIND, C-GET, C-MOVE, storage commitment, the worklist and performed steps; and who may not."""
    node = done.node
    with node.database.write() as connection:
        worklist.put(connection, scheduled.scheduled(1).to_json_dict())
    with scanner.listening(node) as port:
        site = Archive(node, port.address[1])
        scanner.store(
            port, Made(study=900, patient="A", name="Alba^Anna").dataset(), Made(study=1, pixel=9, patient="A").dataset()
        )
        publish_all(node)
        one = querying.identifier("STUDY", StudyInstanceUID=_FIRST.study_uid)
        querying.found(site, querying.identifier("STUDY", PatientID="A", StudyInstanceUID=""))
        storage = ((CT, [ExplicitVRLittleEndian]),)
        querying.got(site, one, storage, model=STUDY_ROOT.get)
        querying.moved(site, one, "NOBODY")
        steps = scheduled.begun(1)
        with scanner.associated(port, contexts=((PERFORMED_STEP, ExplicitVRLittleEndian),)) as association:
            association.send_n_create(steps, PERFORMED_STEP, "1.2.3.4.5")
            association.send_n_set(scheduled.ended(), PERFORMED_STEP, "1.2.3.4.5")
        with scanner.associated(port, contexts=((MODALITY_WORKLIST, ExplicitVRLittleEndian),)) as association:
            asked = Dataset()
            asked.PatientName, asked.ScheduledProcedureStepSequence = "", Sequence([Dataset()])
            list(association.send_c_find(asked, MODALITY_WORKLIST))
        with scanner.associated(port, contexts=((PUSH_MODEL, ExplicitVRLittleEndian),)) as association:
            association.send_n_action(_commitment(), 1, PUSH_MODEL, PUSH_MODEL_INSTANCE)
    publish_all(node)


def _of_feeds(done: Happened) -> None:
    """Patients who become known, are updated and merged, and a message that is refused."""
    with feeding(done.node) as port, sending(port.address) as sender:
        for message in (
            adt("A01", pid("F1", "Alba^Anna", "19600229")), adt("A04", pid("F2", "Berg^Bert")), adt("A08", pid("F1", "Alba^Anna")),
            adt("A40", pid("F1", "Alba^Anna"), mrg("F2")), adt("A40", pid("F1", "Alba^Anna"), mrg("F3")), adt("A01", pid("F4", "Alba^Anna")),
            adt("A43", f"PID|||F4^^^&{DOMAIN}&ISO~1^^^&1.2.3&ISO|| ", mrg("F1"), version="2.5"),
        ):  # fmt: skip
            sender.send(message)


def _commitment() -> Dataset:
    asked, item = Dataset(), Dataset()
    asked.TransactionUID = "1.2.3.77"
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CT, _FIRST.uid
    asked.ReferencedSOPSequence = Sequence([item])
    return asked


def _of_practitioners(done: Happened) -> None:
    """Break-glass, with a reason and without."""
    smart, node = done.smart, done.node
    smart.tokens("secret", "launch/patient patient/*.rs", "practitioner")
    with node.database.read() as connection:
        wanted = _GRANT.c.account == smart.people["practitioner"].id
        held = connection.execute(_GRANT.select().where(wanted, _GRANT.c.patient.is_not(None))).first()
    assert held is not None
    client = Agent(identifier="secret", address="127.0.0.1", user=Agent(reference="Practitioner/p1"))
    try:
        with node.database.write() as connection:
            break_glass.begin(connection, node.trail, held.id, "", address="127.0.0.1", notify=lambda _, __: None)
    except Refused as error:
        break_glass.refused(node.trail, client, error, held.patient)
    with node.database.write() as connection:
        break_glass.begin(connection, node.trail, held.id, "unconscious", address="127.0.0.1", notify=lambda _, __: None)


def _of_roles(done: Happened) -> None:
    """The server starts and stops."""
    for each in (APPLICATION_START, APPLICATION_STOP):
        roles.active(done.node, each)


def _of_commands(done: Happened) -> None:
    """Of the command line, those that change something or sign tokens."""
    study = STUDIES["A"][1]
    added = ("client", "add", "made-here", "--kind", "secret", "--redirect", "https://made.example.org/")
    for arguments, typed in (
        (("user", "add", "eve@example.org", "--patient", done.site.a), f"{NEW}\n{NEW}\n"),
        (("user", "disable", "eve@example.org"), ""),
        (("user", "enable", "eve@example.org"), ""),
        (("user", "password", "eve@example.org", "--once"), ""),
        (("user", "proxy", "eve@example.org", "B", "--relation", "carer"), ""),
        (("user", "proxy", "eve@example.org", "B", "--end"), ""),
        (("user", "list"), ""),
        (added, ""),
        (("client", "disable", "made-here"), ""),
        (("client", "list"), ""),
        (("keys", "rotate"), ""),
        (("token", "--client", "typed", "--scope", "system/*.rs"), ""),
        (("reject", study.study_uid, "--reason", "quality"), ""),
        (("restore", study.study_uid), ""),
        (("hold", study.study_uid), ""),
        (("verify", "--trail"), ""),
        (("doctor",), ""),
        (("trail", "erase", "--before", "2999-01-01", "--why", "ten years", "--apply"), ""),
    ):
        if "erase" in arguments:
            done.kept = done.events()
        Sealer(done.node.database).seal()
        result = done.output[arguments] = run(done.node, *arguments, typed=typed)
        assert result.exit_code == 0 or arguments == ("doctor",), result.output


def run(node: Node, *arguments: str, typed: str = "") -> Result:
    """A command on the site's data, in a thread of its own as the site's is busy."""
    found: list[Result] = []

    def invoke() -> None:
        found.append(CliRunner().invoke(app, [*arguments, "--data", str(node.settings.data)], input=typed))

    thread = threading.Thread(target=invoke)
    thread.start()
    thread.join()
    return found[0]
