"""The addresses of the pages."""

from collections.abc import Awaitable, Callable
from typing import Final

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from server.edges.pages import (
    account,
    activity,
    addressed,
    assets,
    bring_in,
    carers,
    choices,
    claim,
    consent,
    front,
    health,
    health_links,
    hospital,
    images,
    invoke,
    launch,
    leaving,
    logo,
    ohif,
    shared,
    sharing,
    sign_in,
    staff,
    staff_audit,
    staff_people,
    taking_home,
    viewer,
)
from server.edges.pages.browser import held_page, open_page, page, piece, problem_page

_BOTH: Final = ["GET", "POST"]
_GET: Final = ["GET"]
_POST: Final = ["POST"]
_FORMS: Final = (
    "name", "language", "email", "email/confirm", "password", "passkeys", "passkeys/remove", "sessions/close", "hospital/remove", "hospital/{provider}",
)  # fmt: skip
"""What forms of the account are sent to."""


def _back_to(path: str) -> Callable[[Request], Awaitable[Response]]:
    """Where an address that takes a form is opened like a page: by a reload, or from a list of what was open."""
    return open_page(lambda visit: visit.redirect(path))


def install(app: FastAPI) -> None:
    """Adds the pages, and what they are made of."""
    app.state.problem_page = problem_page
    app.router.routes.extend(
        [
            Route(assets.PATH, assets.asset),
            Route("/", open_page(front.front), methods=_GET),
            Route("/developers", open_page(front.developers), methods=_GET),
            Route("/language/{language}", open_page(front.language), methods=_GET),
            Route("/sign-in", open_page(sign_in.sign_in), methods=_GET),
            Route("/sign-in", open_page(sign_in.with_password, sign_in.require_place), methods=_POST),
            Route("/sign-in/code", open_page(sign_in.send_code), methods=_POST),
            Route("/sign-in/with-code", open_page(sign_in.with_code), methods=_POST),
            Route("/sign-in/passkey/options", open_page(sign_in.passkey_options), methods=_POST),
            Route("/sign-in/passkey", open_page(sign_in.with_passkey), methods=_POST),
            Route("/sign-in/hospital/{provider}", open_page(hospital.begin), methods=_GET),
            Route("/sign-in/hospital/{provider}/back", open_page(hospital.back), methods=_GET),
            Route("/account/hospital/remove", page(hospital.disconnect, of="/account"), methods=_POST),
            Route("/account/hospital/{provider}", page(hospital.connect, of="/account"), methods=_POST),
            Route("/recover", open_page(sign_in.recover), methods=_BOTH),
            Route("/recover/password", open_page(sign_in.recovered), methods=_POST),
            Route("/signed-out", open_page(sign_in.signed_out), methods=_GET),
            Route("/sign-out", page(sign_in.sign_out), methods=_BOTH),
            Route("/authorize/{request_id}", page(consent.authorize), methods=_BOTH),
            Route(logo.PATH, page(logo.logo, of="/account"), methods=_GET),
            Route("/account", page(account.account), methods=_GET),
            Route("/account/name", page(account.rename, of="/account"), methods=_POST),
            Route("/account/language", page(account.choose_language, of="/account"), methods=_POST),
            Route("/account/email", page(account.new_email, of="/account"), methods=_POST),
            Route("/account/email/confirm", page(account.confirm_email, of="/account"), methods=_POST),
            Route("/account/password", page(account.password, of="/account"), methods=_POST),
            Route("/account/passkeys/options", page(account.passkey_options, of="/account"), methods=_POST),
            Route("/account/passkeys", page(account.add_passkey, of="/account"), methods=_POST),
            Route("/account/passkeys/remove", page(account.remove_passkey, of="/account"), methods=_POST),
            Route("/account/sessions/close", page(account.close_session, of="/account"), methods=_POST),
            Route("/account/people", page(carers.overview), methods=_GET),
            Route("/account/people", page(carers.name, of="/account/people"), methods=_POST),
            Route("/account/people/end", page(carers.end, of="/account/people"), methods=_POST),
            Route("/account/choices", page(choices.overview), methods=_GET),
            Route("/account/choices/close", page(choices.close, of="/account/choices"), methods=_POST),
            Route("/account/choices/open", page(choices.open_, of="/account/choices"), methods=_POST),
            Route("/account/leave", page(leaving.leave), methods=_BOTH),
            Route("/account/activity", page(activity.activity), methods=_GET),
            Route("/claim", open_page(claim.claim), methods=_BOTH),
            Route("/claim/account", open_page(claim.make_account), methods=_GET),
            Route("/claim/account", open_page(claim.account), methods=_POST),
            Route("/claim/keep", page(claim.keep), methods=_BOTH),
            Route("/claim/forget", open_page(claim.forget), methods=_POST),
            Route("/images", open_page(images.timeline), methods=_GET),
            Route("/images/{study}", open_page(images.study), methods=_GET),
            Route("/images/{study}/view", open_page(viewer.view), methods=_GET),
            Route("/share", page(sharing.overview), methods=_GET),
            Route("/share/new", page(sharing.new), methods=_GET),
            Route("/share/new", page(sharing.make, of="/share/new"), methods=_POST),
            Route("/share/{share}/link", page(sharing.show, of="/share"), methods=_POST),
            Route("/share/{share}/stop", page(sharing.stop, of="/share"), methods=_POST),
            Route("/share/{share}/preview", page(sharing.preview, of="/share"), methods=_GET),
            Route("/share/{share}/preview/view", page(sharing.preview_view, of="/share"), methods=_GET),
            Route("/shared", page(addressed.overview), methods=_GET),
            Route("/shared/{share}/open", page(addressed.open_, of="/shared"), methods=_POST),
            Route("/share/{share}", open_page(shared.front), methods=_GET),
            Route("/share/{share}/open", open_page(shared.open_), methods=_POST),
            Route("/share/{share}/view", open_page(shared.view), methods=_GET),
            Route("/share/{share}/images", open_page(shared.overview), methods=_GET),
            Route("/share/{share}/images/{study}/download", open_page(shared.download), methods=_GET),
            Route("/share/{share}/images/{study}/picture", open_page(shared.picture), methods=_GET),
            Route("/share/{share}/images/{study}/reports/{type}/{report}/{number:int}", open_page(shared.report), methods=_GET),
            Route("/share/{share}/note", open_page(shared.note), methods=_POST),
            Route(invoke.PATH, open_page(invoke.invoke), methods=_GET),
            Route("/launch", open_page(launch.begin), methods=_GET),
            Route("/launch/back", open_page(launch.back), methods=_GET),
            Route("/launch/study", held_page(launch.choose), methods=_POST),
            Route("/shl/{path}", health_links.manifest, methods=_POST),
            Route("/shl/{path}", health_links.direct, methods=_GET),
            Route("/shl/{path}/{file}", health_links.file, methods=_GET),
            Route("/bring-in", page(bring_in.overview), methods=_GET),
            Route("/bring-in/begin", piece(bring_in.begin, lambda _: bring_in.MOST_LIST), methods=_POST),
            Route("/bring-in/{id}", page(bring_in.status, of="/bring-in"), methods=_GET),
            Route("/bring-in/{id}/state", page(bring_in.state, of="/bring-in"), methods=_GET),
            Route("/bring-in/{id}/bytes", piece(bring_in.receive, lambda _: bring_in.MOST_BYTES), methods=_POST),
            Route("/bring-in/{id}/cancel", page(bring_in.cancel, of="/bring-in"), methods=_POST),
            Route("/staff/health", page(health.overview), methods=_GET),
            Route("/staff/bring-in", page(bring_in.waiting), methods=_GET),
            Route("/staff/bring-in/{id}", page(bring_in.decide, of="/staff/bring-in"), methods=_POST),
            Route("/staff/people", page(staff_people.overview), methods=_GET),
            Route("/staff/people", page(staff_people.add, of="/staff/people"), methods=_POST),
            Route("/staff/people/{account}", page(staff_people.one), methods=_GET),
            Route("/staff/people/{account}/role", page(staff_people.role, of="/staff/people"), methods=_POST),
            Route("/staff/people/{account}/lock", page(staff_people.lock, of="/staff/people"), methods=_POST),
            Route("/staff/people/{account}/unlock", page(staff_people.unlock, of="/staff/people"), methods=_POST),
            Route("/staff/people/{account}/reset", page(staff_people.reset, of="/staff/people"), methods=_POST),
            Route("/staff/audit", page(staff_audit.overview), methods=_GET),
            Route("/staff/audit/table", page(staff_audit.table, of="/staff/audit"), methods=_GET),
            Route("/staff", page(staff.worklist), methods=_GET),
            Route("/staff/patients/{patient}", page(staff.patient, of="/staff"), methods=_GET),
            Route("/staff/patients/{patient}/codes", page(staff.issue, of="/staff"), methods=_POST),
            Route("/staff/codes/{code}/end", page(staff.end, of="/staff"), methods=_POST),
            Route("/ohif/viewer", open_page(ohif.view), methods=_GET),
            Route("/ohif/{name}", ohif.file, methods=_GET),
            Route("/viewer/token", viewer.token, methods=_POST),
            Route("/images/{study}/download", open_page(taking_home.download), methods=_GET),
            Route("/images/{study}/picture", open_page(images.picture), methods=_GET),
            Route("/images/{study}/reports/{type}/{report}/{number:int}", open_page(images.report), methods=_GET),
            Route("/account/apps", page(account.apps), methods=_GET),
            Route("/account/apps/disconnect", page(account.disconnect, of="/account/apps"), methods=_POST),
            *(
                Route(path, _back_to("/sign-in"), methods=_GET)
                for path in ("/sign-in/code", "/sign-in/with-code", "/sign-in/passkey")
            ),
            Route("/recover/password", _back_to("/recover"), methods=_GET),
            *(Route(f"/account/{path}", _back_to("/account"), methods=_GET) for path in _FORMS),
            Route("/account/apps/disconnect", _back_to("/account/apps"), methods=_GET),
            Route("/claim/forget", _back_to("/claim"), methods=_GET),
        ]
    )
