"""What the toolkit's user interface does around the tests, and so does not stand in their plans."""

from typing import Final

ORDERS: Final = {
    "20001": "submit eval submit_invalid_assoc submit_apnd_assoc eval_assoc deprecate_assoc eval_deprecate_assoc "
    "undeprecate_assoc eval_undeprecate_assoc",
    "12320": "submit_version_1 verify_version_1 deprecate_version_1 verify_deprecated rmu_update_confCode "
    "verify_deprecated_and_confCode rmu_update_typeCode",
    "12374": "submit_doc submit_doc_w_fol submit_2doc_w_fol submit_doc_for_rplc rplc reset_patient_id register_new_patient_id",
}
"""Sections in order, where it does not follow from what uses what and the folder has no index.idx."""

PATIENTS: Final = {
    "12346": "15818",
    "12318": "15823",
    "12361/single_doc": "15820",
    "12361/multi_doc": "15819",
}
"""Tests, or sections of them, that register data for the patient that another test makes known to the registry."""

LOADED_BEFORE: Final = {"12364": ("12361",)}
"""Tests whose data others expect to be there, without naming them."""

STAND_INS: Final = {
    "12346": (
        "12374",
        {
            "single_doc": "submit_doc",
            "doc_w_fol": "submit_doc_w_fol",
            "two_doc_w_fol": "submit_2doc_w_fol",
            "doc_for_rplc": "submit_doc_for_rplc",
            "rplc": "rplc",
        },
        {"submit_doc_for_rplc": "doc_for_rplc"},
    ),
}
"""Tests whose data another one has, too, under other names: that one stands in where a testkit does not have them.

With the names of its sections, and what has another name in its plans.
"""

UNLIKE_STAND_INS: Final = {"11897/classcode_two": "12346", "11897/refid": "12346"}
"""Sections that ask for what a stand-in's data have not, or have otherwise."""

WITHDRAWN: Final = {"11897": frozenset(["no_matching_classcode"])}
"""Sections that the toolkit's index.idx leaves out, for copies of the testkit without it."""

PATIENT_SECTION: Final = "pif"
PATIENT_REPORT: Final = "$patientid$"


def patient_of(test: str, section: str) -> str:
    """The test whose patient a section's data are of; empty where it is the section's own."""
    return PATIENTS.get(f"{test}/{section}") or PATIENTS.get(test, "")
