"""The authorization endpoint (SMART App Launch 2.2, App Launch; RFC 6749 section 4.1; RFC 7636; RFC 9700)."""

import httpx2

from conformance.smart.kit import Area, Skipped, check, fail
from conformance.smart.system import Answered, Changes, System

AREA = Area("authorize")
case = AREA.case

SCOPE = "launch/patient patient/ImagingStudy.rs"
_NOWHERE = "https://attacker.invalid/callback"


def no_code(answered: Answered, *errors: str) -> None:
    """Fails unless no code came, and, where the app was told why, the error is one of these."""
    check("code" not in answered.landing.parameters, "a code came back")
    if answered.landing.redirect:
        check(answered.error, "the redirect has no error")
        check(not errors or answered.error in errors, f"error {answered.error} instead of {' or '.join(errors)}")
        check(answered.landing.parameters.get("state", "") == answered.state, "the error has not the state of the request")


def stays(answered: Answered) -> None:
    """Fails where the browser was sent to any app: what is wrong here is told on a page of the server (RFC 6749 section 4.1.2.1)."""
    check(not answered.landing.redirect, f"the browser was sent to {answered.landing.redirect.partition('?')[0]}")
    check(answered.landing.last.status_code >= 400, f"a page with status {answered.landing.last.status_code}, and no refusal")


@case("get", "A request by GET ends in a code at the redirect_uri", 14, 48, 53, 56, 57, 353)
def _(system: System) -> None:
    answered = system.authorize(SCOPE)
    check(answered.code, "no code")
    check(answered.landing.redirect.startswith(answered.client.redirect_uri), "it went elsewhere")


@case("post", "A request by POST with a form does the same", 49, 354)
def _(system: System) -> None:
    check(system.authorize(SCOPE, method="POST").code, "no code")


@case("state", "The redirect has the state as it was sent, whatever characters it has", 59)
def _(system: System) -> None:
    state = "a b+c/d=e&f?g%20ü~\"'"
    found = system.authorize(SCOPE, changed={"state": state}).landing.parameters
    check(found.get("state") == state, f"the state came back as {found.get('state')!r}")


@case("iss", "The redirect names its issuer", source="RFC 9207 section 2")
def _(system: System) -> None:
    answered = system.authorize(SCOPE)
    check(answered.code, "no code")
    check(answered.landing.parameters.get("iss"), "the redirect has no iss")
    issuer = system.configuration.get("issuer")
    if issuer:
        check(answered.landing.parameters["iss"] == issuer, f"iss is {answered.landing.parameters['iss']}, issuer is {issuer}")


@case("denied", "A person's refusal comes back as access_denied with the state", 54)
def _(system: System) -> None:
    if not system.target.user("patient").deny:
        raise Skipped("the target file does not say which button denies")
    answered = system.authorize(SCOPE, deny=True)
    check(answered.landing.redirect, f"the app was not told: {answered.told}")
    no_code(answered, "access_denied")


@case("code-is-opaque", "Codes are long, and never the same", source="RFC 6749 section 10.10")
def _(system: System) -> None:
    one, two = system.authorize(SCOPE).code, system.authorize(SCOPE).code
    check(one != two, "the same code came twice")
    check(len(one) >= 22, f"a code of {len(one)} characters holds less than 128 bits")


def _refused(
    id: str, title: str, changed: Changes, *numbers: int, errors: tuple[str, ...] = ("invalid_request",), source: str = ""
) -> None:
    """A case in which a wrong request brings no code."""

    @case(id, title, *numbers, source=source)
    def _(system: System) -> None:
        no_code(system.authorize(SCOPE, changed=changed), *errors)


_refused(
    "no-challenge",
    "No request without code_challenge",
    {"code_challenge": None, "code_challenge_method": None},
    31,
    source="RFC 9700 section 2.1.1",
)
_refused(
    "plain", "No request with code_challenge_method=plain", {"code_challenge_method": "plain", "code_challenge": "x" * 43}, 15
)
_refused(
    "method-left-out",
    "No code_challenge without method, which would be plain",
    {"code_challenge_method": None},
    15,
    source="RFC 7636 section 4.3",
)
_refused(
    "challenge-malformed", "No code_challenge that no S256 can be", {"code_challenge": "short"}, 14, source="RFC 7636 section 4.2"
)
_refused(
    "token-response-type", "No implicit grant", {"response_type": "token"}, source="RFC 9700 section 2.1.2",
    errors=("unsupported_response_type", "unauthorized_client", "invalid_request"),
)  # fmt: skip
_refused(
    "no-response-type",
    "No request without response_type",
    {"response_type": None},
    errors=("invalid_request", "unsupported_response_type"),
)
_refused("no-aud", "No request without aud", {"aud": None}, 96)
_refused(
    "other-aud",
    "No request for another server: aud",
    {"aud": "https://other.invalid/fhir"},
    96,
    errors=("invalid_request", "invalid_target"),
)
_refused("no-state", "No request without state", {"state": None}, source="SMART App Launch 2.2, Obtain authorization code")
_refused("bad-scope", "No request for scopes that are all unknown", {"scope": "kit/everything"}, errors=("invalid_scope",))
_refused(
    "unknown-launch",
    "No launch handle that nobody made",
    {"launch": "kit-nothing", "scope": f"launch {SCOPE}"},
    352,
    errors=("invalid_request", "invalid_scope", "access_denied"),
)


@case("aud-longer", "No request for a URL that goes on after ours", 96)
def _(system: System) -> None:
    for wrong in (f"{system.clinical}.attacker.invalid", f"{system.clinical}/../other", f"{system.clinical}@attacker.invalid"):
        no_code(system.authorize(SCOPE, changed={"aud": wrong}))


@case("aud-slash", "aud with a slash at its end is the same server", 96)
def _(system: System) -> None:
    check(system.authorize(SCOPE, changed={"aud": system.clinical + "/"}).code, "no code")


@case("twice", "No request with a parameter twice", source="RFC 6749 section 3.1")
def _(system: System) -> None:
    for name, value in (("aud", system.clinical), ("scope", "system/*.cruds"), ("state", "other"), ("code_challenge", "y" * 43)):
        answered = system.authorize(SCOPE, extra=((name, value),))
        check("code" not in answered.landing.parameters, f"{name} came twice, and a code was given")


def _open_redirect(id: str, title: str, redirect: str) -> None:
    @case(f"redirect-{id}", title, 18, source="RFC 9700 section 4.1")
    def _(system: System) -> None:
        registered = httpx2.URL(system.target.client("public").redirect_uri)
        host = registered.netloc.decode()
        wrong = redirect.format(uri=registered, host=host, path=registered.path, scheme=registered.scheme)
        stays(system.authorize(SCOPE, changed={"redirect_uri": wrong}))


_open_redirect("other", "Nobody is sent to a redirect_uri that is not registered", _NOWHERE)
_open_redirect("longer", "Nor to one whose path goes on after a registered one", "{uri}/more")
_open_redirect("dots", "Nor to one that leads elsewhere by dots", "{uri}/../../elsewhere")
_open_redirect("query", "Nor to one with a query in addition", "{uri}?next=https://attacker.invalid")
_open_redirect("fragment", "Nor to one with a fragment", "{uri}#fragment")
_open_redirect("userinfo", "Nor to one whose host stands before an @", "{scheme}://{host}@attacker.invalid{path}")
_open_redirect("subdomain", "Nor to one whose host goes on", "{scheme}://{host}.attacker.invalid{path}")
_open_redirect("scheme", "Nor to a script", "javascript:alert(1)")
_open_redirect("data", "Nor to a data URL", "data:text/html,hello")
_open_redirect("case", "Nor to one in other letters", "{scheme}://{host}/CALLBACK-IN-OTHER-LETTERS")


@case("redirect-missing", "Nobody is sent anywhere where redirect_uri is missing", 18)
def _(system: System) -> None:
    stays(system.authorize(SCOPE, changed={"redirect_uri": None}))


@case("unknown-client", "Nobody is sent anywhere for a client that is not registered", 18)
def _(system: System) -> None:
    stays(system.authorize(SCOPE, changed={"client_id": "kit-nobody"}))


@case("hostile-client", "Nothing of a request stands unescaped on the page that refuses it", source="OWASP ASVS 1.2.1")
def _(system: System) -> None:
    answered = system.authorize(SCOPE, changed={"client_id": "<script>kit()</script>"})
    stays(answered)
    check("<script>kit()" not in answered.landing.last.text, "the page has the script of the request")


@case("page-headers", "The page that asks for consent can be neither framed nor kept", source="RFC 9700 section 4.16")
def _(system: System) -> None:
    system.authorize(SCOPE)
    seen = [each for each in system.wire.exchanges if "text/html" in each.received.lower() and each.status == 200]
    check(seen, "no page was shown")
    for each in seen:
        told = each.received.lower()
        check("frame-ancestors" in told or "x-frame-options: deny" in told, f"{each.url.partition('?')[0]} may be framed")
        check("cache-control" in told and "no-store" in told, f"{each.url.partition('?')[0]} may be kept")


@case("code-not-in-referrer", "No page passes on where it was called from", source="RFC 9700 section 4.2")
def _(system: System) -> None:
    system.authorize(SCOPE)
    for each in system.wire.exchanges:
        if "text/html" in each.received.lower() and each.status == 200:
            check("referrer-policy: no-referrer" in each.received.lower() or "referrer-policy: same-origin" in each.received.lower(),
                  f"{each.url.partition('?')[0]} has no Referrer-Policy")  # fmt: skip


@case("consent-by-get", "Nothing is granted by a GET that no person has answered", source="RFC 6749 section 10.2")
def _(system: System) -> None:
    app = system.target.client("public")
    url = httpx2.URL(system.endpoint("authorization_endpoint"))
    answer = system.wire.get(
        str(url),
        params={
            "response_type": "code", "client_id": app.id, "redirect_uri": app.redirect_uri, "scope": SCOPE, "state": "x" * 32,
            "aud": system.clinical, "code_challenge": "z" * 43, "code_challenge_method": "S256",
        },
    )  # fmt: skip
    if answer.headers.get("location", "").startswith(app.redirect_uri):
        check("code=" not in answer.headers["location"], "a code came to a browser that nobody signed in at")
    elif answer.status_code >= 500:
        fail(f"status {answer.status_code}")


@case("ehr-launch", "A launch from an EHR ends in a code", 352)
def _(system: System) -> None:
    system.able("launch-ehr")
    answered = system.authorize("launch patient/ImagingStudy.rs", changed={"launch": system.launch()})
    check(answered.code, "no code")


@case("ehr-launch-once", "A launch handle opens one launch", source="SMART App Launch 2.2, EHR launch")
def _(system: System) -> None:
    system.able("launch-ehr")
    handle = system.launch()
    check(system.authorize("launch patient/ImagingStudy.rs", changed={"launch": handle}).code, "no code")
    again = system.authorize("launch patient/ImagingStudy.rs", changed={"launch": handle})
    check("code" not in again.landing.parameters, "it opened a second launch")


@case("ehr-launch-own-app", "A launch handle is for the app that it was made for", source="SMART App Launch 2.2, EHR launch")
def _(system: System) -> None:
    system.able("launch-ehr")
    if not system.target.launcher.bound:
        raise Skipped("the launcher does not say for which client a handle is made")
    other = system.authorize("launch patient/ImagingStudy.rs", client="secret", changed={"launch": system.launch()})
    check("code" not in other.landing.parameters, "another app was launched by it")
