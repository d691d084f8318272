"""E-mails about shares and access codes, each a job: it outlives a restart, and a mail server that is away. None names a patient, or says what was found."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from sqlalchemy import Connection

from server.access import codes, sealed, shares
from server.access.codes import AccessCode
from server.access.people import accounts
from server.access.shares import Opening, Share
from server.languages import marked, speaking
from server.languages import translated as _
from server.records.installation import Installation
from server.settings import Settings
from server.store import jobs
from server.store.db import Database, micros
from server.telemetry import log
from server.work.portal.claiming import ALERT
from server.work.portal.sharing import OPENED, SENT

CODE_SENT: Final = "code-sent"
"""Kind of the job that sends an access code; its key is the code's id."""
_PURPOSE: Final = "access code"
_TRIED_AGAIN: Final = marked(
    "Somebody has typed an access code that was used before, with the right date of birth. They were shown nothing. "
    "If that was not you, somebody else may have your letter, or a message of yours. Tell the hospital that gave you the code."
)
Mail = Callable[[str, str, str], None]


def enclose(connection: Connection, key: bytes, code: AccessCode, text: str, to: str, language: str) -> None:
    """The code goes to this e-mail address, in this language, if the transaction commits; until then it is kept sealed."""
    codes.later(connection, code.id, sealed.seal(key, _PURPOSE, [to, text, language], (code.id,)))
    jobs.enqueue(connection, CODE_SENT, code.id, due=micros())


def kinds(
    settings: Settings, database: Database, site: Installation, mail: Mail
) -> dict[str, Callable[[Sequence[jobs.Job]], object]]:
    """Each kind of job with what does it."""
    of_codes, of_shares = CodeLetters(settings, database, site, mail), ShareLetters(settings, database, site, mail)
    return {CODE_SENT: of_codes.sent, ALERT: of_codes.alerted, OPENED: of_shares.opened, SENT: of_shares.sent}


class CodeLetters:
    """Does the jobs of kind `CODE_SENT`, and those that tell of a code that was tried again."""

    def __init__(self, settings: Settings, database: Database, site: Installation, mail: Mail) -> None:
        self._settings, self._database, self._key, self._mail = settings, database, site.cursor_key, mail

    def sent(self, due: Sequence[jobs.Job]) -> None:
        """Sends codes. Raises `Unavailable` where an e-mail is not taken: the job comes back."""
        for job in due:
            with self._database.read() as connection:
                code = codes.find(connection, job.key)
            told: Any = sealed.unseal(self._key, _PURPOSE, code.letter, (code.id,)) if code is not None and code.letter else None
            if code is not None and told and code.state(micros()) == "open":
                with speaking(told[2] if len(told) > 2 else ""):
                    self._mail(told[0], _("Your medical images"), self._letter(told[1]))
            with self._database.write() as connection:
                codes.later(connection, job.key, "")
                jobs.done(connection, job)

    def alerted(self, due: Sequence[jobs.Job]) -> None:
        """Tells the holder of the account, and the privacy officer, that somebody else had the code and the date of birth."""
        for job in due:
            with self._database.read() as connection:
                code = codes.find(connection, job.key.partition(" ")[0])
                holder = accounts.find(connection, code.account) if code is not None and code.account else None
            told = [(holder.email, holder.language)] if holder is not None else []
            for to, language in [*told, *([(self._settings.privacy_officer, "")] if self._settings.privacy_officer else [])]:
                with speaking(language):
                    self._mail(to, _("An access code was tried again"), _(_TRIED_AGAIN))
            with self._database.write() as connection:
                jobs.done(connection, job)

    def _letter(self, code: str) -> str:
        return _(
            "Your images are ready. Open\n\n    {link}\n\nand type this code with your date of birth:\n\n    {code}\n\n"
            "The code works once, in one browser. You need no account to look at the images."
        ).format(link=f"{self._settings.base_url}/claim", code=code)


class ShareLetters:
    """Does the jobs of kind `OPENED` and `SENT`. No e-mail names a patient in its subject, or what was found."""

    def __init__(self, settings: Settings, database: Database, site: Installation, mail: Mail) -> None:
        self._settings, self._database, self._key, self._mail = settings, database, site.cursor_key, mail

    def opened(self, due: Sequence[jobs.Job]) -> None:
        """Tells whoever shares. Raises `Unavailable` where an e-mail is not taken: the job comes back."""
        for job in due:
            with self._database.read() as connection:
                opening = shares.find_opening(connection, job.key)
                share = shares.find(connection, opening.share) if opening is not None else None
                account = accounts.find(connection, share.account) if share is not None else None
            if opening is not None and share is not None and account is not None and not account.disabled:
                with speaking(account.language):
                    self._mail(account.email, _("A message about what you share"), self._told(share, opening))
            self._done(job)

    def sent(self, due: Sequence[jobs.Job]) -> None:
        """Sends the link to whom it is for."""
        for job in due:
            with self._database.read() as connection:
                share = shares.find(connection, job.key)
                account = accounts.find(connection, share.account) if share is not None else None
            if share is not None and share.email and share.state(micros()) == "open":
                with speaking(share.language):
                    letter = self._letter(share, account.name if account is not None else "")
                    self._mail(share.email, _("Medical images are shared with you"), letter)
            elif share is None:
                log().warning("share not sent", job=job.kind)
            self._done(job)

    def _told(self, share: Share, opening: Opening) -> str:
        return _(
            "{who} has opened images that you share, with {browser}.\n\nWho has opened what, and how to stop it, stands at\n\n    {url}/share"
        ).format(
            who=opening.name or share.name or _("Somebody who did not say a name"),
            browser=opening.browser or _("a browser"),
            url=self._settings.base_url,
        )

    def _letter(self, share: Share, who: str) -> str:
        link = f"{self._settings.base_url}/share/{share.id}#{shares.secret_of(self._key, share)}"
        said = [
            _("{who} shares medical images with you. Open them in any browser; you need no account.\n\n    {link}").format(
                who=who or _("A patient"), link=link
            ),
            _("You also need a passcode, which comes to you another way.") if share.passcode else "",
            share.message,
            _("The link is for you alone. Please do not pass it on."),
        ]
        return "\n\n".join(each for each in said if each)

    def _done(self, job: jobs.Job) -> None:
        with self._database.write() as connection:
            jobs.done(connection, job)
