"""What runs already when the stream begins is asked for, where spans need it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from receiver.sources.tetragon import Config
from tests.receiver.sources.agent import Agent, event, running
from translators.pb import tetragon_pb2

if TYPE_CHECKING:
    import pytest


def shell(number: int) -> tetragon_pb2.Process:
    """A process of the agent's cache."""
    process = tetragon_pb2.Process(exec_id=f"id-{number}", binary="/bin/sh")
    process.pid.value = number
    return process


async def test_the_processes_come_before_the_events() -> None:
    """One by one, as the agent has them, on every connection."""
    async with Agent(event(1)) as agent:
        agent.processes = [shell(1), shell(2)]
        async with running(Config(endpoint=f"localhost:{agent.port}", process_spans=True)) as intake:
            await intake.until(lambda: len(intake.records) == 1)
            assert [tetragon_pb2.Process.FromString(data) for data in intake.processes] == agent.processes


async def test_nobody_asks_without_spans() -> None:
    """The call is not for nothing: the agent walks its whole cache."""
    async with Agent(event(1)) as agent:
        agent.processes = [shell(1)]
        async with running(Config(endpoint=f"localhost:{agent.port}")) as intake:
            await intake.until(lambda: len(intake.records) == 1)
            assert intake.processes == []


async def test_an_agent_that_cannot_tell_is_read_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    """It is said once, not with every connection."""
    async with Agent(event(1)) as agent:
        with caplog.at_level(logging.INFO):
            async with running(Config(endpoint=f"localhost:{agent.port}", process_spans=True)) as intake:
                await intake.until(lambda: len(intake.records) == 1)
                await agent.stop()
                await intake.until_down("closed the connection")
                await agent.start(f"127.0.0.1:{agent.port}")
                await intake.until(lambda: len(intake.records) == 2)
        said = [text for text in caplog.messages if "process cache" in text]
        assert len(said) == 1
        assert "UNIMPLEMENTED" in said[0]
