"""Location's `near` against distances by the haversine formula, on both engines."""

import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from peers.fhir_search import BASE, LATER, everybody
from peers.shows import shows
from sqlalchemy import Connection

from profiles.fhir.geography import EARTH
from profiles.fhir.search_request import read
from server.records import fhir_search, resources
from server.records.fhir_search import conditions
from server.store.db import Database

ON_BOTH_ENGINES = True
CITIES = {
    "berlin": ("52.5200", "13.4050"), "potsdam": ("52.3906", "13.0645"), "munich": ("48.1374", "11.5755"),
    "suva": ("-18.1416", "178.4419"), "apia": ("-13.8333", "-171.7667"), "alert": ("82.5", "-62.35"), "pole": ("90", "0"),
}  # fmt: skip


def put(connection: Connection, type_: str, id_: str, **content: Any) -> None:
    resources.put(connection, {"resourceType": type_, "id": id_, **content}, now=1_790_000_000_000_000, base=BASE)


def place(latitude: str, longitude: str) -> dict[str, Decimal]:
    return {"latitude": Decimal(latitude), "longitude": Decimal(longitude)}


def found(connection: Connection, type_: str, *given: tuple[str, str]) -> set[str]:
    search = read((type_,), given, base=BASE, now=LATER)
    page = fhir_search.page(connection, search, decision_where=everybody, confined=False, count=100, began=LATER)
    total = fhir_search.total(connection, search, decision_where=everybody, confined=False, began=LATER)
    assert total == len(page.matches)
    return {each.id for each in page.matches}


@shows("parameter", "special")
@pytest.mark.parametrize("few", [0, 500])
def test_near_is_within_a_distance(database: Database, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conditions, "FEW", few)  # both ways: candidates looked up, and each row tested
    with database.write() as connection:
        for name, at in CITIES.items():
            put(connection, "Location", name, position=place(*at), name=name, status="active")
        put(connection, "Location", "nowhere", status="active")
        put(connection, "Location", "beyond", position=place("123", "13"))
        put(connection, "PractitionerRole", "role", location=[{"reference": "Location/potsdam"}])
        for text, expected in (
            ("52.52|13.405", {"berlin"}),
            ("52.52|13.405|0", {"berlin"}),
            ("52.5200|13.4050|0|mi", {"berlin"}),
            ("52.52|13.405||m", {"berlin"}),
            ("52.53|13.405|1100|m", set()),
            ("52.53|13.405|1113|m", {"berlin"}),
            ("52.52|13.405|27|km", {"berlin"}),
            ("52.52|13.405|28", {"berlin", "potsdam"}),
            ("52.52|13.405|16|mi", {"berlin"}),
            ("52.52|13.405|17|[mi_us]", {"berlin", "potsdam"}),
            ("52.52|13.405|510|km", {"berlin", "potsdam", "munich"}),
            ("-16|-177|800|km", {"suva", "apia"}),  # over the date line
            ("90|123|1|m", {"pole"}),
            ("90|-45|900", {"pole", "alert"}),
            ("0|0|20100|km", set(CITIES)),
            ("52.52|13.405|16|[mi_i]", {"berlin"}),
            ("52.52|13.405,48.1374|11.5755", {"berlin", "munich"}),
        ):
            assert found(connection, "Location", ("near", text)) == expected, text
        assert found(connection, "Location", ("near", "52.52|13.405|28"), ("name", "pots")) == {"potsdam"}
        assert found(connection, "Location", ("near", "52.52|13.405|28"), ("near", "52.39|13.06")) == {"potsdam"}
        assert found(connection, "PractitionerRole", ("location.near", "52.52|13.405|28")) == {"role"}
        assert found(connection, "PractitionerRole", ("location.near", "52.52|13.405|8")) == set()
        assert found(connection, "Location", ("_filter", 'near eq "52.52|13.405|28" and name sw pots')) == {"potsdam"}
        assert found(connection, "Location", ("near:missing", "true")) == {"nowhere"}
        assert found(connection, "Location", ("near:missing", "false"), ("_id", "nowhere,pole,beyond")) == {"pole", "beyond"}


DEGREES = st.tuples(st.decimals(-90, 90, places=4), st.decimals(-180, 180, places=4))


def test_near_is_what_haversine_says(database: Database) -> None:
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None, max_examples=40)
    @given(places=st.lists(DEGREES, min_size=1, max_size=6), at=DEGREES, share=st.floats(0, 1))
    @example(places=[(Decimal(10), Decimal("179.99"))], at=(Decimal(10), Decimal("-179.99")), share=0.001)
    def finds(places: list[tuple[Decimal, Decimal]], at: tuple[Decimal, Decimal], share: float) -> None:
        meters = share * 20_015_000
        distances = [apart(at, each) for each in places]
        if any(abs(each - meters) < 1 for each in distances):
            return
        with database.write() as connection:
            for number, (latitude, longitude) in enumerate(places):
                put(connection, "Location", f"l{number}", position={"latitude": latitude, "longitude": longitude})
            for number in range(len(places), 6):
                put(connection, "Location", f"l{number}", name="elsewhere")
            near = found(connection, "Location", ("near", f"{at[0]:f}|{at[1]:f}|{meters:.3f}|m"))
        assert near == {f"l{number}" for number, each in enumerate(distances) if each < meters}

    finds()


def apart(one: tuple[Decimal, Decimal], other: tuple[Decimal, Decimal]) -> float:
    (north, east), (other_north, other_east) = ([math.radians(float(each)) for each in point] for point in (one, other))
    half = math.sin((other_north - north) / 2) ** 2
    half += math.cos(north) * math.cos(other_north) * math.sin((other_east - east) / 2) ** 2
    return 2 * EARTH * math.asin(math.sqrt(min(1.0, half)))
