"""TLS to partners (ITI TF-2 section 3.19): what is shown to them, whom is believed, and whether names are looked at."""

import ssl

from server import bcp195
from server.settings import Settings


def tls_context(settings: Settings, host: str, port: int) -> ssl.SSLContext:
    """For calling `host`: this server's own certificate, the authorities of `http_tls_ca` (the system's where there are none).

    A certificate has to be for the host unless the partner whose host it is says otherwise (`verify_name`). Raises `SettingsError`.
    """
    names = {host, f"{host}:{port}"}
    partner = next((each for each in settings.partners if names & each.hosts), None)
    return bcp195.client_context(
        "bcp195",
        settings.http_tls_ca,
        settings.http_tls_certificate,
        settings.http_tls_key,
        verify_name=partner is None or partner.verify_name,
    )
