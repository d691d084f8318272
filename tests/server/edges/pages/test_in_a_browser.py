"""The pages in Chromium: no barrier that axe-core finds, nothing in the console, all of it by keyboard, passkeys, and without script."""

from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
from peers.browser import DESKTOP, PHONE, ZOOMED, Window, window
from peers.node_clients import NoNode
from peers.people import PASSWORD
from peers.smart_site import BACK
from peers.visitor import Pages, pages
from playwright.sync_api import Browser, Page, expect

from server.access.people.accounts import verified
from server.records.catalogue import STUDY
from server.store.db import micros

pytestmark = pytest.mark.peers
_SCOPE = (
    "launch/patient launch/imagingstudy openid fhirUser patient/*.rs patient/Observation.rs?category=laboratory patient/ImagingStudy.cruds"
    " offline_access"
)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    """Pages on a socket."""
    with pages(
        tmp_path_factory.mktemp("site"), on_a_socket=True, sign_in_failures=1000, sign_in_failures_per_address=0
    ) as opened:
        yield opened


@pytest.fixture(params=["desktop-light", "phone-dark"])
def view(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Window]:
    """A window as large as a desk's or as small as a phone's; nothing in it may have gone wrong at the end."""
    size, scheme = request.param.split("-")
    with window(browser, viewport=DESKTOP if size == "desktop" else PHONE, color_scheme=scheme) as opened:
        yield opened
        assert [each for each in opened.wrongs if "the server responded with a status of 4" not in each] == []


def _app(town: Pages, scope: str = _SCOPE, client: str = "public", **more: str) -> str:
    return f"{town.site.base}/oauth/authorize?{urlencode(town.site.asking(client, scope, **more))}"


def _press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def _sign_in(page: Page, email: str) -> None:
    page.get_by_label("E-mail address").fill(email)
    page.get_by_label("Password").fill(PASSWORD)
    _press(page, "Sign in")


def _is_good(view: Window, title: str) -> None:
    """What holds of every page."""
    expect(view.page.get_by_role("heading", level=1)).to_have_text(title)
    _bars_nobody(view)


def _bars_nobody(view: Window) -> None:
    try:
        assert view.barriers() == []
    except NoNode as reason:
        pytest.skip(str(reason))
    assert not view.is_wider_than_screen()
    assert view.small_targets() == []


def _app_answers(page: Page, town: Pages) -> str:
    """Stands in for the app, which redirects on to another origin, as apps do. Returns where it ends."""
    end = town.site.base.replace("127.0.0.1", "localhost") + "/livez"
    page.route(f"{BACK}**", lambda route: route.fulfill(status=302, headers={"Location": end}))
    return end


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_in_spanish(browser: Browser, real: Pages, size: dict[str, int]) -> None:
    """Longer words break no page, and no barrier is in one language alone."""
    real.site.session("patient")
    real.site.tokens(scope="patient/*.rs offline_access", who="patient")
    with window(browser, viewport=size, locale="es-MX") as view:
        page = view.page
        for path, title in (
            ("/", "Sus imágenes, en sus manos"), ("/claim", "Ver sus imágenes"), ("/recover", "Elegir una nueva contraseña"),
            ("/developers", "Para desarrolladores"), ("/nothing", "Esto no está aquí"), ("/sign-in", "Iniciar sesión"),
        ):  # fmt: skip
            page.goto(real.site.base + path)
            _is_good(view, title)
        page.goto(f"{real.site.base}/sign-in?next=/images")
        page.get_by_label("Correo electrónico").fill("patient@example.org")
        page.get_by_label("Contraseña").fill(PASSWORD)
        _press(page, "Iniciar sesión")
        for path, title in (
            ("/images", "Sus imágenes"), ("/share", "Compartir"), ("/account", "Su cuenta"), ("/account/apps", "Aplicaciones conectadas"),
            ("/account/activity", "Quién vio el historial"), ("/sign-out", "¿Cerrar la sesión?"),
        ):  # fmt: skip
            page.goto(real.site.base + path)
            _is_good(view, title)
            expect(page.locator("main")).not_to_contain_text("This website")


@pytest.mark.parametrize(
    ("who", "paths"),
    [
        ("", ("/", "/claim", "/claim/account", "/sign-in", "/recover", "/developers", "/nothing")),
        (
            "patient",
            ("/images", "/images/{study}", "/images/{study}/view", "/share", "/share/new", "/shared", "/account", "/account/apps",
             "/account/activity", "/account/people", "/account/choices", "/account/leave", "/bring-in", "/sign-out"),
        ),
        ("staff", ("/staff", "/staff/patients/{patient}", "/staff/bring-in", "/staff/health")),
        ("administrator", ("/staff/people", "/staff/audit")),
    ],
)  # fmt: skip
def test_at_400_percent(browser: Browser, real: Pages, who: str, paths: tuple[str, ...]) -> None:
    """Nothing has to be scrolled to sideways, and nothing bars anybody's way, in a window of 320 x 256 CSS pixels."""
    with real.site.node.database.read() as connection:
        study = connection.execute(STUDY.select().where(STUDY.c.uid == real.site.studies["A"][0])).one().id
    with window(browser, viewport=ZOOMED) as view:
        if who:
            view.page.goto(f"{real.site.base}/sign-in")
            _sign_in(view.page, f"{who}@example.org")
        for path in paths:
            answer = view.page.goto(real.site.base + path.format(study=study, patient=real.site.patients["A"]))
            assert answer is not None
            assert (answer.status, path) == (404 if path == "/nothing" else 200, path)
            assert "/sign-in" not in view.page.url or path == "/sign-in"
            _bars_nobody(view)


def test_signing_in_and_allowing(view: Window, real: Pages) -> None:
    page = view.page
    end = _app_answers(page, real)
    page.goto(_app(real))
    _is_good(view, "Sign in")
    page.get_by_label("E-mail address").fill("patient@example.org")
    _press(page, "Sign in")
    expect(page.get_by_label("Password")).to_be_focused()
    expect(page.get_by_label("Password")).to_have_attribute("aria-invalid", "true")
    _is_good(view, "Sign in")
    page.get_by_label("Password").fill("wrong")
    _press(page, "Sign in")
    expect(page.get_by_role("alert").first).to_contain_text("That did not work")
    _is_good(view, "Sign in")
    page.get_by_label("Password").fill(PASSWORD)
    _press(page, "Sign in")
    _is_good(view, "Which images is this about?")
    page.get_by_role("checkbox").first.check()
    _press(page, "Continue")
    _is_good(view, "May A public app see the records of Anna Alba?")
    _press(page, "Allow")
    page.wait_for_url(end)


def test_codes_and_forgotten_passwords(view: Window, real: Pages) -> None:
    page = view.page
    page.goto(f"{real.site.base}/sign-in")
    page.get_by_label("E-mail address").fill("staff@example.org")
    _press(page, "E-mail me a code instead")
    _is_good(view, "Look into your e-mails")
    expect(page.get_by_label("Code")).to_be_focused()
    page.get_by_role("link", name="Sign in another way").click()
    page.get_by_role("link", name="Forgotten your password?").click()
    _is_good(view, "Choose a new password")
    page.get_by_label("E-mail address").fill("staff@example.org")
    _press(page, "Send me a code")
    _is_good(view, "Look into your e-mails")
    page.get_by_label("Code").fill("12345678")
    page.get_by_label("New password").fill("short")
    _press(page, "Save the new password")
    expect(page.get_by_label("New password")).to_be_focused()
    _is_good(view, "Look into your e-mails")


def test_finding_a_patient(view: Window, real: Pages) -> None:
    page = view.page
    page.goto(_app(real, "launch/patient user/*.rs online_access", "secret"))
    _sign_in(page, "practitioner@example.org")
    _is_good(view, "Whose records is this about?")
    page.get_by_label("Find a patient").fill("nobody at all")
    _press(page, "Search")
    expect(page.get_by_role("status")).to_contain_text("Nobody was found")
    _is_good(view, "Whose records is this about?")
    page.get_by_label("Find a patient").fill("berg")
    _press(page, "Search")
    page.get_by_label("Bert Berg").check()
    _is_good(view, "Whose records is this about?")
    _press(page, "Continue")
    _is_good(view, "May An app with a secret see the records of Bert Berg?")


def test_an_emergency(view: Window, real: Pages) -> None:
    page = view.page
    end = _app_answers(page, real)
    page.goto(_app(real, "launch/patient launch/imagingstudy user/*.rs online_access", "secret"))
    _sign_in(page, "practitioner@example.org")
    _press(page, "This is an emergency")
    _is_good(view, "Is this an emergency?")
    expect(page.get_by_label("Why?")).to_be_focused()
    page.get_by_label("Why?").fill(" ")
    _press(page, "Open the record")
    expect(page.get_by_label("Why?")).to_have_attribute("aria-invalid", "true")
    _is_good(view, "Is this an emergency?")
    page.get_by_label("Why?").fill("unconscious, no time to ask")
    page.keyboard.press("Enter")
    _is_good(view, "Whose records is this about?")
    page.get_by_label("Find a patient").fill("berg")
    _press(page, "Search")
    page.get_by_label("Bert Berg").check()
    _is_good(view, "Whose records is this about?")
    _press(page, "Continue")
    _is_good(view, "Which images is this about?")
    _press(page, "Continue")
    expect(page.get_by_text("Your reason: unconscious, no time to ask")).to_be_visible()
    _is_good(view, "May An app with a secret see the records of Bert Berg?")
    _press(page, "Allow")
    page.wait_for_url(end)


def test_the_account_and_its_apps(view: Window, real: Pages) -> None:
    page = view.page
    real.site.tokens(scope="patient/*.rs offline_access", who="patient")
    real.site.session("patient")
    page.goto(f"{real.site.base}/account")
    _sign_in(page, "patient@example.org")
    _is_good(view, "Your account")
    page.get_by_label("Password so far").fill("wrong")
    page.get_by_label("New password").fill("another long password")
    _press(page, "Save the new password")
    expect(page.get_by_label("Password so far")).to_be_focused()
    _is_good(view, "Your account")
    page.get_by_role("link", name="Connected apps").click()
    _is_good(view, "Connected apps")
    page.get_by_role("button", name="Disconnect").first.click()
    expect(page.get_by_role("status")).to_contain_text("sees nothing any more")
    _is_good(view, "Connected apps")
    page.get_by_role("link", name="Who looked").click()
    _is_good(view, "Who saw the records")
    page.goto(f"{real.site.base}/authorize/nothing")
    _is_good(view, "This request is over")
    page.goto(f"{real.site.base}/nothing")
    _is_good(view, "This is not here")
    page.get_by_role("link", name="Sign out").click()
    _is_good(view, "Sign out?")
    _press(page, "Sign out")
    _is_good(view, "You are signed out")


def test_another_name_and_address(view: Window, real: Pages) -> None:
    page = view.page
    page.goto(f"{real.site.base}/account")
    _sign_in(page, "other@example.org")
    page.get_by_label("What we call you").fill("")
    _press(page, "Save the name")
    expect(page.get_by_label("What we call you")).to_be_focused()
    _is_good(view, "Your account")
    page.get_by_label("What we call you").fill("Bert Berg")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("Your name is saved")
    page.get_by_label("New e-mail address").fill("nowhere")
    page.keyboard.press("Enter")
    expect(page.get_by_label("New e-mail address")).to_be_focused()
    _is_good(view, "Your account")
    page.get_by_label("New e-mail address").fill("patient@example.org")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Code")).to_be_focused()
    _is_good(view, "Look into your e-mails")
    page.keyboard.type("1234 5678")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Code")).to_be_focused()
    expect(page.get_by_label("Code")).to_have_attribute("aria-invalid", "true")
    _is_good(view, "Look into your e-mails")
    page.get_by_role("link", name="Keep the address that I have").click()
    _is_good(view, "Your account")


def test_a_passkey_is_added_used_and_removed(view: Window, real: Pages) -> None:
    page = view.page
    devtools = view.context.new_cdp_session(page)
    devtools.send("WebAuthn.enable")
    device = {
        "protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True, "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }  # fmt: skip
    key = devtools.send("WebAuthn.addVirtualAuthenticator", {"options": device})["authenticatorId"]
    base = real.site.base.replace("127.0.0.1", "localhost")
    page.goto(f"{base}/account")
    _sign_in(page, "other@example.org")
    page.get_by_label("What do you call this device?").fill("My phone")
    _press(page, "Add a passkey")
    expect(page.get_by_role("status")).to_contain_text("The passkey is added")
    expect(page.get_by_text("My phone", exact=True)).to_be_visible()
    _is_good(view, "Your account")
    page.goto(f"{base}/sign-out")
    _press(page, "Sign out")
    page.goto(f"{base}/sign-in?next=/account/apps")
    devtools.send("WebAuthn.setUserVerified", {"authenticatorId": key, "isUserVerified": False})
    _press(page, "Sign in with a passkey")
    expect(page.get_by_role("alert").last).to_contain_text("This passkey did not work")
    devtools.send("WebAuthn.setUserVerified", {"authenticatorId": key, "isUserVerified": True})
    _press(page, "Sign in with a passkey")
    page.wait_for_url(f"{base}/account/apps")
    page.goto(f"{base}/account")
    expect(page.get_by_text("last used")).to_be_visible()
    _press(page, "Remove My phone")
    expect(page.get_by_role("status")).to_contain_text("The passkey is removed")


def test_at_an_address_of_numbers_it_is_said_where_passkeys_are(view: Window, real: Pages) -> None:
    page = view.page
    page.goto(f"{real.site.base}/account")
    _sign_in(page, "staff@example.org")
    home = real.site.base.replace("127.0.0.1", "localhost") + "/account"
    expect(page.get_by_role("link", name=home)).to_have_attribute("href", home)
    expect(page.get_by_text("open this page in a newer browser")).to_be_hidden()
    expect(page.get_by_role("button", name="Add a passkey")).to_be_hidden()
    _is_good(view, "Your account")
    page.goto(home)
    _sign_in(page, "staff@example.org")
    expect(page.get_by_role("button", name="Add a passkey")).to_be_visible()
    expect(page.get_by_role("link", name=home)).to_be_hidden()


def test_the_first_passkey_takes_a_code_and_who_comes_too_often_is_told_so(view: Window, real: Pages) -> None:
    page, account = view.page, real.site.people["patient"]
    with real.site.node.database.write() as connection:
        verified(connection, account.id, micros())
    base = real.site.base.replace("127.0.0.1", "localhost")
    page.goto(f"{base}/account")
    _sign_in(page, "patient@example.org")
    page.get_by_label("What do you call this device?").fill("My phone")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Send me the code")).to_be_focused()
    _is_good(view, "First we send you a code")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Code")).to_be_focused()
    page.keyboard.type(real.code())
    page.keyboard.press("Enter")
    page.wait_for_url(f"{base}/account")
    expect(page.get_by_role("heading", name="Who may act for you")).to_be_visible()
    _is_good(view, "Your account")
    said = "There were too many attempts. Wait a minute, then try again."
    page.route("**/passkeys/options", lambda route: route.fulfill(status=429, json={"detail": said}))
    page.get_by_label("What do you call this device?").fill("My phone")
    _press(page, "Add a passkey")
    expect(page.get_by_role("alert").last).to_have_text(said)


def test_all_of_it_by_keyboard(view: Window, real: Pages) -> None:
    """WCAG 2.2 success criteria 2.1.1, 2.4.3 and 2.4.7."""
    page = view.page
    end = _app_answers(page, real)
    page.goto(_app(real, "launch/patient patient/ImagingStudy.rs patient/Patient.rs offline_access"))
    expect(page.get_by_label("E-mail address")).to_be_focused()
    page.keyboard.type("patient@example.org")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("May A public app see the records of Anna Alba?")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    expect(page.get_by_role("link", name="Skip to the content")).to_be_in_viewport()
    page.keyboard.press("Enter")
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("[document.activeElement.name || document.activeElement.tagName, document.activeElement.value ?? '']")
        )
        ring = page.evaluate(
            "(() => { const at = document.activeElement; const of = each => parseFloat(getComputedStyle(each).outlineWidth);"
            " return Math.max(of(at), at.closest('label') ? of(at.closest('label')) : 0) })()"
        )
        assert ring >= 2, reached[-1]
        if reached[-1] == ["answer", "allow"]:
            break
    assert [each for each in reached if each[0] != "SUMMARY"] == [
        ["scope", "patient/ImagingStudy.rs"], ["scope", "patient/Patient.rs"], ["stay", "yes"], ["answer", "allow"],
    ]  # fmt: skip
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Space")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url(end)


def test_all_but_passkeys_goes_without_script(browser: Browser, real: Pages) -> None:
    with window(browser, java_script_enabled=False) as view:
        page = view.page
        end = _app_answers(page, real)
        page.goto(_app(real, "launch/patient patient/ImagingStudy.rs"))
        expect(page.get_by_role("button", name="Sign in with a passkey")).to_be_hidden()
        _sign_in(page, "patient@example.org")
        _press(page, "Allow")
        page.wait_for_url(end)
        page.goto(f"{real.site.base}/account")
        expect(page.get_by_text("To add a passkey, open this page")).to_be_visible()


def test_no_page_can_be_framed(browser: Browser, real: Pages) -> None:
    """Abuse case 14, clickjacking."""
    with window(browser) as view:
        view.page.route(
            "https://evil.example/",
            lambda route: route.fulfill(body=f"<iframe src='{real.site.base}/sign-in'></iframe>", content_type="text/html"),
        )
        view.page.goto("https://evil.example/")
        view.page.wait_for_timeout(200)
        assert view.page.frames[-1].url.startswith("chrome-error:")


def test_what_a_page_may_load_is_only_ours(browser: Browser, real: Pages) -> None:
    """That the Content-Security-Policy works: script within the page, and from elsewhere, does not run."""
    with window(browser) as view:
        page = view.page
        page.goto(f"{real.site.base}/sign-in")
        for attack in (
            "const s = document.createElement('script'); s.textContent = 'window.owned = 1'; document.body.append(s)",
            "const s = document.createElement('script'); s.src = 'https://evil.example/x.js'; document.body.append(s)",
            "const s = document.createElement('img'); s.src = 'https://evil.example/x.png'; document.body.append(s)",
        ):
            page.evaluate(attack)
        page.wait_for_timeout(200)
        assert page.evaluate("window.owned") is None
        assert len([each for each in view.wrongs if "Content Security Policy" in each]) == 3
