"""Patients who share, and physicians who open what they were sent, in browsers that run no script."""

import base64
from typing import Any
from urllib.parse import urlsplit

import orjson
from peers.visitor import Pages, Visitor

from server.access import shares
from server.access.shares import Share
from server.records import trail

Json = dict[str, Any]


def made(town: Pages, **fields: Any) -> tuple[Visitor, str, str]:
    """A patient who has shared her first study: her browser, the link, the passcode."""
    visitor = town.signed_in("patient")
    visitor.get("/images")
    study = visitor.tree.xpath("//h3/a/@href")[0].rpartition("/")[2]
    visitor.get("/share/new", study=study)
    visitor.press("Make the link", **{"name": "Dr Berg", "days": "30", "openings": "0", **fields})
    assert visitor.page.status_code == 200, visitor.text
    link = str(visitor.tree.xpath("//input[@id='link']/@value")[0])
    codes = visitor.tree.xpath("//p[@class='secret']/text()")
    return visitor, link, str(codes[0]) if codes else ""


def opened(town: Pages, link: str, passcode: str = "", name: str = "Dr Berg", visitor: Visitor | None = None) -> Visitor:
    """Somebody with the link presses the button, as the page's script has filled in the form."""
    visitor = visitor or town.visitor()
    parts = urlsplit(link)
    visitor.get(parts.path)
    visitor.press("Open the images", secret=parts.fragment, passcode=passcode, name=name)
    return visitor


def share_of(town: Pages, link: str) -> Share:
    with town.site.node.database.read() as connection:
        found = shares.find(connection, urlsplit(link).path.rpartition("/")[2])
    assert found is not None
    return found


def events(town: Pages) -> list[dict[str, Any]]:
    with town.site.node.database.read() as connection:
        return [orjson.loads(each.body) for each in trail.events(connection, limit=5000)]


def health_link(visitor: Visitor) -> str:
    """The SMART Health Link on the page that shows a new share."""
    return str(visitor.tree.xpath("//input[@id='health-link']/@value")[0])


def payload(link: str) -> Json:
    """What a SMART Health Link says, as an app reads it."""
    encoded = link.partition("#shlink:/")[2]
    found: Json = orjson.loads(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
    return found
