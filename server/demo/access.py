"""Chapter 3: a patient lets an app see one study (SMART App Launch, standalone), and takes it back."""

from dataclasses import dataclass, field
from typing import Any, Self

from server.demo import app
from server.demo.app import App
from server.demo.browser import Browser
from server.demo.scene import Scene
from server.demo.story import require
from server.demo.web import Web

Doors = dict[str, tuple[str, dict[str, str]]]
"""What a door is called -> path and parameters of a request behind which patient data is."""


def tell(scene: Scene) -> None:
    """Nothing without a token; an account and an app; sign-in, choice, consent; what the token opens and what not; the end of it."""
    scene.story.chapter("3 · The patient decides: SMART on FHIR")
    own = _doors(scene.patient, scene.imaging_study["id"], scene.study_uid)
    with scene.story.step("Without a token") as told:
        _all(scene, None, own, 401)
        told.say(f"401 from {', '.join(own)}")
    with _Launch(scene) as launch:
        launch.people()
        launch.discovery()
        launch.sign_in()
        launch.allow()
        launch.redeem()
        launch.opens(own)
        launch.opens_nothing_else()
        launch.take_back(own)


@dataclass
class _Launch:
    """A browser of the patient's, an app, and what it was given."""

    scene: Scene
    browser: Browser = field(init=False)
    app: App = field(init=False)
    given: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.browser, self.app = Browser(self.scene.server.http), App(f"{self.scene.server.http}/fhir")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.browser.close()

    def people(self) -> None:
        with self.scene.story.step("An account and an app") as told:
            person = self.scene.person
            told.say(f"{person.email} · {app.NAME}, a public client without a secret")
            told.look_at(f"imageshare user add {person.email} --patient {self.scene.patient}")
            told.look_at(f"imageshare client add {app.CLIENT_ID} --redirect {app.BACK}")

    def discovery(self) -> None:
        with self.scene.story.step("The app asks how") as told:
            found = self.app.discover()
            told.say(f"{len(found['capabilities'])} capabilities, smart-imaging-access among them")
            require("smart-imaging-access" in found["capabilities"], "the server does not tell of SMART Imaging Access")
            told.look_at("GET /fhir/.well-known/smart-configuration")

    def sign_in(self) -> None:
        with self.scene.story.step("The patient signs in") as told:
            self.browser.open(self.app.authorize_url)
            require(self.browser.heading == "Sign in", f'the app led to "{self.browser.heading}", not to sign in')
            told.say("/oauth/authorize sends the browser to sign in, with a password")
            self.browser.press("Sign in", email=self.scene.person.email, password=self.scene.person.password)
            told.say(f'signed in: "{self.browser.heading}"')

    def allow(self) -> None:
        with self.scene.story.step("... and allows one study") as told:
            study, known = self.scene.imaging_study["id"], self.browser.choices("study")
            require(study in known, "the study is not among those that the patient can choose")
            self.browser.press("Continue", study=study)
            told.say(f"chosen: {known[study]}")
            told.say(f'asked: "{self.browser.heading}"')
            for words in self.browser.choices("scope").values():
                told.say(f"☑ {words}")
            self.browser.press("Allow")
            require(self.browser.away.startswith(app.BACK), f'"{self.browser.heading}" instead of back to the app')

    def redeem(self) -> None:
        with self.scene.story.step("A code becomes a token") as told:
            given = self.given = self.app.redeem(self.browser.away)
            reference = f"ImagingStudy/{self.scene.imaging_study['id']}"
            require(given["patient"] == self.scene.patient, "the token is of another patient")
            require({"reference": reference} in given["fhirContext"], "the token does not tell which study was chosen")
            user = self.app.user(given)
            require(user["fhirUser"].endswith(f"/Patient/{self.scene.patient}"), "the ID token names somebody else")
            self.scene.account = user["sub"]
            told.say(f"PKCE S256 · {given['scope']}")
            told.say(f"holds {given['expires_in'] // 60} minutes, patient and study beside it, and a signed ID token")
            told.look_at("POST /oauth/token")

    def opens(self, own: Doors) -> None:
        with self.scene.story.step("What the token opens") as told:
            _all(self.scene, self.token, own, 200)
            client = Web(self.scene.server.http, self.token)
            try:
                visible = [study["id"] for study in client.pages("ImagingStudy", _count="50")]
            finally:
                client.close()
            require(visible == [self.scene.imaging_study["id"]], "a search with the token shows more than the chosen study")
            told.say(f"200 from {', '.join(own)}")
            told.say(f"a search finds 1 of {len({image.study for image in self.scene.sent.values()})} studies: the chosen one")

    def opens_nothing_else(self) -> None:
        """Another patient's records, behind the same doors."""
        other = self.scene.other_patient
        if not other:
            return
        with self.scene.story.step("... and what it does not") as told:
            study = next(self.scene.web.pages("ImagingStudy", patient=other))
            doors = _doors(other, study["id"], study["identifier"][0]["value"].removeprefix("urn:oid:"))
            _all(self.scene, self.token, doors, 403)
            told.say(f"another patient's records: 403 from {', '.join(doors)}")

    def take_back(self, own: Doors) -> None:
        with self.scene.story.step("The patient takes it back") as told:
            self.browser.open(f"{self.scene.server.http}/account/apps")
            self.browser.press("Disconnect")
            _all(self.scene, self.token, own, 401)
            told.say(f"disconnected; the next request: 401 from {', '.join(own)}")
            told.look_at(f"{self.scene.server.http}/account/apps")

    @property
    def token(self) -> str:
        return str(self.given["access_token"])


def _doors(patient: str, study: str, uid: str) -> Doors:
    return {
        "FHIR read": (f"/fhir/ImagingStudy/{study}", {}),
        "FHIR search": ("/fhir/ImagingStudy", {"patient": patient}),
        "QIDO": (f"/dicomweb/studies/{uid}/series", {}),
        "WADO": (f"/dicomweb/studies/{uid}/metadata", {}),
    }


def _all(scene: Scene, token: str | None, doors: Doors, wanted: int) -> None:
    client = Web(scene.server.http, token)
    try:
        for door, (path, parameters) in doors.items():
            status = client.status(path, **parameters)
            require(status == wanted, f"{door} answered {status} instead of {wanted}")
    finally:
        client.close()
