"""PS3.15 annex B: DICOM's Secure Transport Connection Profiles for TLS, as contexts of `ssl`, for both sides of a connection."""

import contextlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from server import files


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile's section of PS3.15 and its cipher suites for TLS 1.2, in OpenSSL's names, most wanted first.

    TLS 1.3 is offered with OpenSSL's own three suites, of which both profiles permit all.
    """

    section: str
    suites: tuple[str, ...]


PROFILES: Final[Mapping[str, Profile]] = {
    # BCP 195 RFC 8996, 9325: the four suites of RFC 9325 section 4.2, and nothing weaker. Meets also the retired B.9 and B.10.
    "bcp195": Profile(
        "B.12",
        (
            "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384",
            "ECDHE-RSA-AES256-GCM-SHA384",
        ),
    ),
    # The modified profile, which prefers 256 bit and permits ChaCha20 and CCM
    "bcp195-modified": Profile(
        "B.13",
        (
            "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-AES256-GCM-SHA384",
            "ECDHE-RSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256",
        ),
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Named:
    """How settings name the files: what stands before `certificate` and `key`, and before `ca`."""

    own: str = ""
    ca: str = ""


def server_context(profile: str, certificate: Path, key: Path | None, authority: Path | None, named: str = "") -> ssl.SSLContext:
    """For a port that takes TLS and nothing else. With `authority` a peer must show a certificate that it has signed.

    `named` is what stands before `certificate`, `key` and `ca` in the settings. Raises `SettingsError` for files that are none.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, profile)
    _load(context, certificate, key, authority, Named(named, named))
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    if authority is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(
    profile: str,
    authority: Path | None,
    certificate: Path | None = None,
    key: Path | None = None,
    *,
    verify_name: bool = True,
    named: Named = Named(),
) -> ssl.SSLContext:
    """For connections to peers whose certificates `authority` has signed (the system's where it is None).

    Without `verify_name` a certificate need not be for the host that is called: many devices have one for no host at all.
    Raises `SettingsError` for files that are none.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT, profile)
    context.check_hostname = verify_name
    if authority is None:
        context.load_default_certs()
    _load(context, certificate, key, authority, named)
    return context


def _context(protocol: "ssl._SSLMethod", profile: str) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(":".join(PROFILES[profile].suites))
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    return context


def _load(context: ssl.SSLContext, certificate: Path | None, key: Path | None, authority: Path | None, named: Named) -> None:
    if certificate is not None:
        _load_own(context, certificate, key, named.own)
    if authority is not None:
        setting = f"{named.ca}ca"
        files.read(authority, setting)
        with contextlib.suppress(ssl.SSLError):
            context.load_verify_locations(authority)
        if not context.cert_store_stats()["x509"]:
            raise files.unusable(authority, setting, files.NO_CERTIFICATE)


def _load_own(context: ssl.SSLContext, certificate: Path, key: Path | None, named: str) -> None:
    files.read(certificate, f"{named}certificate")
    setting, path = f"{named}key", key or certificate
    files.read(path, setting)
    try:
        context.load_cert_chain(certificate, key, password=_none)
    except ssl.SSLError as error:
        files.certificates((certificate,), f"{named}certificate")
        raise files.unusable(path, setting, _why(error)) from None
    except ValueError:
        raise files.unusable(path, setting, "the key has a password; take one without") from None


def _why(error: ssl.SSLError) -> str:
    """OpenSSL's reason, such as EE_KEY_TOO_SMALL, in words; where no key was found it has none, or one about PEM."""
    if error.reason == "KEY_VALUES_MISMATCH":
        return "the key is not that of the certificate"
    if not error.reason or any(each in error.reason for each in ("PEM", "DECODER", "START_LINE", "UNSUPPORTED")):
        return "there is no private key in PEM in it"
    return error.reason.replace("_", " ").lower()


def _none() -> str:
    """A key with a password is refused: nobody is there to be asked."""
    raise ValueError("the key has a password")
