"""Resources in XML (FHIR R4 section 2.6.1): written, read, refused; the same as other programs read and write."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B import get_fhir_model_class
from hypothesis import HealthCheck, given, settings
from lxml import etree
from peers.resources import resources

from profiles.fhir.json import Malformed, parse, serialize
from profiles.fhir.xml import from_xml, to_xml, write
from profiles.r4.definitions import resource_types

Json = dict[str, Any]
NAMESPACE = 'xmlns="http://hl7.org/fhir"'
HEAD = b'<?xml version="1.0" encoding="UTF-8"?>'
DIV = '<div xmlns="http://www.w3.org/1999/xhtml">'
TESTDATA = Path(__file__).parents[4] / "shared/testdata"


def document(name: str, inside: str) -> bytes:
    return HEAD + f"<{name} {NAMESPACE}>{inside}</{name}>".encode()


def ordered(value: Any) -> Any:
    """With keys in alphabetical order, which means nothing in JSON."""
    if isinstance(value, dict):
        return {name: ordered(value[name]) for name in sorted(value)}
    return [ordered(each) for each in value] if isinstance(value, list) else value


def exactly(resource: Json) -> bytes:
    return serialize(ordered(resource))


# --- both ways

BOTH_WAYS: dict[str, tuple[str, str]] = {
    "2.6.1: values are attributes, elements are in the order of the definition": (
        '{"resourceType":"Patient","birthDate":"1970-01-01","active":true,"id":"p"}',
        '<id value="p"/><active value="true"/><birthDate value="1970-01-01"/>',
    ),
    "2.6.1: what repeats is repeated, also when there is one": (
        '{"resourceType":"Patient","name":[{"given":["A","B"]},{"family":"C"}],"identifier":[{"value":"1"}]}',
        '<identifier><value value="1"/></identifier><name><given value="A"/><given value="B"/></name><name><family value="C"/></name>',
    ),
    "2.6.1: ids of elements and URLs of extensions are attributes": (
        '{"resourceType":"Patient","name":[{"id":"n","extension":[{"id":"e","url":"urn:x","valueCode":"c"}]}]}',
        '<name id="n"><extension id="e" url="urn:x"><valueCode value="c"/></extension></name>',
    ),
    "2.24.0.1: primitives have ids and extensions": (
        '{"resourceType":"Patient","birthDate":"1970","_birthDate":{"id":"b","extension":[{"url":"urn:x","valueTime":"10:00:00"}]}}',
        '<birthDate id="b" value="1970"><extension url="urn:x"><valueTime value="10:00:00"/></extension></birthDate>',
    ),
    "2.24.0.1: a primitive may have no value": (
        '{"resourceType":"Patient","_birthDate":{"extension":[{"url":"urn:x","valueBoolean":false}]},"_gender":{"id":"g"}}',
        '<gender id="g"/><birthDate><extension url="urn:x"><valueBoolean value="false"/></extension></birthDate>',
    ),
    "2.6.2.2 of json.html: null stands for what one of them has not": (
        '{"resourceType":"Patient","name":[{"given":["A",null,"C"],"_given":[null,{"id":"b"},{"id":"c"}]}]}',
        '<name><given value="A"/><given id="b"/><given id="c" value="C"/></name>',
    ),
    "2.6.2.2 of json.html: no values at all": (
        '{"resourceType":"Patient","name":[{"_given":[{"id":"a"},{"id":"b"}]}]}',
        '<name><given id="a"/><given id="b"/></name>',
    ),
    "2.24.0.1: decimals keep their precision and form": (
        ('{"resourceType":"Observation","component":[{"valueQuantity":{"value":1.00}},{"valueQuantity":{"value":-0.0010}},'
        '{"valueQuantity":{"value":1e3}},{"valueQuantity":{"value":0.00000001}},{"valueQuantity":{"value":12345678901234567890.123456789}},'
        '{"valueQuantity":{"value":5}}]}'),
        "".join(
            f'<component><valueQuantity><value value="{number}"/></valueQuantity></component>'
            for number in ("1.00", "-0.0010", "1e3", "0.00000001", "12345678901234567890.123456789", "5")
        ),
    ),
    "2.4.1: the narrative is in the namespace of XHTML": (
        json.dumps({"resourceType": "Patient", "text": {"status": "generated", "div": f'{DIV}<p class="x">a &lt; b<br/>é &amp; </p></div>'}}),
        f'<text><status value="generated"/>{DIV}<p class="x">a &lt; b<br/>é &amp; </p></div></text>',
    ),
    "2.6.1: contained resources": (
        '{"resourceType":"Patient","contained":[{"resourceType":"Organization","id":"o","name":"O"},{"resourceType":"Basic"}],"active":true}',
        ('<contained><Organization><id value="o"/><name value="O"/></Organization></contained><contained><Basic></Basic></contained>'
        '<active value="true"/>'),
    ),
    "2.6.1: text in attributes": (
        json.dumps({"resourceType": "Patient", "name": [{"text": "\"<&>'\n\t\r end é 😀 "}]}),
        '<name><text value="&quot;&lt;&amp;&gt;\'&#10;&#9;&#13; end é 😀 "/></name>',
    ),
    "a choice is called by its type": (
        '{"resourceType":"Patient","multipleBirthInteger":2,"deceasedDateTime":"2020"}',
        '<deceasedDateTime value="2020"/><multipleBirthInteger value="2"/>',
    ),
}  # fmt: skip


@pytest.mark.parametrize("rule", BOTH_WAYS)
def test_both_ways(rule: str) -> None:
    text, inside = BOTH_WAYS[rule]
    resource = parse(text.encode())
    body = document(resource["resourceType"], inside)
    assert to_xml(resource) == body
    assert to_xml(text.encode()) == body
    assert exactly(from_xml(body)) == exactly(resource)


def test_content_reference_and_nested_resources_of_a_bundle() -> None:
    """`Bundle.entry.link` is defined by `Bundle.link`, `Questionnaire.item.item` by `Questionnaire.item`."""
    bundle = {
        "resourceType": "Bundle", "type": "searchset", "total": 1, "link": [{"relation": "self", "url": "urn:a"}],
        "entry": [
            {"link": [{"relation": "x", "url": "urn:b"}], "fullUrl": "urn:c",
             "resource": {"resourceType": "Questionnaire", "status": "draft", "item": [{"linkId": "1", "type": "group", "item": [
                 {"linkId": "1.1", "type": "group", "item": [{"linkId": "1.1.1", "type": "display"}]}]}]},
             "search": {"mode": "match", "score": 1}},
            {"response": {"status": "200", "outcome": {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "value"}]}}},
        ],
    }  # fmt: skip
    body = to_xml(bundle)
    assert b"<resource><Questionnaire><status" in body
    assert b"<item><linkId value=" in body
    assert from_xml(body) == bundle


@settings(suppress_health_check=list(HealthCheck))
@given(resources())
def test_any_resource_comes_back_from_xml(resource: Json) -> None:
    body = to_xml(resource)
    back = from_xml(body)
    assert exactly(back) == exactly(resource)
    assert to_xml(back) == body


@pytest.mark.deep
@pytest.mark.parametrize("name", resource_types())
def test_every_type_comes_back_from_xml(name: str) -> None:
    @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
    @given(resources(name))
    def holds(resource: Json) -> None:
        assert exactly(from_xml(to_xml(resource))) == exactly(resource)

    holds()


def real_resources() -> list[Path]:
    """Of FHIR R4: the folder of DSUBm has SubscriptionTopics of R4B too."""
    found = [*TESTDATA.glob("synthea_r4/*.json"), *TESTDATA.glob("ihe-*/**/*.json")]
    return [each for each in sorted(found) if "SubscriptionTopic" not in each.name]


@pytest.mark.skipif(not TESTDATA.is_dir(), reason="no shared test data in this clone")
def test_real_resources_come_back_from_xml() -> None:
    assert len(real_resources()) > 30
    for path in real_resources():
        resource = parse(path.read_bytes())
        assert exactly(from_xml(to_xml(resource))) == exactly(resource), path


# --- written


def test_a_resource_is_written_into_a_frame() -> None:
    pieces = [f"<Bundle {NAMESPACE}><entry><resource>".encode()]
    write({"resourceType": "Patient", "id": "p"}, pieces)
    pieces.append(b"</resource></entry></Bundle>")
    assert from_xml(b"".join(pieces)) == {
        "resourceType": "Bundle",
        "entry": [{"resource": {"resourceType": "Patient", "id": "p"}}],
    }


def test_characters_that_xml_has_not_are_replaced() -> None:
    body = to_xml({"resourceType": "Patient", "name": [{"text": "a\x00b\x0c\ud800\uffffc"}]})
    assert etree.fromstring(body) is not None
    assert from_xml(body)["name"][0]["text"] == "a\ufffdb\ufffd\ufffd\ufffdc"


def test_a_narrative_without_namespace_gets_it() -> None:
    body = to_xml({"resourceType": "Patient", "text": {"status": "generated", "div": " <div>a</div> "}})
    assert f'<status value="generated"/>{DIV}a</div></text>'.encode() in body


UNWRITABLE: dict[str, tuple[Json, str]] = {
    "no type": ({"id": "x"}, ""),
    "a type that R4 has not": ({"resourceType": "SubscriptionTopic"}, "SubscriptionTopic"),
    "an unknown property": ({"resourceType": "Patient", "name": [{}, {"surname": "x"}]}, "Patient.name[1].surname"),
    "an unknown property beside a primitive": ({"resourceType": "Patient", "_birthDay": {}}, "Patient._birthDay"),
    "a single value for a list": ({"resourceType": "Patient", "name": {"text": "x"}}, "Patient.name"),
    "a single value for a list of primitives": ({"resourceType": "Patient", "name": [{"given": "x"}]}, "Patient.name[0].given"),
    "a list for a single value": ({"resourceType": "Patient", "birthDate": ["x"]}, "Patient.birthDate"),
    "null": ({"resourceType": "Patient", "birthDate": None}, "Patient.birthDate"),
    "a text for an object": ({"resourceType": "Patient", "maritalStatus": "x"}, "Patient.maritalStatus"),
    "a text beside a primitive": ({"resourceType": "Patient", "birthDate": "2020", "_birthDate": "x"}, "Patient._birthDate"),
    "a contained text": ({"resourceType": "Patient", "contained": ["x"]}, "Patient.contained[0]"),
    "an unknown contained type": ({"resourceType": "Patient", "contained": [{"resourceType": "X"}]}, "Patient.contained[0]"),
    **{
        f"a narrative like {div}": ({"resourceType": "Patient", "text": {"div": div}}, "Patient.text.div")
        for div in ("text", f"{DIV}", f"{DIV}&nbsp;</div>", f"{DIV}</div><x/>", "<p/>", "<!DOCTYPE div><div/>", "<?x?><div/>", f'{DIV}</div><a b="')
    },
}  # fmt: skip


@pytest.mark.parametrize("what", UNWRITABLE)
def test_what_does_not_fit_its_definition_is_not_written(what: str) -> None:
    resource, path = UNWRITABLE[what]
    with pytest.raises(Malformed) as caught:
        to_xml(resource)
    assert caught.value.issue.expression == path


# --- read

READ: dict[str, tuple[str, Json]] = {
    "2.6.1: comments, instructions and white space say nothing": (
        f"<?x y?>\n<!-- c --><Patient {NAMESPACE}>\n <!-- c --><?x y?>\n <active\n value = 'true' />\n <!-- c --> </Patient>\n<!-- c -->",
        {"active": True},
    ),
    "2.6.1: white space at the ends of a value is trimmed": (
        f'<Patient {NAMESPACE}><active value=" true "/><gender value=" male "/><birthDate value="\n1970 "/></Patient>',
        {"active": True, "gender": "male", "birthDate": "1970"},
    ),
    "but that of a text is content, as in JSON": (
        f'<Patient {NAMESPACE}><name><text value=" a&#10;"/></name></Patient>',
        {"name": [{"text": " a\n"}]},
    ),
    "any prefix stands for the namespace": (
        '<f:Patient xmlns:f="http://hl7.org/fhir"><f:active value="false"/></f:Patient>',
        {"active": False},
    ),
    "2.4.1: any prefix stands for the namespace of XHTML, JSON has it as the default": (
        ('<Patient xmlns="http://hl7.org/fhir" xmlns:h="http://www.w3.org/1999/xhtml"><text><status value="generated"/>'
        "<h:div xml:lang='de'><h:p title='\"&#10;'>a<!-- c --> &lt;<h:b>b</h:b> c &#160;</h:p><h:a name='x'/><h:br/></h:div></text></Patient>"),
        {"text": {"status": "generated", "div": f'{DIV[:-1]} xml:lang="de"><p title="&quot;&#10;">a &lt;<b>b</b> c \xa0</p><a name="x"></a><br/></div>'}},
    ),
    "a byte order mark": (f'\ufeff<Patient {NAMESPACE}><active value="true"/></Patient>', {"active": True}),
    "CDATA in a narrative": (
        f'<Patient {NAMESPACE}><text>{DIV}<![CDATA[<b>]]></div></text></Patient>',
        {"text": {"div": f"{DIV}&lt;b&gt;</div>"}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("rule", READ)
def test_read(rule: str) -> None:
    text, expected = READ[rule]
    assert from_xml(text.encode()) == {"resourceType": "Patient", **expected}


UNREADABLE: dict[str, tuple[str, str, str]] = {
    "an unknown element": ('<name><surname value="x"/></name>', "Patient.name[0]", "has the element surname"),
    "an element of another namespace": ('<name><text xmlns="urn:x" value="x"/></name>', "Patient.name[0]", "has the element"),
    "an unknown attribute": ('<active value="true" class="x"/>', "Patient.active", "has the attribute class"),
    "an unknown attribute of an object": ('<name url="x"><text value="x"/></name>', "Patient.name[0]", "has the attribute url"),
    "a schema location": (
        '<name xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="x"><text value="x"/></name>',
        "Patient.name[0]", "has the attribute",
    ),
    "another order": ('<birthDate value="2020"/><active value="true"/>', "Patient.active", "comes after birthDate"),
    "a list in two pieces": ('<name><text value="x"/></name><gender value="male"/><name><text value="x"/></name>', "Patient.name", "comes after"),
    "a single element twice": ('<active value="true"/><active value="true"/>', "Patient.active", "more than once"),
    "two of a choice": ('<deceasedBoolean value="true"/><deceasedDateTime value="2020"/>', "Patient.deceasedDateTime", "beside deceasedBoolean"),
    "a choice without its type": ('<deceased value="true"/>', "Patient", "has the element deceased"),
    "an empty element": ("<name/>", "Patient.name[0]", "is empty"),
    "an empty primitive": ("<active/>", "Patient.active", "is empty"),
    "an empty value": ('<gender value=" "/>', "Patient.gender", "empty attribute"),
    "an empty text": ('<name><text value=""/></name>', "Patient.name[0].text", "empty attribute"),
    "an empty id": ('<name id=""><text value="x"/></name>', "Patient.name[0]", "empty attribute"),
    "text in an object": ("<name>Smith</name>", "Patient.name[0]", "has text"),
    "text in a primitive": ("<gender>male</gender>", "Patient.gender", "has text"),
    "text between elements": ('<name><text value="x"/>x</name>', "Patient.name[0]", "has text"),
    "a boolean that is none": ('<active value="yes"/>', "Patient.active", "neither true nor false"),
    "an integer that is none": ('<multipleBirthInteger value="1.0"/>', "Patient.multipleBirthInteger", "not an integer"),
    "an integer of many digits": (f'<multipleBirthInteger value="{"9" * 5000}"/>', "Patient.multipleBirthInteger", "not an integer"),
    "a decimal that is none": (
        '<extension url="urn:x"><valueDecimal value="+1"/></extension>', "Patient.extension[0].valueDecimal", "not a decimal",
    ),
    "a decimal beyond measure": (
        '<extension url="urn:x"><valueDecimal value="1e999999999"/></extension>', "Patient.extension[0].valueDecimal", "can be stored",
    ),
    "the second of a list of primitives": ('<name><given value="a"/><given/></name>', "Patient.name[0].given[1]", "is empty"),
    "a contained element": ('<contained><name/></contained>', "Patient.contained[0]", "is no resource"),
    "two contained in one": ("<contained><Basic/><Basic/></contained>", "Patient.contained[0]", "holds one resource"),
    "a resource id as an attribute": ('<contained><Basic id="x"/></contained>', "Patient.contained[0]", "has the attribute id"),
    "a narrative of another namespace": ('<text><status value="generated"/><div>x</div></text>', "Patient.text", "has the element div"),
    "FHIR in a narrative": (f"<text>{DIV}<b xmlns='http://hl7.org/fhir'/></div></text>", "Patient.text.div", "not of XHTML"),
    "an attribute of another namespace in a narrative": (
        f"<text>{DIV}<b xmlns:x='urn:x' x:y='z'/></div></text>", "Patient.text.div", "another namespace",
    ),
    "extensions 50 deep": ('<extension url="urn:x">' * 50 + "</extension>" * 50, "", "nested more than 64"),
    "a narrative 150 deep": (f"<text>{DIV}{'<b>' * 150}{'</b>' * 150}</div></text>", "Patient.text.div", "nested more than 100"),
}  # fmt: skip


@pytest.mark.parametrize("what", UNREADABLE)
def test_refused(what: str) -> None:
    inside, path, words = UNREADABLE[what]
    with pytest.raises(Malformed, match=words) as caught:
        from_xml(document("Patient", inside))
    assert caught.value.issue.expression == path or not path


NO_DOCUMENT: dict[str, bytes] = {
    "nothing": b"",
    "JSON": b'{"resourceType":"Patient"}',
    "cut off": document("Patient", "")[:-3],
    "not UTF-8": f'<?xml version="1.0" encoding="ISO-8859-1"?><Patient {NAMESPACE}><name><text value="é"/></name></Patient>'.encode("latin-1"),
    "UTF-16": document("Patient", '<active value="true"/>').decode().replace("UTF-8", "UTF-16").encode("utf-16"),
    "no namespace": b'<Patient><active value="true"/></Patient>',
    "another namespace": b'<Patient xmlns="urn:hl7-org:v3"><active value="true"/></Patient>',
    "no resource": document("HumanName", '<text value="x"/>'),
    "an abstract type": document("Resource", '<id value="x"/>'),
    "a DOCTYPE": b'<!DOCTYPE Patient><Patient xmlns="http://hl7.org/fhir"><active value="true"/></Patient>',
    "a DOCTYPE behind a comment": b'<!-- <a --><!DOCTYPE Patient><Patient xmlns="http://hl7.org/fhir"><active value="true"/></Patient>',
    "an entity from a file": (
        b'<!DOCTYPE p [<!ENTITY e SYSTEM "file:///etc/passwd">]><Patient xmlns="http://hl7.org/fhir"><name><text value="&e;"/></name></Patient>'
    ),
    "entities of entities": (
        b'<!DOCTYPE p [<!ENTITY a "aaaaaaaaaa">' + b"".join(b'<!ENTITY %c "%s">' % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(9))
        + b']><Patient xmlns="http://hl7.org/fhir"><name><text value="&j;"/></name></Patient>'
    ),
    "an entity of HTML": document("Patient", f"<text>{DIV}&nbsp;</div></text>"),
    "10,000 deep": b"<extension>" * 10_000,
    "a prefix without namespace": b'<f:Patient><f:active value="true"/></f:Patient>',
}  # fmt: skip


@pytest.mark.parametrize("what", NO_DOCUMENT)
def test_what_is_no_document_of_a_resource_is_refused(what: str) -> None:
    with pytest.raises(Malformed) as caught:
        from_xml(NO_DOCUMENT[what])
    assert "passwd" not in str(caught.value)
    assert "é" not in str(caught.value)


# --- other programs

IMAGING_STUDY = {
    "resourceType": "ImagingStudy", "id": "s", "meta": {"versionId": "1"},
    "identifier": [{"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"}], "status": "available",
    "subject": {"reference": "Patient/p"}, "started": "2025-05-05T10:00:00+02:00", "numberOfSeries": 1, "numberOfInstances": 2,
    "series": [
        {"uid": "1.2.3.4", "number": 1, "modality": {"system": "http://dicom.nema.org/resources/ontology/DCM", "code": "CT"},
         "instance": [{"uid": f"1.2.3.4.{n}", "sopClass": {"system": "urn:ietf:rfc:3986", "code": "urn:oid:1.2.840"}, "number": n} for n in (1, 2)]}
    ],
}  # fmt: skip
PEER_CASES: dict[str, Json] = {
    "ImagingStudy": IMAGING_STUDY,
    "Patient": {
        "resourceType": "Patient", "id": "p", "birthDate": "1970-01-01", "name": [{"family": "du <Marché>", "given": ["A", "B"]}],
        "text": {"status": "generated", "div": f"{DIV}a<b>b</b></div>"}, "deceasedBoolean": False, "multipleBirthInteger": 2,
        "extension": [{"url": "urn:x", "extension": [{"url": "y", "valueCode": "z"}]}],
    },
    "DocumentReference": {
        "resourceType": "DocumentReference", "status": "current",
        "content": [{"attachment": {"contentType": "application/dicom", "url": "urn:a", "size": 3}}], "context": {"related": [{"reference": "Patient/p"}]},
    },
}  # fmt: skip


@pytest.mark.parametrize("name", PEER_CASES)
def test_fhir_resources_reads_what_we_write(name: str) -> None:
    theirs = get_fhir_model_class(name).model_validate_xml(to_xml(PEER_CASES[name]))
    assert ordered(json.loads(theirs.model_dump_json())) == ordered(PEER_CASES[name])


@pytest.mark.parametrize("name", PEER_CASES)
def test_we_read_what_fhir_resources_writes(name: str) -> None:
    body = get_fhir_model_class(name).model_validate(PEER_CASES[name]).model_dump_xml()
    assert from_xml(body) == PEER_CASES[name]


# --- a million bytes in one element: each lookup of an attribute goes through the list of all

MANY = "".join(f' a{number}="1"' for number in range(100_000))
_HERE, _DIV = 'xmlns="http://hl7.org/fhir"', 'xmlns="http://www.w3.org/1999/xhtml"'


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (f"<Patient {_HERE}{MANY}><active value='true'/></Patient>", "Patient has the attribute a0"),
        (f"<Patient {_HERE}><name{MANY}/></Patient>", "Patient.name[0] has more than 100 attributes"),
        (f"<Patient {_HERE}><active{MANY}/></Patient>", "Patient.active has more than 100 attributes"),
        (f"<Patient {_HERE}><contained{MANY}/></Patient>", "Patient.contained[0] holds one resource"),
        (f"<Patient {_HERE}><text><status value='generated'/><div {_DIV}{MANY}>a</div></text></Patient>", "more than 100 attributes"),
        (f"<Patient {_HERE}><text><status value='generated'/><div {_DIV}><p{MANY}/></div></text></Patient>", "more than 100 attributes"),
    ],
    ids=["resource", "element", "primitive", "contained", "div", "in div"],
)  # fmt: skip
def test_a_million_bytes_of_attributes_are_not_looked_up(document: str, told: str) -> None:
    assert len(document) > 1_000_000
    with pytest.raises(Malformed, match=re.escape(told)):
        from_xml(document.encode())


@pytest.mark.parametrize("piece", ["<!-- -->", "<?x y?>", "<![CDATA[ ]]>", "&#32;"])
def test_a_million_bytes_of_nothing_say_nothing(piece: str) -> None:
    document = f"<Patient {_HERE}>{piece * (1_000_000 // len(piece))}<active value='true'/></Patient>"
    assert from_xml(document.encode()) == {"resourceType": "Patient", "active": True}
