"""Certificates and tokens that are wrong, have expired, or are replaced while everything runs."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from peers.processes import until

from tests.receiver.net.certificates import Authority, Pair

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.parts import Fault


class Files:
    """Where a process looks for its certificate; what lies there is replaced as certificate tools do it."""

    def __init__(self, folder: Path, name: str) -> None:
        """Name the files; there are none yet."""
        self.cert_file, self.key_file = folder / f"{name}.crt", folder / f"{name}.key"

    def put(self, pair: Pair) -> None:
        """Replace both files."""
        for new, path in ((pair.key_file, self.key_file), (pair.cert_file, self.cert_file)):
            _replace(path, new.read_text())

    def settings(self) -> dict[str, str]:
        """The keys of a ``tls`` section."""
        return {"cert_file": str(self.cert_file), "key_file": str(self.key_file)}


def _replace(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    new.chmod(0o600)
    new.replace(path)


@pytest.fixture
def authorities(tmp_path: Path) -> tuple[Authority, Authority]:
    """Two authorities that know nothing of each other."""
    if shutil.which("openssl") is None:
        pytest.fail("the openssl command is needed to make certificates", pytrace=False)
    folders = [tmp_path / name for name in ("authority", "other")]
    for folder in folders:
        folder.mkdir()
    return Authority(folders[0]), Authority(folders[1])


@pytest.mark.timeout(90)
def test_wrong_and_expired_certificates_are_held(fault: Fault, authorities: tuple[Authority, Authority]) -> None:
    """Each costs nothing, is told with its remedy, and is over when the Collector has the right certificate."""
    ours, other = authorities
    files = Files(fault.folder, "collector")
    files.put(other.issue("localhost"))
    collector = fault.collector(receiver={"tls": files.settings()})
    tls = {"ca_file": str(ours.ca_file), "server_name_override": "localhost"}
    otelbee = fault.run(collector.endpoint, exporter={"tls": tls})
    fault.sender().acknowledged(500)
    until(lambda: "is not signed by what tls.ca_file holds" in otelbee.errors(), "it says that it is another authority")
    for pair, says in (
        (ours.issue("elsewhere"), "has another name"),
        (ours.issue("localhost", days=-1), "has expired"),
    ):
        files.put(pair)
        collector.kill()
        collector.start()
        otelbee.until(lambda says=says: says in otelbee.errors(), f"it says that the certificate {says}")
    assert otelbee.metric("otelbee_exporter_held", data_type="logs") == 1
    assert not fault.delivered()
    files.put(ours.issue("localhost"))
    collector.kill()
    collector.start()
    fault.arrives(1000)
    fault.survived("wrong, then expired, then the right certificate")


@pytest.mark.timeout(90)
def test_certificates_are_rotated(fault: Fault, authorities: tuple[Authority, Authority]) -> None:
    """The Collector's and the listener's move to another authority while records flow; nobody is restarted for it."""
    old, new = authorities
    behind, before = Files(fault.folder, "collector"), Files(fault.folder, "listener")
    behind.put(old.issue("localhost"))
    before.put(old.issue("localhost"))
    trusted = fault.folder / "trusted.pem"
    _replace(trusted, old.ca_file.read_text())
    collector = fault.collector(receiver={"tls": {**behind.settings(), "reload_interval": "1s"}})
    otelbee = fault.run(
        collector.endpoint,
        exporter={"tls": {"ca_file": str(trusted), "server_name_override": "localhost"}},
        grpc={"tls": before.settings()},
    )
    fault.sender("old", ca_file=str(old.ca_file))
    fault.arrives(500)

    _replace(trusted, new.ca_file.read_text())
    behind.put(new.issue("localhost"))
    before.put(new.issue("localhost"))
    otelbee.until(lambda: "The files of tls were read anew" in otelbee.errors(), "it has read who is trusted anew")
    collector.kill()  # no connection from before is left
    collector.start()
    fault.sender("new", ca_file=str(new.ca_file)).acknowledged(500)
    fault.arrives(1000)
    fault.survived("rotated certificates, in and out")


@pytest.mark.timeout(90)
def test_expired_client_certificate_is_replaced(fault: Fault, authorities: tuple[Authority, Authority]) -> None:
    """mTLS: the Collector refuses otelbee until the file holds a certificate that is valid."""
    ours, _ = authorities
    client, server = Files(fault.folder, "otelbee"), Files(fault.folder, "collector")
    server.put(ours.issue("localhost"))
    client.put(ours.issue("otelbee", days=-1))
    collector = fault.collector(receiver={"tls": {**server.settings(), "client_ca_file": str(ours.ca_file)}})
    tls = {"ca_file": str(ours.ca_file), "server_name_override": "localhost", **client.settings()}
    otelbee = fault.run(collector.endpoint, exporter={"tls": tls})
    fault.sender().acknowledged(1000)
    otelbee.until(lambda: "Exporting " in otelbee.errors(), "it says that it cannot export")
    assert not fault.delivered()
    client.put(ours.issue("otelbee"))
    fault.arrives(1000)
    fault.survived("expired client certificate, then a new one")


@pytest.mark.timeout(90)
def test_wrong_token_for_a_while(fault: Fault) -> None:
    """Refused with the wrong token, all is kept; with the right one in the file it is delivered."""
    token = fault.folder / "token"
    _replace(token, "wrong-token\n")
    collector = fault.collector(
        receiver={"auth": {"authenticator": "bearertokenauth"}},
        extensions={"bearertokenauth": {"token": "right-token"}},
    )
    auth = {"bearertokenauth": {"filename": str(token)}}
    otelbee = fault.run(collector.endpoint, exporter={"auth": auth})
    sender = fault.sender()
    otelbee.until(lambda: otelbee.metric("otelbee_exporter_held", data_type="logs"), "logs are held")
    sender.acknowledged(2000)
    assert not fault.delivered()
    _replace(token, "right-token\n")
    fault.arrives(2000)
    assert otelbee.errors().count("Exporting logs is held; ") == 1
    assert "-token" not in otelbee.errors(), "it shows a secret"
    fault.survived("wrong token for a while, then the right one")
