"""FHIR R4 section 2.4.2: what narratives may have in them."""

import pytest

from profiles.fhir.narrative import problem

DIV = '<div xmlns="http://www.w3.org/1999/xhtml">'


@pytest.mark.parametrize(
    "inner",
    [
        "text", "<p>a</p>", "a<br/>b<hr/>", "<table border='1'><tr><td colspan='2'>a</td></tr></table>", "<a href='https://a.b'>c</a>", "<a name='x'>c</a>",
        "<a href='#x'>c</a>", "<img src='a.png'/>", "<img src='data:image/png;base64,QQ=='/>", "<!-- c -->a", "<b style='color: red'>a</b>", "a&lt;b&#160;",
        "<p xml:lang='de' lang='de'>ü</p>", "<a href='mailto:a@b.c'>m</a>", "<a href='Patient/1'>m</a>",
    ],
)  # fmt: skip
def test_formatting_passes(inner: str) -> None:
    assert not problem(f"{DIV}{inner}</div>")


@pytest.mark.parametrize(
    ("inner", "rule"),
    [
        ("<script>x</script>", "txt-1"), ("<object>x</object>", "txt-1"), ("<form>x</form>", "txt-1"), ("<iframe src='a'>x</iframe>", "txt-1"),
        ("<p onclick='x()'>a</p>", "txt-1"), ("<a href='javascript:x()'>a</a>", "txt-1"), ("<a href=' java&#10;script:x()'>a</a>", "txt-1"),
        ("<a href='data:text/html,x'>a</a>", "txt-1"), ("<img src='data:text/html,x'/>", "txt-1"), ("<p xmlns=''>a</p>", "txt-1"),
        ("<?php x?>a", "txt-1"), ("<link href='a'/>x", "txt-1"), ("<svg xmlns='http://www.w3.org/2000/svg'/>x", "txt-1"),
        ("", "txt-2"), (" \n ", "txt-2"), ("<p> </p>", "txt-2"), ("<img alt='a'/>", "txt-2"),
        ("&nbsp;a", "well-formed"), ("<p>a", "well-formed"), ("<br>", "well-formed"), ("<a:b>c</a:b>", "well-formed"),
    ],
)  # fmt: skip
def test_what_acts_or_is_empty_or_broken_is_refused(inner: str, rule: str) -> None:
    assert rule in problem(f"{DIV}{inner}</div>")


@pytest.mark.parametrize(
    "text",
    [
        "text", "<div>a</div>", '<p xmlns="http://www.w3.org/1999/xhtml">a</p>', f"{DIV}a</div>{DIV}b</div>",
        f'<!DOCTYPE div [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]>{DIV}&b;</div>', f'<?xml version="1.0" encoding="UTF-8"?>{DIV}a</div>',
        f"{DIV}{'<p>' * 300}a{'</p>' * 300}</div>",
    ],
    ids=lambda text: text[:20],
)  # fmt: skip
def test_a_narrative_is_one_div_without_declarations(text: str) -> None:
    assert problem(text)
    assert "aaaa" not in problem(text)


def test_a_million_bytes_of_attributes_are_not_looked_up() -> None:
    """Each lookup goes through the list of all: 100,000 of them would take minutes."""
    many = "".join(f' a{number}="1"' for number in range(100_000))
    assert len(many) > 1_000_000
    assert "attribute" in problem(f"{DIV}<p{many}>a</p></div>")
