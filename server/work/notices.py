"""Who is told by e-mail that somebody broke the glass (IHE PCF section 53.4): the patient, proxies in force, and the site's privacy officer.

Each is a job of its own, asked for before anything that was closed is shown: it outlives a restart and a mail server that is away. An e-mail names neither the
patient nor who it was: that stands where one has to sign in.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from sqlalchemy import Connection

from server.access import rights
from server.access.people import accounts, proxies
from server.languages import speaking
from server.languages import translated as _
from server.records import belonging
from server.settings import Settings
from server.store import jobs
from server.store.db import Database, micros
from server.telemetry import log

NOTIFY: Final = "notify"
"""Kind of the job whose key names the request and, after a space, an account; without one it is for the privacy officer."""
_MOST_ATTEMPTS: Final = 100
"""Four days, with the delays that jobs have."""
Mail = Callable[[str, str, str], None]
"""Sends to an address, with a subject, a text."""


def to_officer(connection: Connection, request: str) -> None:
    """The privacy officer will be told that an emergency was declared, if the transaction commits. `request` is by what the trail names it."""
    jobs.enqueue(connection, NOTIFY, f"{request} ", due=micros())


def to_concerned(connection: Connection, request: str, patient: str) -> None:
    """Those who are to know that the record of `patient` (a resource id) was opened will be told, if the transaction commits."""
    for account in sorted({*_concerned(connection, patient)}):
        jobs.enqueue(connection, NOTIFY, f"{request} {account}", due=micros())


class Notifier:
    """Does the jobs of kind `NOTIFY`."""

    def __init__(self, settings: Settings, database: Database, mail: Mail) -> None:
        self._settings, self._database, self._mail = settings, database, mail

    def run(self, due: Sequence[jobs.Job]) -> None:
        """Sends what is due. Raises `Unavailable` where an e-mail is not taken: the job is put back, for some days."""
        for job in due:
            request, _, account = job.key.partition(" ")
            if job.attempts > _MOST_ATTEMPTS:
                log().error("not told of an emergency access", request=request)
            else:
                self._tell(account, request)
            with self._database.write() as connection:
                jobs.done(connection, job)

    def _tell(self, account: str, request: str) -> None:
        if not account:
            if self._settings.privacy_officer:
                self._mail(self._settings.privacy_officer, *self._to_officer(request))
            return
        with self._database.read() as connection:
            found = accounts.find(connection, account)
        if found is not None and not found.disabled:
            with speaking(found.language):
                self._mail(found.email, *self._to_person())

    def _to_person(self) -> tuple[str, str]:
        """Subject and text. The subject holds nothing: it is shown on locked screens, and logged by mail servers."""
        where = self._settings.organization or self._settings.base_url
        return _("A message about your records"), _(
            "In an emergency, somebody who treats patients at {where} has opened records that a consent keeps closed: yours, or those of somebody for whom you "
            "act. They had to give a reason, and what they look at is noted. Who it was, and why, stands at\n\n    {url}/account/activity\n\n"
            "If that does not seem right to you, speak to the people who run this service."
        ).format(where=where, url=self._settings.base_url)

    def _to_officer(self, request: str) -> tuple[str, str]:
        return "Emergency access", (
            f"A practitioner has declared an emergency at {self._settings.base_url}, with a reason. Please review it.\n"
            "In the audit trail, what was shown for it, and the event 110127 (Emergency Override Started) if an app was then let, name the request\n\n"
            f"    {request}\n\n"
            "and all that was looked at has the purpose of use BTG.\n"
        )


def _concerned(connection: Connection, patient: str) -> Iterator[str]:
    """The accounts of the patient, and of who may see all of the records as a proxy just now."""
    now = micros()
    for each in belonging.same(connection, patient):
        yield from accounts.of_patient(connection, each)
        born = proxies.birth_date(connection, each)
        for proxy in proxies.of_patient(connection, each):
            account = accounts.find(connection, proxy.account) if proxy.holds(now, born) else None
            if account is not None and each in rights.whole_records(connection, account, now):
                yield account.id
