"""TLS of listeners, and certificates that are replaced, against real clients."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any

import aiohttp
import grpc
import grpc.aio
import pytest

from receiver.errors import StartError
from tests.receiver.net.certificates import Authority, Pair
from tests.receiver.sources.pushed import Running, export, logs, running
from tests.receiver.tiny import until

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """A certificate authority of this test."""
    return Authority(tmp_path)


def other_authority(folder: Path) -> Authority:
    """Another one."""
    (folder / "other").mkdir()
    return Authority(folder / "other")


def protocols(pair: Pair, **tls: Any) -> dict[str, Any]:
    """Both protocols with one certificate."""
    section = {"endpoint": "localhost:0", "tls": {"cert_file": pair.cert_file, "key_file": pair.key_file, **tls}}
    return {"grpc": section, "http": section}


def port(address: str) -> str:
    """The address by the name that the certificates have."""
    return f"localhost:{address.rpartition(':')[2]}"


async def push_grpc(source: Running, ca: Authority, client: Pair | None = None) -> None:
    """One request over gRPC with TLS."""
    key, certificate = (client.key_file.read_bytes(), client.cert_file.read_bytes()) if client else (None, None)
    credentials = grpc.ssl_channel_credentials(ca.ca_file.read_bytes(), key, certificate)
    await export(port(source.address("grpc")), logs(), credentials=credentials)


async def push_http(source: Running, ca: Authority, client: Pair | None = None) -> None:
    """One request over HTTPS."""
    context = ssl.create_default_context(cafile=ca.ca_file)
    if client:
        context.load_cert_chain(client.cert_file, client.key_file)
    headers = {"Content-Type": "application/x-protobuf"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"https://{port(source.address('http'))}/v1/logs", data=logs(), headers=headers, ssl=context
        ) as answer,
    ):
        assert answer.status == 200


FAILURES = (grpc.aio.AioRpcError, aiohttp.ClientError, ConnectionError)


async def test_both_protocols_over_tls(authority: Authority) -> None:
    """Who trusts the authority gets in."""
    async with running(protocols(authority.issue("localhost"))) as source:
        await push_grpc(source, authority)
        await push_http(source, authority)
        assert len(source.queue.batches) == 2


@pytest.mark.parametrize("push", [push_grpc, push_http])
async def test_a_client_notices_a_wrong_or_expired_certificate(authority: Authority, tmp_path: Path, push: Any) -> None:
    """Of another authority, of another name, of yesterday; plain text fails too."""
    async with running(protocols(authority.issue("localhost"))) as source:
        with pytest.raises(FAILURES):
            await push(source, other_authority(tmp_path))
    for pair in (authority.issue("elsewhere.test"), authority.issue("localhost", days=-1)):
        async with running(protocols(pair)) as source:
            with pytest.raises(FAILURES):
                await push(source, authority)
            assert not source.queue.batches


@pytest.mark.parametrize("push", [push_grpc, push_http])
async def test_mutual_tls_lets_only_known_clients_in(authority: Authority, tmp_path: Path, push: Any) -> None:
    """Without a certificate, with one of another authority, with an expired one nothing is taken."""
    pair = authority.issue("localhost")
    async with running(protocols(pair, client_ca_file=authority.ca_file)) as source:
        stranger = other_authority(tmp_path).issue("client.test")
        for client in (None, stranger, authority.issue("client.test", days=-1)):
            with pytest.raises(FAILURES):
                await push(source, authority, client)
        assert not source.queue.batches
        await push(source, authority, authority.issue("client.test"))
        assert len(source.queue.batches) == 1


def replace(old: Pair, new: Pair) -> None:
    """Put a pair in another's place, key first: for a moment they do not belong together."""
    for source, target in ((new.key_file, old.key_file), (new.cert_file, old.cert_file)):
        source.rename(target)


@pytest.mark.parametrize("push", [push_grpc, push_http])
async def test_replaced_certificates_are_used_without_a_restart(
    authority: Authority, tmp_path: Path, push: Any
) -> None:
    """The server's own and the authority of its clients; connections begun before are not disturbed."""
    pair, second = authority.issue("localhost"), other_authority(tmp_path)
    authorities = tmp_path / "clients.pem"
    authorities.write_bytes(authority.ca_file.read_bytes())
    old_client, new_client = authority.issue("client.test"), second.issue("client.test")
    async with running(protocols(pair, client_ca_file=authorities)) as source:
        await push(source, authority, old_client)
        replace(pair, second.issue("localhost"))
        (tmp_path / "new.pem").write_bytes(second.ca_file.read_bytes())
        (tmp_path / "new.pem").rename(authorities)

        async def accepted() -> bool:
            try:
                await push(source, second, new_client)
            except FAILURES:
                return False
            return True

        await _until_true(accepted)
        for ca, client in ((authority, old_client), (second, old_client)):
            with pytest.raises(FAILURES):
                await push(source, ca, client)
        assert len(source.queue.batches) == 2


async def _until_true(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not await condition():  # noqa: ASYNC110 - another process would be asked the same way
            await asyncio.sleep(0.1)


async def test_a_broken_replacement_is_logged_and_changes_nothing(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """Half of a new pair, and a file that is gone."""
    pair = authority.issue("localhost")
    async with running(protocols(pair)) as source:
        authority.issue("other.test").key_file.rename(pair.key_file)

        async def pushed() -> bool:
            await push_http(source, authority)
            await push_grpc(source, authority)
            return caplog.text.count("New certificates cannot be used, those before are kept") >= 2

        await _until_true(pushed)
        assert "is not the private key of the certificate" in caplog.text
        await until(lambda: len(source.queue.batches) >= 4)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
async def test_files_that_cannot_be_used_are_start_errors(authority: Authority, tmp_path: Path, protocol: str) -> None:
    """Each names the key of the configuration and the file."""
    pair, other = authority.issue("localhost"), authority.issue("other.test")
    wrong = [
        ({"cert_file": tmp_path / "none.pem"}, r"tls\.cert_file: .*none\.pem does not exist"),
        ({"key_file": other.key_file}, r"other\.test\.key is not the private key"),
        ({"client_ca_file": pair.key_file}, r"tls\.client_ca_file: .* has no certificate in PEM form"),
    ]
    for tls, message in wrong:
        with pytest.raises(StartError, match=message):
            async with running({protocol: protocols(pair, **tls)[protocol]}):
                pass


async def test_http_can_refuse_tls_1_2(authority: Authority) -> None:
    """With ``min_version``."""
    section = protocols(authority.issue("localhost"), min_version="1.3")["http"]
    async with running({"http": section}) as source:
        await push_http(source, authority)
        context = ssl.create_default_context(cafile=authority.ca_file)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientError):
                await session.post(f"https://{port(source.address('http'))}/v1/logs", ssl=context)
