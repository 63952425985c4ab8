"""The way to the Collector, step by step: name, connection, TLS, and an empty request for every signal."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from receiver.doctor.findings import Finding, failure
from receiver.errors import ExportError, Held, StartError
from receiver.exporters import otlp_grpc
from receiver.exporters.timeout import Timeout
from receiver.net.grpc import parse_endpoint
from receiver.telemetry import Telemetry
from translators.batch import Batch, Signal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    from receiver.net.grpc import Target

_STEP_S = 5.0
_AT = "exporter::otlp_grpc"
_CLOSED = ("Socket closed", "reset by peer", "Broken pipe", "http1.x", "Failed parsing HTTP/2")


async def examine(config: otlp_grpc.Config, needed: Collection[Signal]) -> AsyncIterator[Finding]:
    """Look at every step until one fails; ``needed`` are the signals that the sources make."""
    target = parse_endpoint(config.endpoint)
    host, port = _host_and_port(target)
    if not target.socket_path:
        finding = await _resolve(host, port)
        yield finding
        if finding.verdict == "fail":
            return
    finding = await _connect(target, host, port)
    yield finding
    if finding.verdict == "fail":
        return
    finding = await _secure(config, target, host, port)
    yield finding
    if finding.verdict != "fail":
        async for finding in _export(config, needed):
            yield finding


def _host_and_port(target: Target) -> tuple[str, int]:
    return target.host, 0 if target.socket_path else int(target.address.rpartition(":")[2])


async def _resolve(host: str, port: int) -> Finding:
    check = f"{_AT}::endpoint (DNS)"
    try:
        async with asyncio.timeout(_STEP_S):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, proto=6)
    except (OSError, TimeoutError) as error:
        reason = f"no answer within {_STEP_S:g} s" if isinstance(error, TimeoutError) else error.strerror
        return failure(check, f"{host} cannot be resolved ({reason})", "correct endpoint, or the DNS of this machine")
    addresses = dict.fromkeys(str(address[0]) for *_, address in found)
    return Finding(check, "ok", f"{host} is {', '.join(addresses)}")


async def _connect(target: Target, host: str, port: int) -> Finding:
    check = f"{_AT}::endpoint (TCP)" if not target.socket_path else f"{_AT}::endpoint"
    where = target.socket_path or f"{host} port {port}"
    try:
        async with asyncio.timeout(_STEP_S):
            if target.socket_path:
                _, writer = await asyncio.open_unix_connection(target.socket_path)
            else:
                _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return failure(check, f"{where} does not answer within {_STEP_S:g} s", "look for a firewall on the way")
    except OSError as error:
        remedy = (
            "start the Collector, or correct endpoint; its otlp receiver listens on port 4317 unless told otherwise"
        )
        return failure(check, f"{where} cannot be connected to ({_reason(error)})", remedy)
    await _close(writer)
    return Finding(check, "ok", f"{where} takes connections")


async def _secure(config: otlp_grpc.Config, target: Target, host: str, port: int) -> Finding:
    check = f"{_AT}::tls"
    settings = config.tls.under(target.secure)
    if target.socket_path or settings.insecure:
        return Finding(check, "ok", "off: plain text")
    try:
        context = settings.context()
        assert context is not None
        context.set_alpn_protocols(["h2"])
        name = config.tls.server_name_override or config.authority or host
        async with asyncio.timeout(_STEP_S):
            _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=name)
    except StartError as error:
        return failure(check, str(error))
    except ssl.SSLCertVerificationError as error:
        reason = error.verify_message.rstrip(".")
        return failure(check, f"the server's certificate is not accepted: {reason}", _certificate_remedy(reason))
    except ssl.SSLError as error:
        remedy = "correct endpoint, or, where the server speaks plain text, set tls.insecure: true"
        return failure(check, f"no TLS with {host} port {port} ({error.reason or error})", remedy)
    except (OSError, TimeoutError) as error:
        remedy = "correct endpoint; a server that speaks plain text wants tls.insecure: true"
        return failure(check, f"no TLS with {host} port {port} ({_reason(error)})", remedy)
    version = writer.get_extra_info("ssl_object").version()
    await _close(writer)
    return Finding(check, "ok", f"{version} with {name}")


def _certificate_remedy(reason: str) -> str:
    if "mismatch" in reason:
        return "set tls.server_name_override to a name that the certificate carries"
    if "expired" in reason:
        return "renew the server's certificate"
    if "not yet valid" in reason:
        return "check the clocks of both machines"
    return "name the authority that signed it in tls.ca_file"


async def _export(config: otlp_grpc.Config, needed: Collection[Signal]) -> AsyncIterator[Finding]:
    asked = [signal for signal in Signal if signal is not Signal.PROFILES or signal in needed]
    outcomes: dict[Finding, list[Signal]] = defaultdict(list)
    try:
        exporter = Timeout(
            otlp_grpc.Exporter(config, Telemetry(CollectorRegistry()), first_connection_spread_s=0),
            timedelta(seconds=_STEP_S),
        )
    except StartError as error:
        yield failure(_AT, str(error))
        return
    try:
        for signal in asked:
            outcomes[await _attempt(exporter, signal, needed)].append(signal)
    finally:
        await exporter.close()
    for finding, signals in outcomes.items():
        yield finding._replace(check=f"{_AT} ({', '.join(signals)})")


async def _attempt(exporter: Timeout, signal: Signal, needed: Collection[Signal]) -> Finding:
    try:
        await exporter.export(Batch(signal, 0, b"", ()))
    except Held as error:
        finding = failure("", error.message, error.remedy)
    except ExportError as error:
        closed = any(words in str(error) for words in _CLOSED)
        remedy = (
            "the server expects TLS or a client certificate (see tls), or is no OTLP/gRPC receiver (4318 is OTLP/HTTP)"
            if closed
            else "look into the Collector's log"
        )
        finding = failure("", str(error), remedy)
    else:
        return Finding("", "ok", "takes an empty request")
    if signal in needed:
        return finding
    return finding._replace(verdict="note", remedy=f"nothing to do: no source of this configuration makes {signal}")


def _reason(error: OSError) -> str:
    """Of several addresses asyncio reports all in one text; the number says it better."""
    if isinstance(error, TimeoutError) and error.errno is None:
        return "no answer"
    return os.strerror(error.errno) if error.errno else str(error)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(1):
            await writer.wait_closed()
