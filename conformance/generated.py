"""Generated studies for property tests: everything the values allow, and the shapes that real equipment sends.

hypothesis is a test dependency, so it is imported where a strategy is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiles.identifiers import AssigningAuthority, PatientIdentifier
from profiles.study import Instance, Patient, Series, Study

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

_ROOT = "2.25"
_MODALITIES = ("CT", "MR", "US", "DX", "PT", "SR", "ECG", "SEG", "XX", "")
_BODY_PARTS = ("CHEST", "HEAD", "HEAD NECK", "LSPINE", "chest", "SOMEWHERE", "")
# SOP Class, and whether its instances have frames
_SOP_CLASSES = (
    ("1.2.840.10008.5.1.4.1.1.2", True),  # CT
    ("1.2.840.10008.5.1.4.1.1.4.1", True),  # Enhanced MR
    ("1.2.840.10008.5.1.4.1.1.66.4", True),  # Segmentation
    ("1.2.840.10008.5.1.4.1.1.9.1.1", False),  # 12-lead ECG
    ("1.2.840.10008.5.1.4.1.1.88.33", False),  # Comprehensive SR
    ("1.2.840.10008.5.1.4.1.1.104.1", False),  # Encapsulated PDF
    ("1.3.12.2.1107.5.9.1", True),  # a private one
)
_TRANSFER_SYNTAXES = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.90")


def studies(*, min_series: int = 1, max_series: int = 4, max_instances: int = 6) -> SearchStrategy[Study]:
    """Strategy for a study with unique UIDs, ordered as a published study is; every series has at least one instance."""
    from hypothesis import strategies as st

    text = _text()

    @st.composite
    def study(draw: DrawFn) -> Study:
        made = draw(st.integers(1, 10**30))
        root = f"{_ROOT}.{made}"
        series = tuple(
            _series(draw, f"{root}.{position}", max_instances)
            for position in range(1, draw(st.integers(min_series, max_series)) + 1)
        )
        ordered = tuple(sorted(series, key=lambda one: (one.number is None, one.number or 0, one.series_instance_uid)))
        accession = draw(st.sampled_from(("", "A-1", "4711^9", "1731954284869428")))
        return Study(
            study_instance_uid=root,
            patient=draw(patients()),
            study_id=draw(st.sampled_from(("", "1", "STUDY"))),
            accession_number=accession,
            accession_authority=draw(st.sampled_from(("", "1.2.3.4"))) if accession else "",
            date=draw(dates()),
            time=draw(times()),
            timezone=draw(st.sampled_from(("", "+0100", "-0930", "+1400", "0100"))),
            description=draw(text),
            referring_physician=draw(names()),
            institution=draw(text),
            series=ordered,
            id=f"study-{made % 10**12}",
            version=1,
            modalities=tuple(dict.fromkeys(one.modality for one in ordered)),
        )

    return study()


def patients() -> SearchStrategy[Patient]:
    """Strategy for a patient, with a name in one, two or three alphabets."""
    from hypothesis import strategies as st

    identifiers = st.builds(
        PatientIdentifier,
        st.text("ABC0123456789-^&|", min_size=1, max_size=12),
        st.builds(AssigningAuthority, st.integers(0, 10**20).map(lambda n: f"{_ROOT}.{n}"), st.sampled_from(("", "HOSPITAL"))),
    )
    sexes = st.sampled_from(("M", "F", "O", "", "X"))
    return st.builds(Patient, identifiers, names(), dates(), sexes, st.integers(1, 10**9).map(lambda n: f"patient-{n}"))


def names() -> SearchStrategy[str]:
    """Strategy for a PN: up to five components in up to three groups, perhaps empty; 64 bytes at most, as dciodvfy counts."""
    from hypothesis import strategies as st

    part = st.sampled_from(("", "Müller", "O'Neil", "Anna Maria", "Dr.", "III", "山田", "やまだ", "DOE"))
    group = st.lists(part, max_size=5).map("^".join)
    return st.lists(group, max_size=3).map("=".join).filter(lambda pn: len(pn.encode()) <= 64)


def dates() -> SearchStrategy[str]:
    """Strategy for a DA: mostly days of the calendar, sometimes what equipment writes instead."""
    from datetime import date

    from hypothesis import strategies as st

    days = st.dates(date(1880, 1, 1), date(2040, 12, 31)).map(lambda day: f"{day:%Y%m%d}")
    return days | st.sampled_from(("", "2024.02.29", "20230229", "00000000", "unknown"))


def times() -> SearchStrategy[str]:
    """Strategy for a TM: of any precision, sometimes none."""
    from hypothesis import strategies as st

    clocks = st.times().map(lambda clock: f"{clock:%H%M%S.%f}")
    cut = st.builds(lambda clock, length: clock[:length], clocks, st.sampled_from((2, 4, 6, 8, 13)))
    return cut | st.sampled_from(("", "12:34:56", "235960", "250000", "noon"))


def _text() -> SearchStrategy[str]:
    """Text of any script without DICOM's and FHIR's delimiters; 64 bytes at most, as dciodvfy counts."""
    from hypothesis import strategies as st

    alphabet = st.characters(codec="utf-8", categories=("L", "N", "P", "Zs"), exclude_characters="\\=^")
    return st.text(alphabet, max_size=40).map(lambda text: text.encode()[:64].decode(errors="ignore").strip())


def _series(draw: DrawFn, uid: str, max_instances: int) -> Series:
    from hypothesis import strategies as st

    count = draw(st.integers(1, max_instances))
    numbers = st.none() | st.integers(-1, 2000)
    instances = []
    for position in range(1, count + 1):
        sop_class, has_frames = draw(st.sampled_from(_SOP_CLASSES))
        instances.append(
            Instance(
                sop_instance_uid=f"{uid}.{position}",
                sop_class_uid=sop_class,
                transfer_syntax_uid=draw(st.sampled_from(_TRANSFER_SYNTAXES)),
                number=draw(numbers),
                rows=512 if has_frames else 0,
                columns=512 if has_frames else 0,
                frames=draw(st.integers(1, 3)) if has_frames else 0,
                title=draw(st.sampled_from(("", "Scout"))),
            )
        )
    ordered = sorted(instances, key=lambda one: (one.number is None, one.number or 0, one.sop_instance_uid))
    return Series(
        series_instance_uid=uid,
        modality=draw(st.sampled_from(_MODALITIES)),
        number=draw(numbers),
        description=draw(_text()),
        body_part=draw(st.sampled_from(_BODY_PARTS)),
        laterality=draw(st.sampled_from(("", "L", "R", "U"))),
        date=draw(dates()),
        time=draw(times()),
        instances=tuple(ordered),
    )
