"""XML Patch: operations of RFC 5261 on FHIR's XML, selectors, namespaces, bad patches."""

from typing import Any

import pytest

from profiles.fhir.json import parse, serialize
from profiles.fhir.patch_error import PatchError
from profiles.fhir.xml_patch import apply

Json = dict[str, Any]
DIV = '<div xmlns="http://www.w3.org/1999/xhtml">'
FHIR = 'xmlns="http://hl7.org/fhir"'
PATIENT: Json = {
    "resourceType": "Patient", "id": "p",
    "text": {"status": "generated", "div": f"{DIV}<p>one <b>two</b> three</p></div>"},
    "identifier": [{"use": "usual", "system": "urn:a", "value": "1"}, {"use": "old", "system": "urn:b", "value": "2"}],
    "active": True, "name": [{"family": "Secret", "given": ["A", "B"]}], "birthDate": "1920-01-01",
}  # fmt: skip


def diff(operations: str, declared: str = 'xmlns:f="http://hl7.org/fhir" xmlns:h="http://www.w3.org/1999/xhtml"') -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<diff {declared}>{operations}</diff>'.encode()


def changed(**elements: Any) -> Json:
    return {name: value for name, value in {**PATIENT, **elements}.items() if value is not None}


APPLIED: dict[str, tuple[bytes, Json]] = {
    "no operation": (diff(""), PATIENT),
    "4.4: an attribute is replaced": (
        diff('<replace sel="f:Patient/f:birthDate/@value">1930-01-01</replace>'),
        changed(birthDate="1930-01-01"),
    ),
    "4.4: an element is replaced": (
        diff(f'<replace sel="/f:Patient/f:birthDate"> <birthDate {FHIR} value="1930"/> </replace>'),
        changed(birthDate="1930"),
    ),
    "4.4: text is replaced": (
        diff('<replace sel="f:Patient/f:text/h:div/h:p/h:b/text()">2</replace>'),
        changed(text={"status": "generated", "div": f"{DIV}<p>one <b>2</b> three</p></div>"}),
    ),
    "4.4: text behind an element is replaced": (
        diff('<replace sel="f:Patient/f:text/h:div/h:p/text()[2]">!</replace>'),
        changed(text={"status": "generated", "div": f"{DIV}<p>one <b>two</b>!</p></div>"}),
    ),
    "4.3: at the end": (
        diff('<add sel="f:Patient"><f:maritalStatus><f:text value="x"/></f:maritalStatus></add>'),
        changed(maritalStatus={"text": "x"}),
    ),
    "4.3: at the beginning": (
        diff('<add sel="f:Patient/f:name" pos="prepend"><f:use value="official"/><f:text value="x"/></add>'),
        changed(name=[{"use": "official", "text": "x", "family": "Secret", "given": ["A", "B"]}]),
    ),
    "4.3: before": (
        diff('<add sel="f:Patient/f:birthDate" pos="before">\n <f:gender value="male"/>\n</add>'),
        changed(gender="male"),
    ),
    "4.3: after": (
        diff('<add sel="f:Patient/f:name/f:given[1]" pos="after"><f:given value="C"/></add>'),
        changed(name=[{"family": "Secret", "given": ["A", "C", "B"]}]),
    ),
    "4.3: an attribute": (
        diff('<add sel="f:Patient/f:name" type="@id">n</add>'),
        changed(name=[{"id": "n", "family": "Secret", "given": ["A", "B"]}]),
    ),
    "4.3: mixed content keeps its text": (
        diff('<add sel="f:Patient/f:text/h:div/h:p/h:b" pos="after"> and <h:i>more</h:i>, </add>'),
        changed(text={"status": "generated", "div": f"{DIV}<p>one <b>two</b> and <i>more</i>,  three</p></div>"}),
    ),
    "4.3: mixed content at the beginning": (
        diff('<add sel="f:Patient/f:text/h:div/h:p" pos="prepend">zero <h:br/></add>'),
        changed(text={"status": "generated", "div": f"{DIV}<p>zero <br/>one <b>two</b> three</p></div>"}),
    ),
    "4.5: an element": (diff('<remove sel="f:Patient/f:active"/>'), changed(active=None)),
    "4.5: an element of mixed content": (
        diff('<remove sel="f:Patient/f:text/h:div/h:p/h:b"/>'),
        changed(text={"status": "generated", "div": f"{DIV}<p>one  three</p></div>"}),
    ),
    "4.5: what is left empty goes": (
        diff('<remove sel="*/f:name/f:given[2]"/><remove sel="*/f:name/f:given"/><remove sel="*/f:name/f:family"/>'),
        changed(name=None),
    ),
    "4.5: an attribute, and the primitive that was it": (diff('<remove sel="f:Patient/f:active/@value"/>'), changed(active=None)),
    "4.1: a condition on a place": (
        diff('<remove sel="f:Patient/f:identifier[2]"/>'),
        changed(identifier=[PATIENT["identifier"][0]]),
    ),
    "4.1: a condition on a value": (
        diff("""<remove sel="f:Patient/f:identifier[f:use/@value='old'][f:system/@value = &quot;urn:b&quot;]"/>"""),
        changed(identifier=[PATIENT["identifier"][0]]),
    ),
    "4.1: a condition on an own attribute": (
        diff("""<remove sel="f:Patient/f:name/f:given[@value='A']"/>"""),
        changed(name=[{"family": "Secret", "given": ["B"]}]),
    ),
    "4.1: a literal with what looks like a path": (
        diff("""<remove sel="f:Patient/f:identifier[f:system/@value='urn:b' ]"/>"""),
        changed(identifier=[PATIENT["identifier"][0]]),
    ),
    "4.2: the default namespace of the patch": (
        diff('<replace sel="Patient/birthDate/@value">1930</replace>', FHIR),
        changed(birthDate="1930"),
    ),
    "4.2: FHIR's where the patch has none": (diff('<replace sel="Patient/birthDate/@value">1930</replace>', ""), changed(birthDate="1930")),
    "4.2: usual prefixes that are not declared": (
        diff('<replace sel="f:Patient/f:text/h:div/h:p/h:b/text()">2</replace>', ""),
        changed(text={"status": "generated", "div": f"{DIV}<p>one <b>2</b> three</p></div>"}),
    ),
    "4.2: another prefix": (
        diff('<replace sel="x:Patient/x:birthDate/@value">1930</replace>', 'xmlns:x="http://hl7.org/fhir"'),
        changed(birthDate="1930"),
    ),
    "each on the result of the one before": (
        diff('<add sel="f:Patient"><f:contact><f:gender value="male"/></f:contact></add><remove sel="f:Patient/f:contact/f:gender"/>'),
        PATIENT,
    ),
}  # fmt: skip


@pytest.mark.parametrize("rule", APPLIED)
def test_operations(rule: str) -> None:
    body, expected = APPLIED[rule]
    assert apply(PATIENT, body) == expected


def test_numbers_and_texts_that_are_not_touched_stay_as_they_are() -> None:
    body = b'{"resourceType":"Observation","status":"final","code":{"text":" a\\n"},"valueQuantity":{"value":1.00}}'
    made = apply(parse(body), diff("<replace sel='Observation/status/@value'>amended</replace>"))
    assert serialize(made) == body.replace(b"final", b"amended")


INAPPLICABLE: dict[str, tuple[str, str]] = {
    "no node": ('<remove sel="f:Patient/f:gender"/>', "leads to no nodes"),
    "several nodes": ('<remove sel="f:Patient/f:identifier"/>', "leads to 2 nodes"),
    "another resource": ('<remove sel="f:Observation/f:status"/>', "leads to no nodes"),
    "the resource removed": ('<remove sel="f:Patient"/>', "whole resource"),
    "the resource replaced": (f'<replace sel="f:Patient"><Patient {FHIR}/></replace>', "whole resource"),
    "before the resource": (f'<add sel="f:Patient" pos="before"><Patient {FHIR}/></add>', "before or after the resource"),
    "an attribute that is there": ('<add sel="f:Patient/f:active" type="@value">false</add>', "there already"),
    "another order": ('<add sel="f:Patient"><f:gender value="male"/></add>', "comes after birthDate"),
    "an unknown element": ('<add sel="f:Patient"><f:surname value="x"/></add>', "has the element surname"),
    "an element without namespace": ('<add sel="f:Patient"><maritalStatus><text value="x"/></maritalStatus></add>', "has the element"),
    "an unknown attribute": ('<add sel="f:Patient/f:active" type="@class">x</add>', "has the attribute class"),
    "text": ('<add sel="f:Patient">x</add>', "has text"),
    "an empty value": ('<replace sel="f:Patient/f:birthDate/@value"/>', "empty attribute"),
    "a wrong value": ('<replace sel="f:Patient/f:active/@value">yes</replace>', "neither true nor false"),
}  # fmt: skip


@pytest.mark.parametrize("what", INAPPLICABLE)
def test_what_does_not_fit_is_a_422(what: str) -> None:
    operation, words = INAPPLICABLE[what]
    with pytest.raises(PatchError, match=words) as caught:
        apply(PATIENT, diff(operation))
    assert caught.value.status == 422
    assert "Secret" not in str(caught.value)


MALFORMED: dict[str, bytes] = {
    "no XML": b"<diff>",
    "nothing": b"",
    "a DOCTYPE": b'<!DOCTYPE diff [<!ENTITY e SYSTEM "file:///etc/passwd">]><diff><add sel="Patient">&e;</add></diff>',
    "another root": b"<patch/>",
    "another operation": diff('<move sel="f:Patient/f:name"/>'),
    "an operation of another namespace": diff('<f:remove sel="f:Patient/f:name"/>'),
    "an element replaced by two": diff('<replace sel="f:Patient/f:name"><f:name/><f:name/></replace>'),
    "an element replaced by text": diff('<replace sel="f:Patient/f:name">x</replace>'),
    "an attribute replaced by an element": diff('<replace sel="f:Patient/f:active/@value"><f:x/></replace>'),
    "an attribute added to": diff('<add sel="f:Patient/f:active/@value">x</add>'),
    "an unknown place": diff('<add sel="f:Patient/f:name" pos="inside"><f:x/></add>'),
    "a namespace added": diff('<add sel="f:Patient" type="namespace::x">urn:x</add>'),
    "an attribute of another namespace": diff('<add sel="f:Patient" type="@x:y">urn:x</add>'),
    "an unknown prefix": diff('<remove sel="x:Patient/x:name"/>'),
    "a selector of 2,001 characters": diff(f'<remove sel="{"*/" * 1000}*"/>'),
    "a selector of 20,000 characters": diff(f"""<remove sel="*{"[*/@value='x']" * 1500}"/>"""),
    "too many": diff('<remove sel="f:Patient/f:nothing"/>' * 1001),
    **{
        f"the selector {sel}": diff(f'<remove sel="{sel}"/>')
        for sel in (
            "", "/", "//f:name", "f:Patient//f:name", "..", "f:Patient/..", ".", "document('file:///etc/passwd')", "f:Patient/f:name | f:Patient/f:active",
            "f:Patient/f:name[count(f:given)=2]", "f:Patient/f:name[last()]", "f:Patient/f:name[position()=1]", "f:Patient/ancestor::node()",
            "f:Patient/f:name[1", "f:Patient/f:name[$x]", "id('p')", "f:Patient/f:name[f:given/@value='A' or '1'='1']", "f:Patient/namespace::f",
            "f:Patient/@id/f:name", "f:Patient/f:name[99999999999]", "string(/)", "1",
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("what", MALFORMED)
def test_what_is_no_patch_is_a_400(what: str) -> None:
    with pytest.raises(PatchError) as caught:
        apply(PATIENT, MALFORMED[what])
    assert caught.value.status == 400


def test_a_patch_can_nest_no_deeper_than_a_resource() -> None:
    deep = "<f:extension url='urn:x'>" * 40 + "<f:valueCode value='c'/>" + "</f:extension>" * 40
    with pytest.raises(PatchError, match="nested more than 64") as caught:
        apply(PATIENT, diff(f'<add sel="f:Patient/f:identifier[1]" pos="before">{deep}</add>'))
    assert caught.value.status == 422


def test_the_resource_itself_stays_as_it_is() -> None:
    before = repr(PATIENT)
    apply(PATIENT, diff('<remove sel="f:Patient/f:name"/>'))
    assert repr(PATIENT) == before


# --- work


WIDE: Json = {
    "resourceType": "List", "status": "current", "mode": "working",
    "entry": [{"item": {"reference": f"Patient/{number}"}} for number in range(20_000)],
}  # fmt: skip


def refusal(resource: Json, patch: bytes) -> PatchError:
    with pytest.raises(PatchError) as refused:
        apply(resource, patch)
    return refused.value


def test_what_selectors_go_through_is_limited() -> None:
    """Each goes through the whole document, and once more for each condition: 1 MB here."""
    condition = "[f:item/f:reference/@value='Patient/7']"
    for conditions, most in ((1, 150), (16, 20)):
        sel = f"f:List/f:entry{condition * conditions}/f:item/f:reference/@value"
        operation = f'<replace sel="{sel}">Patient/7</replace>'
        assert apply(WIDE, diff(operation * 3)) == WIDE
        problem = refusal(WIDE, diff(operation * most))
        assert (problem.status, problem.issue.code) == (422, "too-costly")
    assert apply(PATIENT, diff('<replace sel="f:Patient/f:active/@value">true</replace>' * 1000)) == PATIENT


def test_conditions_are_limited_and_brackets_in_texts_are_none() -> None:
    use = "[f:use/@value='usual']"
    last = '<replace sel="f:Patient/f:identifier{}/f:value/@value">1</replace>'
    assert apply(PATIENT, diff(last.format(use * 16))) == PATIENT
    problem = refusal(PATIENT, diff(last.format(use * 17)))
    assert (problem.status, "at most 16 conditions" in str(problem)) == (400, True)
    assert "no nodes" in str(refusal(PATIENT, diff(last.format("[f:use/@value='" + "[" * 100 + "']"))))


@pytest.mark.parametrize("more", [' a{}="1"', ' xmlns:a{}="urn:{}"'])
def test_attributes_and_prefixes_of_an_operation_are_limited(more: str) -> None:
    many = "".join(more.format(number, number) for number in range(50_000))
    problem = refusal(PATIENT, diff(f'<remove sel="f:Patient/f:active"{many}/>'))
    assert (problem.status, "at most 100 attributes" in str(problem)) == (400, True)


@pytest.mark.parametrize("where", ["", 'pos="prepend"', 'pos="after"'])
def test_a_million_bytes_are_added_at_once(where: str) -> None:
    """One by one each would be counted to its place."""
    sel = "f:Patient/f:name" if where.endswith('"after"') else "f:Patient/f:name[1]"
    names = [{"text": str(number)} for number in range(20_000)]
    if where.endswith('"after"'):
        added = "".join(f'<name {FHIR}><text value="{each["text"]}"/></name>' for each in names)
        assert apply(PATIENT, diff(f'<add sel="{sel}" {where}>{added}</add>'))["name"] == [*PATIENT["name"], *names]
    else:
        added = "".join(f'<extension {FHIR} url="u"><valueCode value="{each["text"]}"/></extension>' for each in names)
        if where:
            extended = apply(PATIENT, diff(f'<add sel="{sel}" {where}>{added}</add>'))["name"][0]["extension"]
            assert [each["valueCode"] for each in extended] == [each["text"] for each in names]
        else:
            assert "order" in str(refusal(PATIENT, diff(f'<add sel="{sel}">{added}</add>')))
