"""ebRIM 2.1 as 3.0, symbols, and ids that are assigned."""

from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from conformance.nist import ebrim2, symbols
from ihe import xml

OLD = b"""<rs:SubmitObjectsRequest xmlns:rs="urn:oasis:names:tc:ebxml-regrep:registry:xsd:2.1" xmlns:rim="urn:oasis:names:tc:ebxml-regrep:rim:xsd:2.1">
<rim:LeafRegistryObjectList><rim:ObjectRef id="urn:uuid:7edca82f-054d-47f2-a032-9b2a5b518fff"/>
<rim:ExtrinsicObject id="D" objectType="urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1"><rim:Name><rim:LocalizedString value="n"/></rim:Name>
<rim:Description/><rim:Slot name="s"><rim:ValueList><rim:Value>v</rim:Value></rim:ValueList></rim:Slot>
<rim:ExternalIdentifier value="$patientid$" identificationScheme="urn:uuid:58a6f841-87b3-4a3e-92fd-a8ffeff98427"><rim:Name><rim:LocalizedString value="XDSDocumentEntry.patientId"/></rim:Name></rim:ExternalIdentifier>
<rim:ExternalIdentifier value="D" identificationScheme="urn:uuid:2e82c1f6-a085-4c72-9da3-8640a32e42ab"><rim:Name><rim:LocalizedString value="XDSDocumentEntry.uniqueId"/></rim:Name></rim:ExternalIdentifier>
</rim:ExtrinsicObject><rim:RegistryPackage id="S"><rim:ExternalIdentifier value="old" identificationScheme="urn:uuid:96fdda7c-d067-4183-912e-bf5ee74998a8"/></rim:RegistryPackage>
<rim:Classification classifiedObject="S" classificationNode="urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd"/>
<rim:Association associationType="HasMember" sourceObject="S" targetObject="D"/></rim:LeafRegistryObjectList></rs:SubmitObjectsRequest>"""


@pytest.fixture
def request_of_3() -> etree._Element:
    return ebrim2.submit_objects_request(etree.fromstring(OLD))


def test_every_old_submission_of_the_toolkit_becomes_schema_valid(nist: Path) -> None:
    schema = etree.XMLSchema(etree.parse(nist / "schema" / "v3" / "lcm.xsd"))
    converted = 0
    for path in sorted((nist / "testkit").rglob("*.xml")):
        data = path.read_bytes().lstrip()
        if b"LeafRegistryObjectList" not in data:
            continue
        root = xml.parse(data, 1 << 24)
        made = ebrim2.submit_objects_request(root)
        numbers = count()
        symbols.assign_uuids(made, lambda numbers=numbers: f"urn:uuid:00000000-0000-4000-8000-{next(numbers):012d}")
        schema.assertValid(etree.fromstring(etree.tostring(made)))
        converted += 1
    assert converted == 160


def test_children_are_in_the_order_of_3(request_of_3: etree._Element) -> None:
    [entry] = request_of_3.iter("{*}ExtrinsicObject")
    names = [xml.local_name(each) for each in entry]
    assert names == ["Slot", "Name", "Description", "ExternalIdentifier", "ExternalIdentifier"]


def test_references_to_schemes_are_left_out_and_every_object_has_an_id(request_of_3: etree._Element) -> None:
    assert not list(request_of_3.iter("{*}ObjectRef"))
    ids = [
        each.get("id")
        for name in ("Association", "Classification", "ExternalIdentifier")
        for each in request_of_3.iter(f"{{*}}{name}")
    ]
    assert all(ids)
    assert len(set(ids)) == 5
    assert {each.get("registryObject") for each in request_of_3.iter("{*}ExternalIdentifier")} == {"D", "S"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("HasMember", "urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember"),
        ("RPLC", "urn:ihe:iti:2007:AssociationType:RPLC"),
        ("IsSnapshotOf", "urn:ihe:iti:2010:AssociationType:IsSnapshotOf"),
        ("urn:x:y", "urn:x:y"),
    ],
)
def test_association_types_have_their_full_names(old: str, new: str) -> None:
    made = ebrim2.submit_objects_request(etree.fromstring(OLD.replace(b'"HasMember"', f'"{old}"'.encode())))
    assert [each.get("associationType") for each in made.iter("{*}Association")] == [new]


def test_symbols_are_replaced_but_not_in_documents_nor_where_values_are_asked_for() -> None:
    root = etree.fromstring(
        b'<a x="$s$"><b>1 $s$ 2</b><UseReport useAs="$s$"/><Document xmlns="urn:ihe:iti:xds-b:2007">$s$</Document></a>'
    )
    symbols.replace(root, {"$s$": "<v>"})
    assert (root.get("x"), root[0].text, root[1].get("useAs"), root[2].text) == ("<v>", "1 <v> 2", "$s$", "$s$")


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("$XDSDocumentEntryPatientId", []),
        ("'$patient_id$'", ["$patient_id$"]),
        ("a$b c$d", []),
        ("$a$$b$", ["$a$", "$b$"]),
        ("$$", []),
    ],
)
def test_what_is_left_unresolved(text: str, left: list[str]) -> None:
    root = etree.Element("a", x=text)
    assert symbols.unresolved(root) == left


@given(st.dictionaries(st.from_regex(r"\$[a-z]{1,5}\$", fullmatch=True), st.text("abc&<'^", max_size=8)))
def test_nothing_is_left_of_symbols_that_have_values(values: dict[str, str]) -> None:
    root = etree.Element("a", x="".join(values))
    etree.SubElement(root, "b").text = " ".join(values)
    symbols.replace(root, values)
    assert symbols.unresolved(root) == []


def test_patient_and_unique_ids_are_assigned(request_of_3: etree._Element) -> None:
    assert symbols.assign(request_of_3, symbols.PATIENT_IDS, lambda _: "P1") == {"D": "P1"}
    numbers = count(1)
    assert symbols.assign(request_of_3, symbols.UNIQUE_IDS, lambda _: f"2.25.{next(numbers)}") == {"D": "2.25.1", "S": "2.25.2"}


def test_what_keeps_its_unique_id(request_of_3: etree._Element) -> None:
    [scheme] = symbols.UNIQUE_IDS["ExtrinsicObject"]
    assert symbols.assign(request_of_3, symbols.UNIQUE_IDS, lambda _: "new", without="S") == {"D": "new"}
    assert symbols.assign(request_of_3, symbols.UNIQUE_IDS, lambda _: "new", excluded=frozenset([scheme])) == {"S": "new"}


def test_symbolic_ids_become_uuids_everywhere(request_of_3: etree._Element) -> None:
    numbers = count(1)
    made = symbols.assign_uuids(request_of_3, lambda: f"urn:uuid:{next(numbers)}")
    [link] = request_of_3.iter("{*}Association")
    assert (link.get("sourceObject"), link.get("targetObject")) == (made["S"], made["D"])
    assert b'"D"' not in etree.tostring(request_of_3).replace(b'value="D"', b"")


def test_clean_takes_out_what_has_no_value() -> None:
    root = etree.fromstring(
        b'<q><AdhocQuery id="a" home="$h$"><Slot name="$X"><ValueList><Value>\'$x$\'</Value></ValueList></Slot>'
        b'<Slot name="$Y"><ValueList><Value>1</Value></ValueList></Slot></AdhocQuery></q>'
    )
    symbols.clean(root)
    assert "home" not in root[0].attrib
    assert [each.get("name") for each in root[0]] == ["$Y"]
