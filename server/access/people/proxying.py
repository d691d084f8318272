"""Staff say who is whose proxy, and patients who their carers are; the trail says who said so."""

from typing import Final

from server.access.people import accounts, passkeys, proxies
from server.access.people.accounts import Account
from server.access.people.events import Events
from server.access.people.proxies import Proxy
from server.access.people.sessions import Session
from server.access.people.sign_in import SignIn
from server.access.people.throttles import Throttles, rate
from server.errors import Forbidden, ImageShareError, NotFound, Refused, TooManyAttempts
from server.languages import marked, speaking
from server.languages import translated as _
from server.store.db import Database, micros
from server.telemetry import failure, log

OWN_TO_END: Final = frozenset({"carer", "other"})
"""Proxies whom a patient ends herself. Parents and guardians are so by law: staff say so, and end it."""
DAYS: Final = (30, 180, 365, 0)
"""How long a carer whom a patient names may be one; 0 is until somebody ends it."""
_NAMING: Final = rate(10, 86_400, "carer")
_DAY: Final = 86_400_000_000
_OF_CHILDREN = frozenset({"parent", "guardian"})
_MAY = frozenset({"staff", "administrator"})


class Proxying:
    """`by` is who does it: an account of staff, or None for the command line of this machine."""

    def __init__(self, database: Database, events: Events, until_age: int, sign_in: SignIn, throttles: Throttles) -> None:
        """`until_age`: the patient's age with which parents and guardians are none any more, where nothing else is said; 0 for none."""
        self._database, self._events, self._until_age = database, events, until_age
        self._sign_in, self._throttles = sign_in, throttles

    def begin(
        self,
        account: str,
        patient: str,
        relation: str,
        *,
        by: Account | None,
        begins: int | None = None,
        ends: int = 0,
        until_age: int | None = None,
        address: str = "",
    ) -> Proxy:
        """See `proxies.begin`; from now on where `begins` is None. Raises `Forbidden` for who is not staff, `NotFound`.

        `until_age` None is what is usual: a parent or guardian without a last day is one until the age of the settings.
        """
        self._require(by)
        if until_age is None:
            until_age = self._until_age if relation in _OF_CHILDREN and not ends else 0
        with self._database.write() as connection:
            if accounts.find(connection, account) is None:
                raise NotFound("there is no such account")
            before = {each.id for each in proxies.of_account(connection, account) if not each.ended}
            made = proxies.begin(
                connection, account=account, patient=patient, relation=relation,
                begins=micros() if begins is None else begins, ends=ends, until_age=until_age,
            )  # fmt: skip
            for each in proxies.of_account(connection, account):
                if each.ended and each.id in before:  # the new one has taken its place
                    self._events.changed(connection, account, by, f"proxy ended: {each.relation}", address, patient)
            if made.id not in before:
                self._events.changed(connection, account, by, f"proxy begun: {relation}", address, patient)
            return made

    def end(self, id: str, *, by: Account | None, address: str = "") -> Proxy:
        """See `proxies.end`. Who is the proxy may end it too. Raises `Forbidden`, `NotFound`."""
        with self._database.write() as connection:
            ended = proxies.end(connection, id)
            if by is None or by.id != ended.account:
                self._require(by)
            self._events.changed(connection, ended.account, by, f"proxy ended: {ended.relation}", address, ended.patient)
            return ended

    def name_carer(self, by: Session, email: str, name: str, days: int, address: str) -> None:
        """Somebody with this e-mail address may see the records of who is signed in; who has no account yet is invited to one, called `name`.

        Nothing tells whether there was one. Raises `StepUpNeeded`, `Refused`, `TooManyAttempts`.
        """
        if not self._throttles.take(_NAMING, by.account.id):
            raise TooManyAttempts(self._throttles.wait(_NAMING, by.account.id))
        now = micros()
        with self._database.write() as connection:
            passkeys.require_strong(connection, by, now)
            own = accounts.own_patients(connection, by.account.id)
            if not own:
                raise Refused("no records are connected to your account, so there is nothing that a carer could see")
            known = accounts.by_email(connection, email)
            carer = known or accounts.add(connection, kind="proxy", email=email, name=name)
            for patient in sorted(own):
                proxies.begin(
                    connection,
                    account=carer.id,
                    patient=patient,
                    relation="carer",
                    begins=now,
                    ends=now + days * _DAY if days else 0,
                )
                self._events.changed(connection, carer.id, by.account, "proxy begun: carer", address, patient)
        try:
            if known is None:
                self._sign_in.invite(carer)
            elif accounts.is_reachable(carer.email):
                with speaking(carer.language):
                    self._sign_in.mail(carer.email, _("A message about your account"), _(_LETTER))
        except ImageShareError as error:
            log().error("mail not sent", **failure(error))

    def end_own(self, by: Session, id: str, address: str) -> None:
        """A patient's own carer, or what somebody does for another. Raises `NotFound`, in the same words whatever is wrong."""
        with self._database.write() as connection:
            own = accounts.own_patients(connection, by.account.id)
            held = {each.id: each for each in proxies.of_account(connection, by.account.id)}
            held |= {
                each.id: each
                for patient in own
                for each in proxies.of_patient(connection, patient)
                if each.relation in OWN_TO_END
            }
            if id not in held:
                raise NotFound("there is no such proxy, or it has been ended already")
            ended = proxies.end(connection, id)
            self._events.changed(connection, ended.account, by.account, f"proxy ended: {ended.relation}", address, ended.patient)

    def _require(self, by: Account | None) -> None:
        if by is not None and by.kind not in _MAY:
            raise Forbidden("only staff may say who is whose proxy")


_LETTER: Final = marked(
    "Somebody has named you as a carer: you may see their medical images and reports with your account, until they end it. Sign in to see them.\n\n"
    "If you do not know why, you need do nothing, or can end it on the page “Carers” of your account."
)
