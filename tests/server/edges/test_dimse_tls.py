"""DICOM over TLS (PS3.15 sections B.12 and B.13): dcmtk's programs and our own requestor against the port."""

import socket
import ssl
import subprocess
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from peers.authority import Authority, Key
from peers.imageshare import node
from peers.scanner import instances, listening, stored_bytes, written

from ihe.dimse import Command, CommandField
from ihe.pdu import ProposedContext
from server.association import Rejected, Unreachable, connect
from server.bcp195 import PROFILES, client_context, server_context
from server.edges.dimse import DicomPort
from server.errors import SettingsError
from server.records.peers import Peer

VERIFICATION = "1.2.840.10008.1.1"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def secured(authority: Authority, *, ask: bool, key: Key | None = None) -> dict[str, object]:
    certificate, private = authority.issue("server" if key is None else "server-ec", key)
    named = {"dicom_tls_port": 0, "dicom_tls_certificate": certificate, "dicom_tls_key": private}
    return {**named, **({"dicom_tls_ca": authority.path} if ask else {})}


def number(scp: DicomPort) -> int:
    assert scp.tls_address is not None
    return scp.tls_address[1]


def echoes(scp: DicomPort, context: ssl.SSLContext, host: str = "127.0.0.1") -> bool:
    proposed = (ProposedContext(1, VERIFICATION, ("1.2.840.10008.1.2",)),)
    association = connect(host, number(scp), calling="US", called="IMAGESHARE", contexts=proposed, tls=context)
    association.send(1, Command(field=CommandField.C_ECHO_RQ, message_id=1, affected_sop_class_uid=VERIFICATION))
    answer = association.receive().command.status
    association.release()
    return answer == 0


@pytest.mark.parametrize("profile", ["+py", "+px", "+pz"])
def test_dcmtk_stores_over_tls(tmp_path: Path, authority: Authority, dcmtk: Callable[[str], Path], profile: str) -> None:
    (dataset,) = instances()
    dataset.Rows = dataset.Columns = 1024  # more than fits into one record, and into one read
    dataset.PixelData = bytes(range(256)) * (1024 * 1024 * 2 // 256)
    dataset.save_as(tmp_path / "one.dcm", enforce_file_format=True)
    certificate, key = authority.issue("device")
    with node(tmp_path / "data", **secured(authority, ask=True)) as opened, listening(opened) as scp:
        for program, files in (("echoscu", []), ("storescu", [tmp_path / "one.dcm"])):
            command = [
                dcmtk(program),
                "+tls",
                key,
                certificate,
                "+cf",
                authority.path,
                profile,
                "-aec",
                "IMAGESHARE",
                "127.0.0.1",
            ]
            done = subprocess.run([*command, str(number(scp)), *files], capture_output=True, text=True, check=False, timeout=60)
            assert done.returncode == 0, done.stderr
        assert stored_bytes(opened, dataset.SOPInstanceUID) == written(dataset)


def test_without_a_certificate_that_is_asked_for_there_is_no_association(
    tmp_path: Path, authority: Authority, dcmtk: Callable[[str], Path]
) -> None:
    stranger = Authority(tmp_path / "stranger", "stranger").issue("device")
    with node(tmp_path / "data", **secured(authority, ask=True)) as opened, listening(opened) as scp:
        options = {"anonymous": ["+tla"], "stranger": ["+tls", stranger[1], stranger[0]]}
        for option in options.values():
            command = [dcmtk("echoscu"), *option, "+cf", authority.path, "-aec", "IMAGESHARE", "127.0.0.1", str(number(scp))]
            assert subprocess.run(command, capture_output=True, check=False, timeout=60).returncode != 0
        command = [dcmtk("echoscu"), "-aec", "IMAGESHARE", "127.0.0.1", str(scp.address[1])]
        assert subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0, "the other port is open"


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_our_own_requestor_over_tls(tmp_path: Path, authority: Authority, profile: str, version: ssl.TLSVersion) -> None:
    settings = secured(authority, ask=True, key=ec.generate_private_key(ec.SECP256R1()))
    with node(tmp_path / "data", dicom_tls_profile=profile, **settings) as opened, listening(opened) as scp:
        context = client_context(profile, authority.path, *authority.issue("us"))
        context.maximum_version = version
        assert echoes(scp, context)


@pytest.mark.parametrize("mode", ["on", "verify"])
def test_a_peer_with_tls_is_not_admitted_without(tmp_path: Path, authority: Authority, mode: str) -> None:
    with node(tmp_path / "data", **secured(authority, ask=False)) as opened, listening(opened) as scp:
        opened.peers.add(Peer("US", network="127.0.0.1", host="127.0.0.1", port=104, tls=mode))
        opened.peers.add(Peer("CT", network="127.0.0.1"))
        proposed = (ProposedContext(1, VERIFICATION, ("1.2.840.10008.1.2",)),)
        with pytest.raises(Rejected):
            connect(*scp.address, calling="US", called="IMAGESHARE", contexts=proposed)
        connect(*scp.address, calling="CT", called="IMAGESHARE", contexts=proposed).release()
        assert echoes(scp, client_context("bcp195", authority.path))


def test_a_peer_is_who_its_certificate_says(tmp_path: Path, authority: Authority) -> None:
    with node(tmp_path / "data", dicom_host="127.0.0.2", **secured(authority, ask=False)) as opened:
        scp = DicomPort(opened, ("127.0.0.2", 0))
        scp.start()
        try:
            with pytest.raises(Unreachable, match="IP address mismatch"):
                echoes(scp, client_context("bcp195", authority.path), "127.0.0.2")
            assert echoes(scp, client_context("bcp195", authority.path, verify_name=False), "127.0.0.2")
            with pytest.raises(Unreachable, match="no TLS"):
                echoes(scp, client_context("bcp195", Authority(tmp_path / "other", "other").path, verify_name=False), "127.0.0.2")
        finally:
            scp.stop()


@pytest.mark.parametrize(
    ("version", "suites"),
    [
        (ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0"),
        (ssl.TLSVersion.TLSv1_2, "AES128-SHA:AES256-GCM-SHA384:ECDHE-RSA-AES128-SHA256"),
    ],
)
def test_nothing_weaker_is_agreed_to(tmp_path: Path, authority: Authority, version: ssl.TLSVersion, suites: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(authority.path)
    context.set_ciphers(suites)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TLS 1.1, which is what is to be shown
        context.minimum_version = context.maximum_version = version
    with node(tmp_path / "data", **secured(authority, ask=False)) as opened, listening(opened) as scp:
        with pytest.raises(Unreachable, match="no TLS"):
            echoes(scp, context)


def test_handshakes_that_go_nowhere_keep_nobody_out(tmp_path: Path, authority: Authority) -> None:
    with node(tmp_path / "data", association_idle=5, **secured(authority, ask=False)) as opened, listening(opened) as scp:
        before = threading.active_count()
        idle = [socket.create_connection(("127.0.0.1", number(scp))) for _ in range(60)]
        for each in idle[:20]:
            each.sendall(b"\x16\x03\x01\x02\x00\x01")  # the beginning of a ClientHello
        for each in idle[20:30]:
            each.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert echoes(scp, client_context("bcp195", authority.path))
        assert threading.active_count() <= before + 1
        for each in idle:
            each.close()


def test_a_port_without_what_it_needs_does_not_open(tmp_path: Path, authority: Authority) -> None:
    certificate, key = authority.issue("server")
    (tmp_path / "none.pem").write_text("no certificate")
    for settings, words in (
        ({}, "IMAGESHARE_DICOM_TLS_CERTIFICATE"),
        ({"dicom_tls_certificate": tmp_path / "none.pem"}, "dicom_tls_certificate: .* no certificate in PEM"),
        ({"dicom_tls_certificate": certificate}, "dicom_tls_key: .* no private key in PEM"),
        ({"dicom_tls_certificate": certificate, "dicom_tls_key": key, "dicom_tls_ca": tmp_path / "none.pem"}, "dicom_tls_ca"),
    ):
        with node(tmp_path / "data", dicom_tls_port=0, **settings) as opened, pytest.raises(SettingsError, match=words):
            DicomPort(opened, ("127.0.0.1", 0)).start()


def test_a_key_with_a_password_is_refused_and_not_asked_for(authority: Authority, tmp_path: Path) -> None:
    certificate, _ = authority.issue("server")
    secret = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    )
    (tmp_path / "secret.key").write_bytes(secret)
    with pytest.raises(SettingsError, match="key has a password"):
        server_context("bcp195", certificate, tmp_path / "secret.key", None)
