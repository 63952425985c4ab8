"""The push load: a process of its own that sends OTLP until it is told to end (SIGTERM), and keeps a ledger.

It behaves as an OTLP client should: what is retryable it sends again, not sooner than it is asked to; what is not it
gives up. After SIGTERM it sends nothing new, and ends when everything it has sent is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO

import aiohttp
import grpc
import grpc.aio
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from receiver.net.retry_info import DETAILS_KEY, retry_after_s
from receiver.sources.otlp.source import METHODS, PATHS
from tests.faults.account import record_id

LONGEST_WAIT_S = 1.0
_RETRYABLE_CODES = {
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DATA_LOSS,
}
_RETRYABLE_STATUS = {429, 502, 503, 504}


@dataclass(frozen=True)
class Load:
    """What one sender does; it is its only argument, as JSON."""

    ledger: str
    endpoint: str
    """``host:port``."""
    name: str = "logs"
    signal: str = "logs"
    protocol: str = "grpc"
    rate: int = 500
    """Records a second."""
    per_request: int = 50
    body_bytes: int = 100
    concurrency: int = 4
    count: int = 1_000_000_000
    """Records altogether."""
    token: str = ""
    ca_file: str = ""
    """TLS to a server that calls itself localhost."""


class Refused(Exception):
    """The request was not taken; ``retry_after_s`` is None where it must not be sent again."""

    def __init__(self, message: str, retry_after_s: float | None) -> None:
        """Keep the delay, in seconds; 0 where the server asked for none."""
        super().__init__(message)
        self.retry_after_s = retry_after_s


def message(load: Load, numbers: range) -> bytes:
    """One export request."""
    body, now_ns = "x" * load.body_bytes, time.time_ns()
    request: Any
    if load.signal == "logs":
        request = ExportLogsServiceRequest()
        records = request.resource_logs.add().scope_logs.add().log_records
        for number in numbers:
            record = records.add(time_unix_nano=now_ns)
            record.body.string_value = body
            record.attributes.add(key="log.record.uid").value.string_value = record_id(load.name, number)
    else:
        request = ExportTraceServiceRequest()
        spans = request.resource_spans.add().scope_spans.add().spans
        for number in numbers:
            identity = number.to_bytes(8, "big")
            span = spans.add(trace_id=identity * 2, span_id=identity, name=body, start_time_unix_nano=now_ns)
            span.attributes.add(key="log.record.uid").value.string_value = record_id(load.name, number)
    data: bytes = request.SerializeToString()
    return data


class Client(Protocol):
    """One way to push."""

    async def push(self, data: bytes) -> None:
        """Send a request; raises :class:`Refused`."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class Grpc:
    """OTLP/gRPC."""

    def __init__(self, load: Load) -> None:
        """Connect when the first request is sent."""
        options = [
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 500),
            ("grpc.max_send_message_length", -1),
            ("grpc.ssl_target_name_override", "localhost"),
        ]
        if load.ca_file:
            credentials = grpc.ssl_channel_credentials(Path(load.ca_file).read_bytes())
            self._channel = grpc.aio.secure_channel(load.endpoint, credentials, options=options)
        else:
            self._channel = grpc.aio.insecure_channel(load.endpoint, options=options[:-1])
        self._call: Any = self._channel.unary_unary(METHODS[load.signal])
        self._metadata = (("authorization", f"Bearer {load.token}"),) if load.token else ()

    async def push(self, data: bytes) -> None:
        """Send a request; raises :class:`Refused`."""
        try:
            await self._call(data, timeout=10, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            asked_s = None
            for key, value in error.trailing_metadata() or ():
                if key == DETAILS_KEY and isinstance(value, bytes):
                    asked_s = retry_after_s(value)
            retryable = error.code() in _RETRYABLE_CODES or asked_s is not None
            raise Refused(f"{error.code().name}: {error.details()}", (asked_s or 0.0) if retryable else None) from None

    async def close(self) -> None:
        """Let go of the connection."""
        await self._channel.close()


class Http:
    """OTLP/HTTP."""

    def __init__(self, load: Load) -> None:
        """Connect when the first request is sent."""
        self._url = f"http://{load.endpoint}{PATHS[load.signal]}"
        headers = {"Content-Type": "application/x-protobuf"}
        if load.token:
            headers["Authorization"] = f"Bearer {load.token}"
        self._session = aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(10))

    async def push(self, data: bytes) -> None:
        """Send a request; raises :class:`Refused`."""
        try:
            async with self._session.post(self._url, data=data) as response:
                if response.status == 200:
                    return
                retryable = response.status in _RETRYABLE_STATUS
                asked_s = float(response.headers.get("Retry-After", "0"))
                raise Refused(f"{response.status}", asked_s if retryable else None)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Refused(repr(error), 0.0) from None

    async def close(self) -> None:
        """Let go of the connections."""
        await self._session.close()


class Ledger:
    """Written before a request goes out and after it is answered; what is written survives this process."""

    def __init__(self, name: str, file: TextIO) -> None:
        """Write to ``file``, which is buffered by the line."""
        self._name = name
        self._file = file

    def note(self, verb: str, numbers: range) -> None:
        """Write one line."""
        self._file.write(f"{verb} {self._name} {numbers[0]} {numbers[-1]}\n")


async def deliver(client: Client, load: Load, ledger: Ledger, numbers: range) -> None:
    """Send one request until it is answered for good."""
    data = message(load, numbers)
    ledger.note("sent", numbers)
    wait_s = 0.05
    while True:
        try:
            await client.push(data)
        except Refused as error:
            if error.retry_after_s is None:
                ledger.note("refused", numbers)
                sys.stdout.write(f"{error}\n")
                sys.stdout.flush()
                return
            await asyncio.sleep(max(wait_s, error.retry_after_s))
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)
        else:
            ledger.note("acknowledged", numbers)
            return


async def run(load: Load, ledger: Ledger) -> None:
    """Send at the rate until SIGTERM, or until all is sent."""
    loop = asyncio.get_running_loop()
    ending = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ending.set)
    client: Client = Grpc(load) if load.protocol == "grpc" else Http(load)
    free = asyncio.Semaphore(load.concurrency)
    next_s = loop.time()
    first = 0
    async with asyncio.TaskGroup() as requests:
        while not ending.is_set() and first < load.count:
            await free.acquire()
            numbers = range(first, min(first + load.per_request, load.count))
            requests.create_task(deliver(client, load, ledger, numbers)).add_done_callback(lambda _: free.release())
            first = numbers.stop
            # Who was held up catches up with no more than a second.
            next_s = max(next_s, loop.time() - 1.0) + len(numbers) / load.rate
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(next_s):
                    await ending.wait()
    await client.close()


def main(load: Load) -> None:
    """Run one sender."""
    with Path(load.ledger).open("a", buffering=1) as file:
        asyncio.run(run(load, Ledger(load.name, file)))


if __name__ == "__main__":
    main(Load(**json.loads(sys.argv[1])))
