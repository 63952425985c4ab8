"""The real Collector as a sender: through otelbee to another real Collector."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from peers import build
from peers.processes import Collector, Otelbee, Program, free_port

from tests.receiver.net.certificates import Authority
from tests.receiver.sources.pushed import export, logs

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("peers")


class Sender(Program):
    """A Collector that hands what it gets on by ``exporters``."""

    def __init__(self, folder: Path, exporters: dict[str, Any], extensions: dict[str, Any] | None = None) -> None:
        """Write its configuration."""
        self.endpoint = f"127.0.0.1:{free_port()}"
        config = {
            "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": self.endpoint}}}},
            "exporters": exporters,
            "extensions": extensions or {},
            "service": {
                "extensions": list(extensions or {}),
                "pipelines": {"logs": {"receivers": ["otlp"], "exporters": list(exporters)}},
                "telemetry": {"metrics": {"level": "none"}},
            },
        }
        (folder / "sender.yaml").write_text(json.dumps(config))
        super().__init__("sender", [build.otelcol(), f"--config={folder / 'sender.yaml'}"], folder)

    def ready(self) -> bool:
        """Whether it says so."""
        return "Everything is ready" in self.errors()


def service(folder: Path, protocols: dict[str, Any], collector: str, **exporter: Any) -> Otelbee:
    """Otelbee from ``protocols`` to a Collector."""
    return Otelbee(
        folder,
        {
            "sources": {"otlp": {"protocols": protocols}},
            "exporter": {"otlp_grpc": {"endpoint": collector, "tls": {"insecure": True}, **exporter}},
        },
    )


def bodies(collector: Collector) -> list[str]:
    """What the log records say that arrived."""
    return sorted(record.body.string_value for record in collector.records())


async def test_the_collectors_exporters_reach_the_next_collector(tmp_path: Path) -> None:
    """With TLS and a token: gRPC with gzip; HTTP with zstd, gzip, deflate and as it is."""
    pair = Authority(tmp_path)
    certificate = pair.issue("localhost")
    (tmp_path / "tokens").write_text("edge:the-token-of-edge\n")
    (tmp_path / "tokens").chmod(0o600)
    grpc, http = free_port(), free_port()
    common = {
        "tls": {"cert_file": str(certificate.cert_file), "key_file": str(certificate.key_file)},
        "auth": {"bearertokenauth": {"filename": str(tmp_path / "tokens")}},
    }
    protocols = {
        "grpc": {"endpoint": f"localhost:{grpc}", **common},
        "http": {"endpoint": f"localhost:{http}", **common},
    }
    client = {"tls": {"ca_file": str(pair.ca_file)}, "auth": {"authenticator": "bearertokenauth"}}
    over_http = {"endpoint": f"https://localhost:{http}", **client}
    exporters = {"otlp_grpc": {"endpoint": f"localhost:{grpc}", "compression": "gzip", **client}} | {
        f"otlp_http/{way}": {"compression": way, **over_http} for way in ("zstd", "gzip", "deflate", "none")
    }
    with (
        Collector(tmp_path) as collector,
        service(tmp_path, protocols, collector.endpoint),
        Sender(tmp_path, exporters, {"bearertokenauth": {"token": "the-token-of-edge"}}) as sender,
    ):
        await export(sender.endpoint, logs(3, "hello", **{"service.name": "shop"}))
        collector.received(15)
        assert bodies(collector) == ["hello"] * 15
        resources = [resource for request in collector.json_requests() for resource in request["resourceLogs"]]
        assert {
            tuple((each["key"], each["value"]["stringValue"]) for each in resource["resource"]["attributes"])
            for resource in resources
        } == {(("service.name", "shop"), ("otelbee.tenant", "edge"))}


async def test_the_collector_comes_back_when_a_full_queue_says(tmp_path: Path) -> None:
    """It understands our RetryInfo: its own first interval would be a millisecond. Nothing is lost."""
    endpoint = f"127.0.0.1:{free_port()}"
    impatient = {"initial_interval": "1ms", "max_interval": "2ms", "multiplier": 1.1}
    exporters = {"otlp_grpc": {"endpoint": endpoint, "tls": {"insecure": True}, "retry_on_failure": impatient}}
    collector = Collector(tmp_path)
    retry = {"initial_interval": "500ms", "max_interval": "500ms"}
    with (
        service(
            tmp_path,
            {"grpc": {"endpoint": endpoint}},
            collector.endpoint,
            sending_queue={"queue_size": "4MiB"},
            retry_on_failure=retry,
        ) as otelbee,
        Sender(tmp_path, exporters) as sender,
    ):
        filling = logs(1, "f" * 1_350_000)
        for _ in range(3):
            await export(endpoint, filling)
        pushing = asyncio.create_task(export(sender.endpoint, logs(1, "w" * 1_350_000)))
        waited = re.compile(r'Exporting failed\. Will retry.*"interval": "([\d.]+)s"')
        await asyncio.to_thread(sender.until, lambda: waited.search(sender.errors()), "it is told to wait")
        interval = waited.search(sender.errors())
        assert interval is not None
        assert float(interval[1]) >= 1
        assert otelbee.metric("otelbee_receiver_refused_requests", reason="busy") >= 1
        with collector:
            await pushing
            await asyncio.to_thread(collector.received, 4)
            assert [body[0] for body in bodies(collector)] == ["f", "f", "f", "w"]
