"""The Compose demo, run: what it shows, what it may do, and what a stop of each part costs."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from deploy.images import docker
from peers import build

from deploy.compose import FOLDER, configured
from translators.version import VERSION

if TYPE_CHECKING:
    from deploy.images import Images

    from deploy.compose import Stack

pytestmark = pytest.mark.timeout(900)

NOTHING = "0" * 16
PROFILES = ("--profile=tetragon", "--profile=parca")


def status(stack: Stack, service: str) -> dict[str, str]:
    """What the kernel says of a service's first process (proc(5), status)."""
    text = Path(f"/proc/{stack.inspect(service)['State']['Pid']}/status").read_text()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


def test_a_live_exec_of_the_host_arrives(stack: Stack) -> None:
    """A program that starts on the host is a record in the Collector, with its arguments and this host's name."""
    resource, record = stack.see_live_exec()
    assert resource["host.name"] == socket.gethostname()
    assert resource["deployment.environment.name"] == "demo"
    assert record["process.executable.path"].endswith("/true")


def test_a_replayed_tetragon_event_arrives(stack: Stack) -> None:
    """Recorded events of Tetragon come as from an agent, what a policy found among them, and as spans as well."""

    def seen() -> set[str]:
        return {record["event_name"] for _, record in stack.records()}

    stack.see(lambda: seen() >= {"tetragon.process.exec", "tetragon.process.kprobe"}, "events of Tetragon")
    stack.see(lambda: list(stack.requests("resourceSpans")), "a process as a span")


def test_a_pushed_profile_arrives(stack: Stack) -> None:
    """A profile that is pushed to the published port is in the Collector, with its function and its labels."""
    stack.push_profile()


@pytest.mark.parametrize("service", ["otelbee", "otelbee-bpf", "replay", "collector"])
def test_each_part_may_be_stopped(stack: Stack, service: str) -> None:
    """When one container was stopped and is back, live and replayed events and profiles arrive again."""
    stack.see_live_exec()
    stack("stop", service)
    assert stack.inspect(service)["State"]["ExitCode"] == 0, "it stopped as asked, before it was killed"
    stack("start", service)
    stack.see_live_exec()
    stack.see_another_tetragon_event()
    stack.push_profile()


def test_what_happened_without_the_collector_arrives_later(stack: Stack) -> None:
    """What is seen while the Collector is away waits in otelbee's queue."""
    stack.see_live_exec()
    stack("stop", "collector")
    before = len(list(stack.records()))
    stack("start", "collector")
    stack.see(lambda: len(list(stack.records())) > before, "what was queued")


@pytest.mark.parametrize("service", ["otelbee", "replay"])
def test_receiver_has_no_privilege(stack: Stack, service: str) -> None:
    """The receiver runs as uid 65532, without a capability, without new privileges, on a read-only root."""
    found = status(stack, service)
    assert found["Uid"].split() == ["65532"] * 4
    assert found["Gid"].split() == ["65532"] * 4
    assert [found[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")] == [NOTHING] * 5
    assert found["NoNewPrivs"] == "1"
    host = stack.inspect(service)["HostConfig"]
    assert host["ReadonlyRootfs"] is True
    assert host["Privileged"] is False
    assert not host["PidMode"]


def test_bpf_has_no_network_and_one_capability(stack: Stack) -> None:
    """The privileged side has no network, a read-only root, and of capabilities what this engine's age makes of two."""
    found = status(stack, "otelbee-bpf")
    assert int(found["CapEff"], 16) == 1 << 21  # CAP_SYS_ADMIN, capability.h
    assert found["NoNewPrivs"] == "1"
    inspected = stack.inspect("otelbee-bpf")
    assert inspected["HostConfig"]["NetworkMode"] == "none"
    assert inspected["HostConfig"]["ReadonlyRootfs"] is True
    mounts = {mount["Destination"]: mount["RW"] for mount in inspected["Mounts"]}
    assert mounts == {"/run/otelbee": True, "/sys/kernel/tracing": False}


def test_health_is_reported(stack: Stack) -> None:
    """The image's own health check finds otelbee ready."""
    stack.see(lambda: stack.inspect("otelbee")["State"]["Health"]["Status"] == "healthy", "otelbee is healthy")


def test_demo_asks_for_two_capabilities_and_localhost_alone(demo: Path) -> None:
    """As written for users: every port on localhost, BPF and PERFMON for otelbee-bpf, nothing for the others of ours."""
    services = configured("--file", demo / "compose.yaml", *PROFILES)["services"]
    assert {port.get("host_ip") for service in services.values() for port in service.get("ports", ())} == {"127.0.0.1"}
    assert services["otelbee-bpf"]["cap_add"] == ["BPF", "PERFMON"]
    ours = [name for name in services if name.startswith(("otelbee", "replay", "collector"))]
    assert len(ours) == 5
    for name in ours:
        assert services[name].get("cap_drop") == ["ALL"]
        assert services[name].get("read_only") is True
        assert services[name].get("security_opt") == ["no-new-privileges:true"]
        assert name == "otelbee-bpf" or "cap_add" not in services[name]


def test_override_leaves_nothing_to_pull(demo: Path) -> None:
    """With compose.local.yaml no service is left whose image comes from a registry."""

    def named(folder: Path) -> set[str]:
        files = ("--file", folder / "compose.yaml", "--file", folder / "compose.local.yaml")
        return {service["image"] for service in configured(*files, *PROFILES)["services"].values()}

    assert named(FOLDER) == {"otelbee:local", "otelbee-bpf:local", "otelcol:local"}
    assert named(demo) == {f"otelbee:{VERSION}", f"otelbee-bpf:{VERSION}", "otelcol:local"}


@pytest.mark.parametrize("name", ["otelbee.yaml", "otelbee-tetragon.yaml"])
def test_configuration_is_valid(product: Images, demo: Path, name: str) -> None:
    """The demo's configurations are valid for the image's own otelbee."""
    mount = f"--volume={demo / name}:/etc/otelbee/otelbee.yaml:ro"
    docker("run", "--rm", "--network=none", mount, product.otelbee, "validate", "--config", "/etc/otelbee/otelbee.yaml")


def test_collectors_configuration_is_valid(demo: Path, tmp_path: Path) -> None:
    """The real Collector accepts it, without the two components that none here has; Prometheus accepts what one of these has.

    The other's port is the one that otelbee fetches the Collector's profiles from.
    """
    config = yaml.safe_load((demo / "collector.yaml").read_text())
    scrape = config["receivers"].pop("prometheus")["config"]
    profiled = config["extensions"].pop("pprof")["endpoint"]
    config["service"]["extensions"].remove("pprof")
    config["service"]["pipelines"]["metrics"]["receivers"].remove("prometheus")
    (tmp_path / "collector.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(scrape))
    command = yaml.safe_load((demo / "compose.yaml").read_text())["services"]["collector"]["command"]
    (gate,) = [option for option in command if option.startswith("--feature-gates=")]
    for check in (
        [build.otelcol(), "validate", gate, f"--config={tmp_path / 'collector.yaml'}"],
        ["promtool", "check", "config", tmp_path / "prometheus.yaml"],
    ):
        done = subprocess.run(check, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    otelbee = yaml.safe_load((demo / "otelbee.yaml").read_text())
    (target,) = otelbee["sources"]["pprof"]["scrape"]["targets"]
    assert profiled.partition(":")[2] == target["endpoint"].rpartition(":")[2]
