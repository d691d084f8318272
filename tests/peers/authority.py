"""A certificate authority of a test, and the certificates that it issues for this machine."""

import datetime as dt
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class Authority:
    """A certificate authority in a folder. `issue(name)` gives the paths of a certificate and its key."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.key = rsa.generate_private_key(65537, 2048)
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._signed(self.name, self.key, authority=True)
        self.path = self._pem("authority.pem", self.certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, key: Key | None = None, host: str = "") -> tuple[Path, Path]:
        """`host` is a DNS name that the certificate is for, in place of this machine's address."""
        key = key or rsa.generate_private_key(65537, 2048)
        made = self._signed(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key, authority=False, host=host)
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return self._pem(f"{name}.pem", made.public_bytes(serialization.Encoding.PEM)), self._pem(f"{name}.key", private)

    def _pem(self, name: str, data: bytes) -> Path:
        (self.folder / name).write_bytes(data)
        return self.folder / name

    def _signed(self, subject: x509.Name, key: Key, *, authority: bool, host: str = "") -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        own = x509.DNSName(host) if host else x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        names = x509.SubjectAlternativeName([own])
        return (
            x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=30)).add_extension(names, critical=False)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .sign(self.key, hashes.SHA256())
        )  # fmt: skip
