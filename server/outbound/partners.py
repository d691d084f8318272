"""TLS to partners (ITI TF-2 section 3.19): what is shown to them, whom is believed, and whether names are looked at."""

import ssl
from urllib.parse import urlsplit

from server import bcp195
from server.settings import Community, Settings


def tls_context(settings: Settings, url: str, community: Community | None = None) -> ssl.SSLContext:
    """For calling an https address: this server's own certificate, the authorities of `http_tls_ca` (the system's where there are none).

    A `community` may say otherwise of both. A certificate has to be for the host unless the partner whose host it is, or the community, says
    otherwise (`verify_name`). Raises `SettingsError`.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 443
    partner = next((each for each in settings.partners if {host, f"{host}:{port}"} & each.hosts), None)
    verify_name = (partner is None or partner.verify_name) and (community is None or community.verify_name)
    certificate, key, authority = settings.http_tls_certificate, settings.http_tls_key, settings.http_tls_ca
    own = ca = "http_tls_"
    if community is not None and community.certificate is not None:
        certificate, key, own = community.certificate, community.key, f"communities.{community.name}."
    if community is not None and community.ca is not None:
        authority, ca = community.ca, f"communities.{community.name}."
    return bcp195.client_context("bcp195", authority, certificate, key, verify_name=verify_name, named=bcp195.Named(own, ca))
