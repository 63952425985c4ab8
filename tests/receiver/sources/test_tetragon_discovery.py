"""Where the agent is, from the file that it writes; and who is excluded."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING

import pytest

from receiver.identity import container_and_pod
from receiver.sources.tetragon import Config
from receiver.sources.tetragon.discovery import DiscoveryError, discovered_address
from tests.receiver.sources.agent import Agent, event, running

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def info(folder: Path, address: object) -> Path:
    """The agent's file (InitInfo, pkg/bugtool), with other keys beside the address."""
    path = folder / "tetragon-info.json"
    path.write_text(json.dumps({"export_fname": "", "server_address": address, "metrics_address": "", "pid": 1}))
    return path


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("unix:///var/run/tetragon/tetragon.sock", "unix:///var/run/tetragon/tetragon.sock"),
        ("localhost:54321", "localhost:54321"),
        ("localhost", "localhost:54321"),
        (":1234", "localhost:1234"),
        ("0.0.0.0:1234", "localhost:1234"),
        ("[::]:1234", "localhost:1234"),
        ("[fd00::1]:1234", "[fd00::1]:1234"),
    ],
)
def test_what_the_agent_listens_on_becomes_an_address_to_connect_to(tmp_path: Path, written: str, address: str) -> None:
    """Any address is localhost for a client, and a missing port is the agent's default."""
    assert discovered_address(info(tmp_path, written)) == address


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist: start the agent, mount .* here, or set endpoint"),
        ("{", "is not what the agent writes"),
        ("[]", "is not what the agent writes"),
        ('{"server_address": 1}', "is not what the agent writes"),
        ('{"server_address": ""}', "the agent's gRPC is off"),
        ('{"server_address": "a:b"}', "names a:b, which is not an endpoint"),
    ],
)
def test_a_file_without_an_address_says_what_to_do(tmp_path: Path, content: str | None, message: str) -> None:
    """Each way that the file can be of no use has its own words, with its path."""
    path = tmp_path / "tetragon-info.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DiscoveryError, match=f"{re.escape(str(path))} .*{message}"):
        discovered_address(path)


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    """A folder stands for any file that cannot be read."""
    with pytest.raises(DiscoveryError, match=r"cannot be read .*: make it readable"):
        discovered_address(tmp_path)


async def test_the_file_is_read_again_for_each_attempt(tmp_path: Path) -> None:
    """The agent may come later than otelbee, and elsewhere after a restart."""
    path = tmp_path / "tetragon-info.json"
    async with Agent(event(1)) as first, Agent(event(2)) as second, running(Config(discovery_file=path)) as intake:
        await intake.until_down("does not exist")
        info(tmp_path, f"127.0.0.1:{first.port}").replace(path)
        await intake.until(lambda: len(intake.records) == 1)
        info(tmp_path, f"127.0.0.1:{second.port}")
        await first.stop()
        await intake.until(lambda: len(intake.records) == 2)


async def test_localhost_inside_a_pod_names_both_remedies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_port: Callable[[], int]
) -> None:
    """In a pod without the host's network the agent's localhost is another one."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    path = info(tmp_path, f"localhost:{free_port()}")
    async with running(Config(discovery_file=path)) as intake:
        reason = await intake.until_down(f"{path} names localhost:")
    assert "set hostNetwork: true" in reason
    assert "endpoint: unix:///var/run/tetragon/tetragon.sock" in reason


@pytest.mark.skipif(any(container_and_pod()), reason="needs a machine that is no container")
async def test_localhost_on_the_host_is_just_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_port: Callable[[], int]
) -> None:
    """Outside a container localhost is the agent's."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    async with running(Config(discovery_file=info(tmp_path, f"localhost:{free_port()}"))) as intake:
        await intake.until_down("nothing listens on localhost")


async def test_localhost_that_was_configured_is_just_refused(
    monkeypatch: pytest.MonkeyPatch, free_port: Callable[[], int]
) -> None:
    """Whoever wrote the endpoint knows what it means."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    async with running(Config(endpoint=f"localhost:{free_port()}")) as intake:
        await intake.until_down("nothing listens on localhost")


async def test_otelbee_itself_and_what_is_named_are_excluded() -> None:
    """The translator is given our own process and everything that config names."""
    section = {"exclude": {"pids": [1], "pod_uids": ["0a1b2c3d-0000-1111-2222-333344445555"]}}
    async with Agent(event(1)) as agent:
        section["endpoint"] = f"127.0.0.1:{agent.port}"
        async with running(Config.model_validate(section)) as intake:
            await intake.until(lambda: bool(intake.records))
        async with running(Config.model_validate({**section, "exclude_self": False})) as named_only:
            await named_only.until(lambda: bool(named_only.records))
    own, named = intake.origins[0].exclude, named_only.origins[0].exclude
    assert named.pids == {1}
    assert own.pids - {os.getpid()} == {1}
    assert "0a1b2c3d-0000-1111-2222-333344445555" in own.pod_uids & named.pod_uids
