"""Languages: every text has its translation, and a page speaks what its reader reads."""

from collections.abc import Iterator
from email import message_from_bytes
from email.policy import default

import pytest
from peers import texts
from peers.imageshare import publish_all
from peers.visitor import Pages, Visitor

from server import languages
from server.access.people import accounts
from server.edges.pages.wording import day, examination, kinds, ways
from server.languages import chosen, listed, plural, speak, translated

OTHERS = [each for each in languages.LANGUAGES if each != languages.SOURCE]


@pytest.fixture
def spanish() -> Iterator[None]:
    speak("es")
    yield
    speak("en")


@pytest.mark.parametrize("language", OTHERS)
def test_every_text_is_translated_with_its_places(language: str) -> None:
    known = texts.catalogue(language)
    missing, differing = [], []
    for text in texts.used():
        first, *more = text if isinstance(text, tuple) else (text,)
        message = known.get(first)
        said = (message.string if isinstance(message.string, tuple | list) else (message.string,)) if message is not None else ()
        if message is None or message.fuzzy or not said or not all(said) or len(said) != (known.num_plurals if more else 1):
            missing.append(first)
        differing += [each for each in said if each and texts.places(each) != texts.places((more or [first])[0])]
    assert missing == [], "run `make texts`, then translate what has no text"
    assert differing == []


@pytest.mark.parametrize("language", OTHERS)
def test_no_catalogue_has_a_text_that_nothing_uses(language: str) -> None:
    assert texts.po(language).read_bytes() == texts.renewed(language), "run `make texts`"


@pytest.mark.parametrize(
    ("account", "kept", "accept", "language"),
    [
        ("", "", "", "en"), ("", "", "es-MX,es;q=0.9,en;q=0.8", "es"), ("", "", "de, es;q=0.5, en;q=0.4", "es"), ("", "", "en-US,es", "en"),
        ("", "es", "en", "es"), ("en", "es", "es", "en"), ("xx", "<b>", "es", "es"), ("", "", "es;q=0, en;q=0.1", "en"), ("", "", ",;q=9,*", "en"),
        ("", "", "es;q=0.1" + ",x" * 10_000, "es"),
    ],
)  # fmt: skip
def test_which_language(account: str, kept: str, accept: str, language: str) -> None:
    assert chosen(account, kept, accept) == language


def test_an_unknown_language_is_english() -> None:
    speak("tlh")
    assert translated("Sign in") == "Sign in"


@pytest.mark.usefixtures("spanish")
def test_words_in_spanish() -> None:
    assert translated("Sign in") == "Iniciar sesión"
    assert plural("%(n)s image", "%(n)s images", 2) == "%(n)s imágenes"
    assert (day("19740712"), day("1974-07")) == ("12 de julio de 1974", "julio de 1974")
    assert examination(["CT"], ["CHEST"]) == "TC de tórax"
    assert examination(["MR", "SR"], ["BRAIN"]) == "Resonancia magnética de cerebro"
    assert kinds(["CT", "SR"]) == "TC e informe"
    assert listed(["a", "hielo"]) == "a y hielo"
    assert ways(["password", "passkey"]) == "contraseña y llave de acceso"
    assert translated("") == "", "not the header of the catalogue"


def _in_spanish(town: Pages, **headers: str) -> Visitor:
    visitor = town.visitor()
    visitor.http.headers.update({"Accept-Language": "es", **headers})
    return visitor


def test_pages_speak_what_the_browser_asks_for(town: Pages) -> None:
    page = _in_spanish(town).get("/sign-in")
    assert '<html lang="es">' in page.text
    assert "Iniciar sesión" in page.text
    assert page.headers["content-language"] == "es"
    assert '<html lang="en">' in town.visitor().get("/sign-in").text, "another request is not told by the last one"


def test_errors_and_dead_ends_too(town: Pages) -> None:
    visitor = _in_spanish(town, Accept="text/html")
    assert "No hay ninguna página en esta dirección" in visitor.get("/nothing/here").text


def test_the_switch_is_kept_by_the_browser(town: Pages) -> None:
    visitor = town.visitor()
    found = visitor.get("/language/es?next=/claim")
    assert found.url.path == "/claim"
    assert "Código de acceso" in found.text
    assert "Código de acceso" in visitor.get("/claim").text
    assert visitor.get("/language/xx").status_code == 404
    assert visitor.get("/language/en?next=https://evil.example/").url.host == found.url.host


def test_an_account_keeps_its_language(town: Pages) -> None:
    visitor = town.signed_in("patient")
    visitor.press("Save the language", language="es")
    assert "Su idioma se ha guardado." in visitor.page.text
    again = town.signed_in("patient")
    assert "Su cuenta" in again.text, "on any device"
    again.get("/images")
    assert "Your images" in again.press("English").text
    assert again.page.url.path == "/images", "the switch leads back to where it was pressed"
    again.get("/account")
    assert again.press("Save the language", language="tlh").status_code == 400
    again.get("/account")
    again.press("Save the language", language="")
    assert "Your account" in again.text


def test_nothing_that_a_study_says_is_markup(town: Pages) -> None:
    """A modality that DICOM does not know is shown as it is written, and is a text."""
    assert kinds(["<B>"]) == "<B>"
    from server.edges.pages.showing import _PAGES

    for name in _PAGES.list_templates():
        source = (texts.PAGES / "templates" / name).read_text()
        assert "_(study.title)" not in source
        assert "_(each.title)" not in source


def test_letters_speak_the_language_of_whom_they_are_for(town: Pages) -> None:
    """The account's; for who has chosen none that of the page where the letter was asked for."""
    visitor = town.visitor()
    visitor.get("/sign-in")
    visitor.press("E-mail me a code instead", email="patient@example.org")
    assert "Your code to sign in" in town.letter()
    visitor = _in_spanish(town)
    visitor.get("/sign-in")
    visitor.press("Enviarme un código por correo", email="patient@example.org")
    assert "Su código para iniciar sesión" in town.letter()
    node = town.site.node
    with node.database.write() as connection:
        account = accounts.by_email(connection, "patient@example.org")
        assert account is not None
        accounts.choose_language(connection, account.id, "es")
    visitor = town.visitor()
    visitor.get("/sign-in")
    visitor.press("E-mail me a code instead", email="patient@example.org")
    assert "Su código para iniciar sesión" in town.letter()
    with node.database.write() as connection:
        accounts.choose_language(connection, account.id, "")


def test_a_code_is_printed_and_mailed_in_the_patients_language(town: Pages) -> None:
    """As her FHIR Patient says it; staff may choose another."""
    id_ = town.site.patients["A"]
    token = {"Authorization": f"Bearer {town.site.backend('system/Patient.crus').json()['access_token']}"}
    found = town.site.http.get(f"/fhir/Patient/{id_}", headers=token).json()
    spoken = {"language": {"coding": [{"system": "urn:ietf:bcp:47", "code": "es-MX"}]}, "preferred": True}
    written = town.site.http.put(f"/fhir/Patient/{id_}", json={**found, "communication": [spoken]}, headers=token)
    assert written.status_code == 200, written.text
    staff = town.signed_in("staff")
    page = staff.get(f"/staff/patients/{id_}")
    assert '<option value="es" lang="es" selected>' in page.text
    sheet = staff.press("Issue the code", email="anna@example.org", language="es")
    assert '<html lang="es">' in sheet.text
    assert "sms:?body=Sus%20im%C3%A1genes" in sheet.text
    publish_all(node := town.site.node)
    newest = max((node.settings.data / "mail").glob("*.eml"))
    assert "Sus imágenes están listas" in message_from_bytes(newest.read_bytes(), policy=default).get_content()
    staff.get(f"/staff/patients/{id_}")
    assert '<html lang="en">' in staff.press("Issue the code", language="en").text
