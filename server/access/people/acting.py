"""Who may act for somebody: the proxies of a person's records, in force or to come, as the person is told of them."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection

from server.access.people import accounts, proxies
from server.access.people.proxies import FOREVER
from server.records import belonging


@dataclass(frozen=True, slots=True)
class Acting:
    """`id` is the proxy's, `name` that of its account, `email` its address; `relation` of `proxies.RELATIONS`. Moments are microseconds; `ends` is 0 where no end is known."""

    id: str
    name: str
    email: str
    relation: str
    begins: int
    ends: int


def who_act_for(connection: Connection, patients: Collection[str], now: int) -> tuple[Acting, ...]:
    """Those who may see the records of these patients (resource ids), or of whom they were merged with, at `now` or from later on."""
    found = []
    for patient in sorted({same for each in patients for same in belonging.same(connection, each)}):
        born = proxies.birth_date(connection, patient)
        for each in proxies.of_patient(connection, patient):
            account, over = accounts.find(connection, each.account), each.over(born)
            if account is not None and not account.disabled and now < over:
                found.append(
                    Acting(each.id, account.name, account.email, each.relation, each.begins, 0 if over == FOREVER else over)
                )
    return tuple(dict.fromkeys(found))
