"""Chapter 4: the patient holds her images: a code on paper, no account, and a link for her doctor, which she stops."""

from contextlib import closing
from urllib.parse import urlsplit

from server.demo.browser import Browser
from server.demo.scene import Scene, plural
from server.demo.story import Failed, require


def tell(scene: Scene) -> None:
    """A code and a date of birth; the images at once, and then in an account; a share with a passcode, opened, told of and stopped; another one that stays open."""
    scene.story.chapter("4 · The patient holds the images")
    born = str(scene.web.fhir(f"Patient/{scene.patient}").get("birthDate", ""))
    if len(born) != len("YYYY-MM-DD"):
        with scene.story.step("No access code") as told:
            told.say("the patient of this study has no date of birth, by which a code could be claimed")
        return
    scene.born = born
    with closing(Browser(scene.server.http)) as paper:
        _claim(scene, paper, born)
        _keep(scene, paper)
    with closing(Browser(scene.server.http)) as patient, closing(Browser(scene.server.http)) as doctor:
        _share(scene, patient)
        _open(scene, patient, doctor)
        _stop(scene, patient, doctor)
        _share_again(scene, patient)
    scene.code = scene.server.command("code", "issue", scene.patient)


def _claim(scene: Scene, browser: Browser, born: str) -> None:
    with scene.story.step("A code on paper, no account") as told:
        code = scene.server.command("code", "issue", scene.patient)
        year, month, day = born.split("-")
        browser.open(f"{scene.server.http}/claim")
        browser.press("Show my images", code=code.lower(), day=day, month=month, year=year)
        require(browser.heading == "Your images", f'"{browser.heading}" instead of the images')
        shown = [each for each in browser.pictures() if each[:2] == b"\xff\xd8"]
        require(shown, "there is no picture on the page")
        told.say(f"{code} and the date of birth: {plural(len(shown), 'picture')}, at once")
        told.look_at(f"imageshare code issue {scene.patient}")


def _keep(scene: Scene, browser: Browser) -> None:
    with scene.story.step("... kept in an account") as told:
        browser.open(f"{scene.server.http}/sign-in?next=/claim/keep")
        browser.press("Sign in", email=scene.person.email, password=scene.person.password)
        browser.press("Keep them here")
        require("in your account now" in browser.text, "what was claimed is not in the account")
        told.say("afterwards, and only for who wants to: the study is the patient's own now")
        told.look_at(f"{scene.server.http}/images/{scene.imaging_study['id']}")


def _share(scene: Scene, patient: Browser) -> None:
    with scene.story.step("A link for the doctor") as told:
        patient.open(f"{scene.server.http}/sign-in?next=/share/new")
        patient.press("Sign in", email=scene.person.email, password=scene.person.password)
        _made(scene, patient)
        told.say("30 days, to look at, with a passcode that is told another way")
        told.say("its secret is behind #, which no server is sent")


def _open(scene: Scene, patient: Browser, doctor: Browser) -> None:
    with scene.story.step("... opened without an account") as told:
        _opened(scene, doctor)
        told.say(f'"{doctor.heading}"')
        patient.open(f"{scene.server.http}/share")
        require("Dr Demo" in patient.text, "the patient does not see who has opened the link")
        told.say("the patient sees who it was, and when")
        told.look_at(f"{scene.server.http}/share")


def _stop(scene: Scene, patient: Browser, doctor: Browser) -> None:
    with scene.story.step("... and stopped") as told:
        patient.press("Stop sharing")
        for again in (f"{urlsplit(scene.link).path}/view", f"{urlsplit(scene.link).path}/images"):
            try:
                doctor.open(f"{scene.server.http}{again}")
            except Failed:
                continue
            raise Failed("the link still opens the images")
        told.say("the next request of the open page: 404")


def _share_again(scene: Scene, patient: Browser) -> None:
    patient.open(f"{scene.server.http}/share/new")
    _made(scene, patient)


def _made(scene: Scene, patient: Browser) -> None:
    study = scene.imaging_study["id"]
    require(study in patient.choices("study"), "the study is not among those that the patient can share")
    patient.press("Make the link", study=study, name="Dr Demo", days="30", openings="0", passcode="yes", reports="yes")
    scene.link, scene.passcode = patient.value("link"), patient.value("secret")
    require("#" in scene.link, "there is no link")


def _opened(scene: Scene, doctor: Browser) -> None:
    parts = urlsplit(scene.link)
    doctor.open(f"{scene.server.http}{parts.path}")
    doctor.press("Open the images", secret=parts.fragment, passcode=scene.passcode, name="Dr Demo")
    require("Open the images" not in doctor.heading, "the link does not open")
