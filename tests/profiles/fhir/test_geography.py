"""Distances between places, against the haversine formula as books have it."""

import math
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from profiles.fhir.geography import EARTH, chord, point

PLACES = st.tuples(st.floats(-90, 90), st.floats(-180, 180))


def haversine(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Meters along the surface."""
    (north, east), (other_north, other_east) = (tuple(map(math.radians, each)) for each in (one, other))
    half = (
        math.sin((other_north - north) / 2) ** 2
        + math.cos(north) * math.cos(other_north) * math.sin((other_east - east) / 2) ** 2
    )
    return 2 * EARTH * math.asin(math.sqrt(min(1.0, half)))


@given(PLACES, PLACES)
@example((52.5, 180.0), (52.5, -180.0))
@example((90.0, 0.0), (90.0, 123.0))
@example((90.0, 0.0), (-90.0, 0.0))
def test_the_straight_way_is_that_of_the_great_circle(one: tuple[float, float], other: tuple[float, float]) -> None:
    straight = math.dist(point(*one), point(*other))
    assert straight == pytest.approx(min(2.0, chord(haversine(one, other))), abs=1e-7)


def test_known_distances() -> None:
    """Berlin to Munich, as atlases have it."""
    berlin, munich = (52.52, 13.405), (48.1374, 11.5755)
    assert haversine(berlin, munich) == pytest.approx(504_000, abs=1_000)
    assert chord(503_000) < math.dist(point(*berlin), point(*munich)) < chord(506_000)


@given(st.floats(0, 30_000_000), st.floats(0, 30_000_000))
def test_farther_is_farther(one: float, other: float) -> None:
    assert (chord(one) <= chord(other)) or one > other


def test_the_same_place_is_the_same_point_however_it_is_written() -> None:
    assert point(Decimal("42.2565"), Decimal("-83.6948100")) == point(Decimal("42.25650"), Decimal("-83.69481"))
    assert chord(0) == 0
    assert str(point(Decimal(0), Decimal(0))) == "(1.0, 0.0, 0.0)"
    assert "-0.0" not in str(point(Decimal("-1e-300"), Decimal("-1e-300")))


@pytest.mark.parametrize("place", [("90.1", "0"), ("-91", "0"), ("0", "180.01"), ("0", "-1e999999"), ("1e999999", "0")])
def test_beyond_the_earth(place: tuple[str, str]) -> None:
    with pytest.raises(ValueError):
        point(*map(Decimal, place))
