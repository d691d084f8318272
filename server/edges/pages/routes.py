"""The addresses of the pages."""

from typing import Final

from fastapi import FastAPI
from starlette.routing import Route

from server.edges.pages import account, assets, consent, sign_in
from server.edges.pages.browser import open_page, page

_BOTH: Final = ["GET", "POST"]
_GET: Final = ["GET"]
_POST: Final = ["POST"]


def install(app: FastAPI) -> None:
    """Adds the pages, and what they are made of."""
    app.router.routes.extend(
        [
            Route(assets.PATH, assets.asset),
            Route("/sign-in", open_page(sign_in.sign_in), methods=_GET),
            Route("/sign-in", open_page(sign_in.with_password), methods=_POST),
            Route("/sign-in/code", open_page(sign_in.send_code), methods=_POST),
            Route("/sign-in/with-code", open_page(sign_in.with_code), methods=_POST),
            Route("/sign-in/passkey/options", open_page(sign_in.passkey_options), methods=_POST),
            Route("/sign-in/passkey", open_page(sign_in.with_passkey), methods=_POST),
            Route("/recover", open_page(sign_in.recover), methods=_BOTH),
            Route("/recover/password", open_page(sign_in.recovered), methods=_POST),
            Route("/signed-out", open_page(sign_in.signed_out), methods=_GET),
            Route("/sign-out", page(sign_in.sign_out), methods=_BOTH),
            Route("/authorize/{request_id}", page(consent.authorize), methods=_BOTH),
            Route("/account", page(account.account), methods=_GET),
            Route("/account/password", page(account.password, of="/account"), methods=_POST),
            Route("/account/passkeys/options", page(account.passkey_options, of="/account"), methods=_POST),
            Route("/account/passkeys", page(account.add_passkey, of="/account"), methods=_POST),
            Route("/account/passkeys/remove", page(account.remove_passkey, of="/account"), methods=_POST),
            Route("/account/sessions/close", page(account.close_session, of="/account"), methods=_POST),
            Route("/account/apps", page(account.apps), methods=_GET),
            Route("/account/apps/disconnect", page(account.disconnect, of="/account/apps"), methods=_POST),
        ]
    )
