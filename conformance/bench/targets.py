"""What this server has set itself to reach, as ratios of its rate to Orthanc's in the same run. `make bench` prints them beside what it measures."""

from collections.abc import Mapping
from typing import Final

_QIDO: Final = (
    "QIDO all studies", "QIDO by PatientID", "QIDO by date range", "QIDO by name with wildcard", "QIDO page of 25 at 100",
    "QIDO series of a study", "QIDO instances of a series",
)  # fmt: skip

RATIOS: Final[Mapping[str, float]] = {
    "C-STORE CT, 1 association": 1.5,
    "C-STORE CT, 4 associations": 1.5,
    "C-STORE CT, 1 association, not durable": 2,
    "C-STORE CT, 4 associations, not durable": 2,
    "C-STORE CT, 1 association, Nagle's algorithm left on": 10,
    "STOW-RS to acknowledgement": 2,
    "WADO-RS, whole study": 1.5,
    "C-FIND of all studies": 2,
    "C-FIND by Patient ID": 2,
    "C-GET of a CT study": 1.5,
    "C-MOVE of a CT study": 1.5,
    **{f"{name}, 1 connection": 20 for name in _QIDO},
    **{f"{name}, 8 connections": 50 for name in _QIDO},
    "metadata of a CT series, 1 connection": 8,
    "metadata of a CT series, gzip, 1 connection": 25,
    "frame, CT, 1 connection": 6,
    "frame, CT, 8 connections": 4,
    "frame of a deep multi-frame, 1 connection": 8,
    "frame of a deep multi-frame, 8 connections": 4,
    "rendered CT, 1 connection": 2,
    "rendered radiograph, 1 connection": 1.3,
    "ZIP of a CT study, 1 connection": 5,
}

PROCESSOR: Final = 0.5
"""Server CPU per file, as part of Orthanc's: at most."""
MEMORY: Final = 0.5
"""Peak memory of all processes, as part of Orthanc's: at most."""
