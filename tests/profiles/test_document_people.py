"""Document Entry -> DocumentReference -> Document Entry gives back the people that both can say (IHE MHD 4.2)."""

from hypothesis import given
from hypothesis import strategies as st

from profiles.document import Author, DocumentEntry
from profiles.document_reference import document_reference
from profiles.received_document import document_entry

_WORD = st.text("abcXYZé", min_size=1, max_size=8)
_OIDS = st.sampled_from(["1.2.840.1", "2.16.840.1.113883.6.1"])
_XCN = st.builds("{}^{}^{}^^^^^^&{}&ISO".format, _WORD, _WORD, _WORD, _OIDS)
_XON = st.one_of(st.builds("{}^^^^^&{}&ISO^^^^{}".format, _WORD, _OIDS, _WORD), st.builds("{}^^^^^^^^^{}".format, _WORD, _OIDS))
_XTN = st.one_of(
    st.builds("^^Internet^{}@example.org".format, _WORD), st.builds("^{}^PH^^^^^^^^^555".format, st.sampled_from(["PRN", "WPN"]))
)
_CODES = st.lists(st.one_of(_WORD, st.builds("{}^^^&{}&ISO".format, _WORD, _OIDS)), max_size=2).map(tuple)
_AUTHORS = st.builds(
    Author, _XCN, st.lists(_XON, max_size=1).map(tuple), _CODES, _CODES, st.lists(_XTN, max_size=2).map(tuple)
)  # fmt: skip
_INFO = (
    "PID-3|S1^^^&1.2.3&ISO", "PID-5|DOE^JANE^^^", "PID-7|19560527", "PID-8|F", "PID-11|100 Main St^^Metropolis^Il^44130^USA",
)  # fmt: skip


def _back(entry: DocumentEntry) -> DocumentEntry:
    resource = document_reference(entry, id="1", subject_id="2", content_url="Binary/3")
    return document_entry(resource, id=entry.entry_uuid, patient_id="", find=lambda _: None)


@given(st.lists(_AUTHORS, max_size=3).map(tuple))
def test_authors_come_back_with_roles_specialties_telecoms_and_institution(authors: tuple[Author, ...]) -> None:
    plain = "X^Y^Z^^^^^^&1.2&ISO"
    assert _back(DocumentEntry("urn:uuid:1", "1.2.3", authors=(*authors, Author(plain)))).authors == (*authors, Author(plain))


def test_source_patient_info_comes_back() -> None:
    entry = DocumentEntry("urn:uuid:1", "1.2.3", source_patient_id="S1^^^&1.2.3&ISO", source_patient_info=_INFO)
    assert _back(entry).source_patient_info == _INFO
    assert _back(entry).source_patient_id == entry.source_patient_id
