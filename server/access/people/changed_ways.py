"""An e-mail at every change of how somebody signs in: who has not done it learns of it, and can act (NIST SP 800-63B section 4.6).

It goes out when the transaction that changes it is about to be committed, to the address that the account has then.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

from sqlalchemy import Connection, event

from server.access.people import accounts
from server.access.people.sign_in import SignIn

_SAID: Final = {
    "passkey added": "A passkey was added. Who has it can sign in to your account.",
    "passkey removed": "A passkey was removed. It signs nobody in any more.",
    "passkeys removed by an administrator": "All passkeys were removed by the people who run this service.",
    "password changed": "The password was changed.",
    "password recovered by e-mail": "A new password was chosen, with a code that we had sent to this e-mail address.",
    "password reset by an administrator": "The password was changed by the people who run this service.",
    "sign-in through a hospital was linked": "A hospital was connected. Who signs in there can sign in to your account.",
    "sign-in through a hospital was unlinked": "A hospital was disconnected. Nobody signs in to your account through it any more.",
}
"""What the trail says, and what the person is told."""


class ChangedWays:
    """Tells by the e-mails of `sign_in`; `url` is this server's."""

    def __init__(self, sign_in: SignIn, url: str) -> None:
        self._sign_in, self._url = sign_in, url

    def tell(self, connection: Connection, account: str, what: str) -> None:
        """Tells the person of the account with this id that `what` was changed, if that is a way in, and if the transaction commits."""
        said = _SAID.get(what)
        known = accounts.find(connection, account) if said else None
        if said is None or known is None or not accounts.is_reachable(known.email):
            return
        send: Callable[[], None] = partial(self._sign_in.mail, known.email, *_letter(said, self._url))
        event.listen(connection, "commit", lambda _: self._sign_in.later(send), once=True)


def _letter(said: str, url: str) -> tuple[str, str]:
    """Subject and text. The subject is shown on locked screens."""
    return "How you sign in was changed", (
        f"How you sign in to your account at {url} was changed:\n\n    {said}\n\n"
        "If it was you, there is nothing to do. If it was not you, ask for help at once: somebody else may be signed in to your account.\n"
    )
