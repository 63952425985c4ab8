"""Channels and byte-wise calls against real servers."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import grpc
import grpc.aio
import h2.config
import h2.connection
import h2.events
import pytest

from receiver.net.backoff import Backoff
from receiver.net.grpc import channel, is_loopback, parse_endpoint, unary
from receiver.net.tls import ClientTLS
from tests.receiver.net.certificates import Authority

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PLAIN = ClientTLS(insecure=True)
SERVICE = "test.Echo"


async def echo(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
    """Return what came."""
    del context
    return request


@contextlib.asynccontextmanager
async def serving(listen: str, credentials: grpc.ServerCredentials | None = None) -> AsyncIterator[int]:
    """Serve on a real port; the value is its number."""
    real = grpc.aio.server()
    handlers = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
    real.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = real.add_secure_port(listen, credentials) if credentials else real.add_insecure_port(listen)
    await real.start()
    try:
        yield port
    finally:
        await real.stop(None)


@pytest.mark.parametrize(
    ("endpoint", "address", "host", "socket_path", "secure"),
    [
        ("localhost:4317", "localhost:4317", "localhost", "", None),
        ("[::1]:4317", "[::1]:4317", "::1", "", None),
        ("unix:///run/x.sock", "unix:/run/x.sock", "", "/run/x.sock", None),
        ("http://collector:4317", "collector:4317", "collector", "", False),
        ("https://collector:4317/", "collector:4317", "collector", "", True),
        ("dns:///collector:4317", "dns:///collector:4317", "collector", "", None),
        ("dns://1.1.1.1/collector:4317", "dns://1.1.1.1/collector:4317", "collector", "", None),
    ],
)
def test_endpoint_forms(endpoint: str, address: str, host: str, socket_path: str, secure: object) -> None:
    """Every form that a user may write becomes gRPC's own."""
    assert parse_endpoint(endpoint) == (address, host, socket_path, secure)


@pytest.mark.parametrize(
    ("endpoint", "message"),
    [
        ("localhost", "it has no port; write host:port"),
        (":4317", "it has no port"),
        ("::1:4317", "an IPv6 address in brackets"),
        ("localhost:http", "no port between 1 and 65535"),
        ("localhost:70000", "no port between 1 and 65535"),
        ("unix://run/x.sock", "three slashes"),
        ("http://collector:4318/v1/logs", "takes no path; write http://host:port"),
        ("ftp://collector:21", "unknown scheme ftp://"),
    ],
)
def test_what_is_no_endpoint_says_why(endpoint: str, message: str) -> None:
    """The message continues "<endpoint> is" and says what to write."""
    with pytest.raises(ValueError, match=f"^not .*{message}"):
        parse_endpoint(endpoint)


def test_loopback() -> None:
    """Hosts that only this machine can reach."""
    assert [is_loopback(host) for host in ("localhost", "127.9.9.9", "::1", "10.0.0.1", "example.com")] == [
        True,
        True,
        True,
        False,
        False,
    ]


def test_plain_text_contradicts_certificates(tmp_path: Path) -> None:
    """``http://`` with a certificate file is refused: it would be ignored without a word."""
    with pytest.raises(ValueError, match="tls names certificate files; write https://"):
        channel("http://localhost:1", ClientTLS(ca_file=tmp_path / "ca.pem"))


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "http://localhost:{}", "dns:///localhost:{}"])
async def test_unary_over_tcp(form: str) -> None:
    """One call moves bytes both ways, by every form of a TCP endpoint."""
    async with serving("localhost:0") as port, channel(form.format(port), PLAIN) as over:
        assert await unary(over, f"/{SERVICE}/Echo", b"\x08\x01", timeout_s=10) == b"\x08\x01"


async def test_unary_over_a_unix_socket(tmp_path: Path) -> None:
    """The same over a unix socket."""
    async with (
        serving(f"unix:{tmp_path}/s"),
        channel(f"unix://{tmp_path}/s", PLAIN) as over,
    ):
        assert await unary(over, f"/{SERVICE}/Echo", b"", timeout_s=10) == b""


async def test_a_proxy_does_not_concern_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """``http_proxy`` is for other hosts, as it is in Go and so in the Collector."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with serving("localhost:0") as port, channel(f"localhost:{port}", PLAIN) as over:
        assert await unary(over, f"/{SERVICE}/Echo", b"x", timeout_s=10) == b"x"


@pytest.mark.parametrize("by", ["server_name_override", "authority"])
async def test_tls_with_another_name(tmp_path: Path, by: str) -> None:
    """A wildcard certificate is accepted under the name that either key gives, and only then."""
    authority = Authority(tmp_path)
    pair = authority.issue("*.agents.test")
    credentials = grpc.ssl_server_credentials([(pair.key_file.read_bytes(), pair.cert_file.read_bytes())])
    named = ClientTLS(ca_file=authority.ca_file, server_name_override="a.agents.test" if by != "authority" else "")
    async with serving("127.0.0.1:0", credentials) as port:
        over = channel(f"127.0.0.1:{port}", named, authority="a.agents.test" if by == "authority" else "")
        async with over:
            assert await unary(over, f"/{SERVICE}/Echo", b"x", timeout_s=10) == b"x"
        async with channel(f"127.0.0.1:{port}", ClientTLS(ca_file=authority.ca_file)) as nameless:
            with pytest.raises(grpc.aio.AioRpcError, match="Hostname Verification"):
                await unary(nameless, f"/{SERVICE}/Echo", b"x", timeout_s=10)


@pytest.mark.parametrize(("given", "seen"), [("agent.test", "agent.test"), ("", "127.0.0.1:{port}")])
async def test_the_authority_of_a_call(given: str, seen: str) -> None:
    """Without one of its own a call asks for the endpoint."""
    authority: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def remember(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        connection.initiate_connection()
        writer.write(connection.data_to_send())
        while not authority.done():
            for item in connection.receive_data(await reader.read(65536)):
                if isinstance(item, h2.events.RequestReceived):
                    authority.set_result(dict(item.headers)[":authority"])
        writer.close()

    server = await asyncio.start_server(remember, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, channel(f"127.0.0.1:{port}", PLAIN, authority=given) as over:
        with pytest.raises(grpc.aio.AioRpcError):
            await unary(over, f"/{SERVICE}/Echo", b"", timeout_s=10)
    assert await authority == seen.format(port=port)


def test_backoff_doubles_to_its_maximum_with_jitter() -> None:
    """Each delay lies between half of a bound and the bound, and two clients differ."""
    bounds = [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    first = [delay for _, delay in zip(bounds, Backoff().delays_s(), strict=False)]
    second = [delay for _, delay in zip(bounds, Backoff().delays_s(), strict=False)]
    assert all(bound / 2 <= delay <= bound for bound, delay in zip(bounds, first, strict=True))
    assert first != second
