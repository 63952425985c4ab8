"""TLS to the Collector: certificates that are wrong, expired or replaced. Nothing is lost by any of it."""

from __future__ import annotations

import asyncio
import logging
import shutil
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from receiver.exporters.otlp_grpc import Config, Exporter
from tests.receiver.exporters.otlp_server import Answer, Server, request, serve
from tests.receiver.exporters.running import NEVER, pipeline, until
from tests.receiver.net.certificates import Authority, Pair
from translators.batch import Signal

if TYPE_CHECKING:
    from pathlib import Path

    from receiver.telemetry import Telemetry

pytestmark = pytest.mark.timeout(20)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Who signs what both sides trust."""
    return make(tmp_path / "authority")


def make(folder: Path) -> Authority:
    """An authority in a folder of its own."""
    folder.mkdir()
    return Authority(folder)


def server_side(pair: Pair, clients_of: Authority | None = None) -> grpc.ServerCredentials:
    """A server's certificate; with ``clients_of`` clients need one of that authority."""
    roots = clients_of.ca_file.read_bytes() if clients_of is not None else None
    content = (pair.key_file.read_bytes(), pair.cert_file.read_bytes())
    return grpc.ssl_server_credentials([content], roots, require_client_auth=roots is not None)


def client_side(ca_file: Path, pair: Pair | None = None) -> dict[str, Any]:
    """The ``tls`` section of a client that expects ``collector.test``."""
    tls = {"ca_file": str(ca_file), "server_name_override": "collector.test"}
    if pair is not None:
        tls |= {"cert_file": str(pair.cert_file), "key_file": str(pair.key_file)}
    return tls


def replace(file: Path, by: Path) -> None:
    """Replace a file in one step, as a certificate's manager does."""
    copy = file.with_suffix(".new")
    shutil.copy(by, copy)
    copy.rename(file)


@pytest.mark.parametrize(
    ("name", "days", "is_known", "remedy"),
    [
        ("elsewhere.test", 2, True, "set tls.server_name_override"),
        ("collector.test", -1, True, "has expired"),
        ("collector.test", 2, False, "is not signed by what tls.ca_file holds"),
    ],
    ids=["name", "expired", "authority"],
)
async def test_wrong_certificate_is_held_until_it_is_right(
    telemetry: Telemetry, tmp_path: Path, authority: Authority, *, name: str, days: int, is_known: bool, remedy: str
) -> None:
    """The remedy is named; when the server has the right certificate, the records leave."""
    signer = authority if is_known else make(tmp_path / "other")
    wrong, state = server_side(signer.issue(name, days=days)), Server()
    async with serve(state, wrong):
        endpoint = state.endpoint
    async with pipeline(endpoint, telemetry, tls=client_side(authority.ca_file)) as running:
        async with serve(state, wrong):
            delivered = await running.put([request(records=3)], wait=True)
            await until(telemetry.remedies)
            assert remedy in telemetry.remedies()[Signal.LOGS]
        async with serve(state, server_side(authority.issue("collector.test"))):
            await delivered
    assert len(state.taken) == 1


async def test_server_without_tls_is_named(server: Server, telemetry: Telemetry, authority: Authority) -> None:
    """Plain text where TLS is expected is no broken connection."""
    async with pipeline(server.endpoint, telemetry, tls=client_side(authority.ca_file)) as running:
        await running.put([request()], wait=True)
        await until(telemetry.remedies)
        assert "does not speak TLS" in telemetry.remedies()[Signal.LOGS]


async def test_what_a_server_says_of_its_own_connections_is_not_ours(server: Server, telemetry: Telemetry) -> None:
    """A Collector that cannot reach its backend is retried."""
    server.script.append(
        Answer(grpc.StatusCode.UNAVAILABLE, "Tls handshake failed: SSL_ERROR_SSL: certificate has expired")
    )
    async with pipeline(server.endpoint, telemetry, NEVER) as running:
        await (await running.put([request()], wait=True))
    assert len(server.taken) == 1


async def test_authority_that_is_replaced(telemetry: Telemetry, tmp_path: Path, authority: Authority) -> None:
    """With the new authority's file in place the records leave, though the next attempt is far."""
    trusted = tmp_path / "ca.pem"
    shutil.copy(authority.ca_file, trusted)
    successor = make(tmp_path / "successor")
    async with (
        serve(Server(), server_side(successor.issue("collector.test"))) as server,
        pipeline(server.endpoint, telemetry, NEVER, tls=client_side(trusted)) as running,
    ):
        delivered = await running.put([request()], wait=True)
        await until(telemetry.remedies)
        replace(trusted, successor.ca_file)
        await delivered
    assert len(server.taken) == 1


async def test_connection_that_was_replaced_is_closed(
    telemetry: Telemetry, tmp_path: Path, authority: Authority
) -> None:
    """By the next request, so that rotations leave nothing behind."""
    trusted = tmp_path / "ca.pem"
    shutil.copy(authority.ca_file, trusted)
    async with serve(Server(), server_side(authority.issue("collector.test"))) as server:
        config = Config.model_validate({"endpoint": server.endpoint, "tls": client_side(trusted)})
        exporter = Exporter(config, telemetry, first_connection_spread_s=0)
        await exporter.export(request())
        first = exporter._link._current.channel
        replace(trusted, authority.ca_file)
        await until(exporter._link.renew)
        await exporter.export(request())
        assert first.get_state() is grpc.ChannelConnectivity.SHUTDOWN
        await exporter.close()
    assert len(server.taken) == 2


async def test_client_certificate_that_is_replaced(
    telemetry: Telemetry, tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """A connection that works goes on while one file is new and the other old, and is made anew with both."""
    caplog.set_level(logging.INFO)
    used = Pair(tmp_path / "client.pem", tmp_path / "client.key")
    for file, content in zip(used, authority.issue("one.test"), strict=True):
        shutil.copy(content, file)
    following = authority.issue("two.test")
    names: list[bytes] = []

    class Named(Server):
        async def answer(self, method: str, data: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
            names.extend(context.auth_context()["x509_subject_alternative_name"])  # type: ignore[arg-type]  # bytes
            return await super().answer(method, data, context)

    credentials = server_side(authority.issue("collector.test"), clients_of=authority)
    async with (
        serve(Named(), credentials) as server,
        pipeline(server.endpoint, telemetry, tls=client_side(authority.ca_file, used)) as running,
    ):
        await (await running.put([request()], wait=True))
        replace(used.cert_file, following.cert_file)
        await asyncio.sleep(1.1)  # files are looked at once a second
        await (await running.put([request()], wait=True))
        assert "is not the private key of the certificate" in caplog.text
        replace(used.key_file, following.key_file)
        await asyncio.sleep(1.1)
        await (await running.put([request()], wait=True))
        assert "were read anew" in caplog.text
        await (await running.put([request()], wait=True))
    assert names == [b"one.test", b"one.test", b"two.test", b"two.test"]
