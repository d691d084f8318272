"""Staff say who is whose proxy; the trail says who said so."""

from server.access.people import accounts, proxies
from server.access.people.accounts import Account
from server.access.people.events import Events
from server.access.people.proxies import Proxy
from server.errors import Forbidden, NotFound
from server.store.db import Database, micros

_OF_CHILDREN = frozenset({"parent", "guardian"})
_MAY = frozenset({"staff", "administrator"})


class Proxying:
    """`by` is who does it: an account of staff, or None for the command line of this machine."""

    def __init__(self, database: Database, events: Events, until_age: int) -> None:
        """`until_age`: the patient's age with which parents and guardians are none any more, where nothing else is said; 0 for none."""
        self._database, self._events, self._until_age = database, events, until_age

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

    def _require(self, by: Account | None) -> None:
        if by is not None and by.kind not in _MAY:
            raise Forbidden("only staff may say who is whose proxy")
