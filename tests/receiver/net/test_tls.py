"""TLS of clients: the Collector's keys, and errors that name the file and the remedy."""

from __future__ import annotations

import os
import ssl
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from peers.processes import open_to_others
from pydantic import ValidationError

from receiver.errors import StartError
from receiver.net.tls import ClientTLS
from tests.receiver.net.certificates import Authority

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Read = Callable[[ClientTLS], object]


BOTH = pytest.mark.parametrize("read", [ClientTLS.credentials, ClientTLS.context], ids=["grpc", "asyncio"])
"""Each way to read the files finds the same errors."""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """A certificate authority of this test."""
    return Authority(tmp_path)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"insecure_skip_verify": True}, "gRPC for Python cannot skip the verification"),
        ({"min_version": "1.3"}, "gRPC for Python cannot refuse TLS 1.2"),
        ({"min_version": 1.1}, "never speaks TLS below 1.2"),
        ({"min_version": "2"}, "should be '1.2'"),
        ({"cert_file": "c.pem"}, "cert_file needs key_file as well"),
        ({"key_file": "k.pem"}, "key_file needs cert_file as well"),
        ({"insecure": True, "ca_file": "c.pem"}, "ca_file and cert_file have no use"),
        ({"reload_interval": "5s"}, "Extra inputs are not permitted"),
    ],
)
def test_what_grpc_cannot_do_is_an_error_of_the_configuration(section: dict[str, Any], message: str) -> None:
    """A key that would have no effect is refused, with what to do instead."""
    with pytest.raises(ValidationError, match=message):
        ClientTLS(**section)


def test_the_collectors_harmless_values_are_accepted() -> None:
    """A ``tls`` section copied from a Collector works where it asks for what gRPC does anyway."""
    tls = ClientTLS.model_validate({"insecure_skip_verify": False, "min_version": 1.2})
    assert tls.credentials() is not None


@BOTH
def test_insecure_has_no_credentials(read: Read) -> None:
    """Plain text reads no file."""
    assert read(ClientTLS(insecure=True)) is None


@BOTH
def test_a_pair_and_its_authority_are_credentials(read: Read, authority: Authority) -> None:
    """Mutual TLS takes three files."""
    pair = authority.issue("client.test")
    tls = ClientTLS(ca_file=authority.ca_file, cert_file=pair.cert_file, key_file=pair.key_file)
    assert read(tls) is not None


@BOTH
def test_a_missing_file_is_named(read: Read, tmp_path: Path) -> None:
    """The error names the key, the file and the remedy."""
    with pytest.raises(StartError, match=r"tls\.ca_file: .*none\.pem does not exist; correct the path or mount"):
        read(ClientTLS(ca_file=tmp_path / "none.pem"))


@BOTH
def test_a_folder_is_no_file(read: Read, tmp_path: Path) -> None:
    """What cannot be read for another reason says which."""
    with pytest.raises(StartError, match=r"tls\.ca_file: .* cannot be read: Is a directory"):
        read(ClientTLS(ca_file=tmp_path))


@BOTH
def test_a_file_that_may_not_be_read_is_named(read: Read, authority: Authority) -> None:
    """Another user's key is told apart from a missing one."""
    pair = authority.issue("client.test")
    pair.key_file.chmod(0)
    tls = ClientTLS(ca_file=authority.ca_file, cert_file=pair.cert_file, key_file=pair.key_file)
    if root := os.geteuid() == 0:
        open_to_others(pair.key_file.parent)
        os.seteuid(65534)
    try:
        with pytest.raises(StartError, match=r"tls\.key_file: .*client\.test\.key may not be read by this user"):
            read(tls)
    finally:
        if root:
            os.seteuid(0)


@BOTH
def test_an_authority_that_is_no_pem_is_named(read: Read, tmp_path: Path) -> None:
    """DER and other content is refused before gRPC would ignore it."""
    path = tmp_path / "ca.der"
    path.write_bytes(b"\x30\x82\x01\xff not PEM")
    with pytest.raises(StartError, match=r"tls\.ca_file: .*ca\.der has no certificate in PEM form"):
        read(ClientTLS(ca_file=path))


@BOTH
def test_a_key_of_another_certificate_names_both_files(read: Read, authority: Authority) -> None:
    """A pair that does not belong together is found before a handshake fails without a reason."""
    one, other = authority.issue("one.test"), authority.issue("other.test")
    with pytest.raises(StartError, match=r"other\.test\.key is not the private key of .*one\.test\.pem"):
        read(ClientTLS(cert_file=one.cert_file, key_file=other.key_file))


@BOTH
def test_an_encrypted_key_is_refused_without_asking(read: Read, authority: Authority, tmp_path: Path) -> None:
    """OpenSSL's question for a password never reaches a terminal."""
    pair = authority.issue("client.test")
    encrypted = tmp_path / "encrypted.key"
    subprocess.run(
        ["openssl", "ec", "-in", pair.key_file, "-aes256", "-passout", "pass:secret", "-out", encrypted],
        check=True,
        capture_output=True,
    )
    with pytest.raises(StartError, match=r"encrypted\.key is encrypted, which gRPC cannot read"):
        read(ClientTLS(cert_file=pair.cert_file, key_file=encrypted))


@BOTH
def test_a_pair_that_is_no_pem_names_both_files(read: Read, authority: Authority, tmp_path: Path) -> None:
    """Content that OpenSSL cannot read is an error of ours, not a traceback."""
    pair = authority.issue("client.test")
    path = tmp_path / "client.txt"
    path.write_text("nothing")
    with pytest.raises(StartError, match=r"client\.txt and tls\.key_file .* are not a PEM pair"):
        read(ClientTLS(cert_file=path, key_file=pair.key_file))


def test_the_scheme_of_an_endpoint_decides() -> None:
    """``https`` turns TLS on and ``http`` off, whatever the section says; no scheme leaves it."""
    plain, secure = ClientTLS(insecure=True), ClientTLS()
    assert [tls.under(scheme).insecure for tls in (plain, secure) for scheme in (None, True, False)] == [
        *(True, False, True),
        *(False, False, True),
    ]


def test_asyncio_accepts_what_grpc_accepts(authority: Authority) -> None:
    """TLS 1.2 and later, the name verified, and only the named authority."""
    context = ClientTLS(ca_file=authority.ca_file).context()
    assert context is not None
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.check_hostname
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert len(context.get_ca_certs()) == 1
