"""What the chapters share: the story, the server, the clients, and what has been sent so far."""

import secrets
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from profiles.identifiers import AssigningAuthority, PatientIdentifier
from server.demo import app
from server.demo.material import Image, Material
from server.demo.process import ServerProcess
from server.demo.story import Failed, Story, require
from server.demo.web import Json, Web
from server.demo.xds import Xds

QUIET_PERIOD = 2.0
MODALITY = "DEMO_MODALITY"
"""The calling AE title of the demo's scanner."""

_WAIT_SECONDS = 60.0
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with an account here."""

    email: str = ""
    password: str = field(default="", repr=False)


@dataclass
class Scene:
    """One demo. `sent` are the acknowledged images by SOP Instance UID, `study` is the study that all faces show."""

    story: Story
    server: ServerProcess
    folder: Path
    own: Path | None = None
    sent: dict[str, Image] = field(default_factory=dict)
    study: tuple[Image, ...] = ()
    late: Image | None = None
    """The study's last image, held back until its chapter."""
    material: Material = field(default_factory=lambda: Material((), (), 0))
    patient: str = ""
    """Resource id of the study's patient."""
    account: str = ""
    """That patient's, as the app was told it."""
    other_patient: str = ""
    code: str = ""
    """An access code that nobody has used, and the date of birth that goes with it."""
    born: str = ""
    link: str = field(default="", repr=False)
    """A share that is open, and its passcode."""
    passcode: str = field(default="", repr=False)
    imaging_study: Json = field(default_factory=dict)
    _token: "Future[str] | None" = None
    _expected: "Future[Person] | None" = None
    _web: Web | None = None
    _xds: Xds | None = None
    _commands: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))

    @property
    def study_uid(self) -> str:
        return self.study[0].study

    @property
    def web(self) -> Web:
        """FHIR and DICOMweb with a token for everything."""
        if self._web is None:
            assert self._token, "prepared when the server started"
            self._web = Web(self.server.http, self._token.result())
        return self._web

    @property
    def person(self) -> Person:
        """The study's patient, who can sign in."""
        assert self._expected, "made as soon as it is known who that is"
        return self._expected.result()

    @property
    def xds(self) -> Xds:
        """SOAP, which loopback peers may speak as long as no partner is configured."""
        if self._xds is None:
            self._xds = Xds(self.server.http)
        return self._xds

    def prepare(self) -> None:
        """Has the token for everything made while the first files are sent."""
        self._token = self._commands.submit(self.server.token, "system/*.cruds")

    def expect(self, patient: str) -> None:
        """Has the app registered, and an account made for the study's patient, while the story goes on: each is a command of seconds."""
        self.patient = patient
        self._expected = self._commands.submit(self._person)

    def _person(self) -> Person:
        made = Person("patient@example.org", secrets.token_urlsafe(12))
        named = ("--name", "Demo Patient", "--patient", self.patient)
        self.server.command("client", "add", app.CLIENT_ID, "--name", app.NAME, "--redirect", app.BACK)
        self.server.command("user", "add", made.email, *named, said=f"{made.password}\n" * 2)
        return made

    def close(self) -> None:
        self._commands.shutdown(cancel_futures=True)
        for client in (self._web, self._xds):
            if client is not None:
                client.close()

    def expected(self, study_uid: str) -> set[str]:
        """SOP Instance UIDs of the study's acknowledged images."""
        return {uid for uid, image in self.sent.items() if image.study == study_uid}

    def find_study(self, study_uid: str) -> Json | None:
        """The ImagingStudy of a Study Instance UID, found over FHIR."""
        bundle = self.web.fhir("ImagingStudy", identifier=f"urn:dicom:uid|urn:oid:{study_uid}")
        entries = bundle.get("entry", [])
        require(len(entries) <= 1, f"one study became {len(entries)} ImagingStudy resources")
        return entries[0]["resource"] if entries else None

    def published(self, study_uid: str, *, at_least: bool = False) -> Json:
        """Waits until the study shows every acknowledged image, or `at_least` those. Raises `Failed` if that takes too long."""
        count = len(self.expected(study_uid))

        def complete() -> Json | None:
            found = self.find_study(study_uid)
            shown = found["numberOfInstances"] if found else 0
            return found if shown == count or (at_least and shown > count) else None

        return wait_for(complete, f"the study with its {count} images in FHIR")

    def patient_identifier(self, patient: str) -> str:
        """The patient id in XDS form, `id^^^&oid&ISO`, from the FHIR Patient's first identifier."""
        (identifier, *_) = self.web.fhir(f"Patient/{patient}")["identifier"]
        return PatientIdentifier(identifier["value"], AssigningAuthority(identifier["system"].removeprefix("urn:oid:"))).cx


def wait_for(look: Callable[[], T | None], what: str) -> T:
    """What `look` gives as soon as it gives something. Raises `Failed` naming `what` after a minute."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while time.monotonic() < deadline:
        found = look()
        if found is not None:
            return found
        time.sleep(0.25)
    raise Failed(f"waited {_WAIT_SECONDS:.0f} s in vain for {what}")


def plural(count: int, one: str, many: str = "") -> str:
    """`3 images`, `1 image`, `2 studies`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def short(uid: str) -> str:
    """A UID for the screen: its last characters."""
    return uid if len(uid) <= 20 else f"…{uid[-18:]}"


def megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def subject(imaging_study: Json) -> str:
    """The Patient resource id of an ImagingStudy."""
    return str(imaging_study["subject"]["reference"]).removeprefix("Patient/")
