"""Places on the earth and how far they are apart (FHIR R4, Location.position and the search parameter `near`).

A place is a point of the unit sphere. The straight way through the earth between two points grows with the way along its surface, so that
who compares it compares great circles, as the haversine formula does, with neither poles nor the date line as special cases.
"""

import math
from decimal import Decimal
from typing import Final

EARTH: Final = 6_371_008.8
"""Meters: the mean radius of WGS84's ellipsoid. A great circle of it is off by 0.5 % at most."""
AXES: Final = ("x", "y", "z")
_DIGITS: Final = 15
"""Behind the point: 6 nanometers of the earth."""

Point = tuple[float, float, float]


def point(latitude: Decimal | float, longitude: Decimal | float) -> Point:
    """Of a place in degrees of WGS84, on the unit sphere. Raises `ValueError` beyond the poles or 180 degrees."""
    if not -90 <= latitude <= 90:
        raise ValueError("a latitude is from -90 to 90 degrees")
    if not -180 <= longitude <= 180:
        raise ValueError("a longitude is from -180 to 180 degrees")
    north, east = math.radians(float(latitude)), math.radians(float(longitude))
    found = (math.cos(north) * math.cos(east), math.cos(north) * math.sin(east), math.sin(north))
    x, y, z = (round(each, _DIGITS) + 0.0 for each in found)  # no zero is negative
    return x, y, z


def chord(meters: float) -> float:
    """The straight way, in radii of the earth, between points that are so far apart along its surface; beyond half around it that is everywhere."""
    return 2 * math.sin(min(meters / (2 * EARTH), math.pi / 2)) if meters < math.pi * EARTH else 3.0
