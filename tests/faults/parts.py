"""The processes of a fault and the account of it: senders, otelbee, and what stands behind it."""

from __future__ import annotations

import json
import signal
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from peers.processes import Collector, Otelbee, Program, free_port, until

from tests.faults.account import ROW, Ids, Ledger, Row

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import ExitStack
    from pathlib import Path

LIMIT_MIB = 192
"""``memory_limiter: limit_mib`` of otelbee here, and what it may not exceed even for a moment."""
SETTLE_S = 60.0
"""For everything to arrive after a fault."""


class Sender(Program):
    """The push load (:mod:`tests.faults.sender`)."""

    def __init__(self, folder: Path, endpoint: str, name: str, **load: Any) -> None:
        """Send to ``endpoint``; ``load`` is the rest of its :class:`~tests.faults.sender.Load`."""
        self.ledger = Ledger(folder / f"{name}.ledger")
        settings = {"ledger": str(folder / f"{name}.ledger"), "endpoint": endpoint, "name": name, **load}
        super().__init__(name, [sys.executable, "-m", "tests.faults.sender", json.dumps(settings)], folder)
        self._ends = "count" in load

    def finish(self) -> None:
        """Let it end when everything that it has sent is answered."""
        code = self.wait(SETTLE_S) if self._ends else self.stop(SETTLE_S)
        assert code == 0, self.errors()[-2000:]

    def acknowledged(self, more: int, deadline_s: float = SETTLE_S) -> None:
        """Wait until so many more records are acknowledged."""
        goal = len(self.ledger.acknowledged) + more
        self.until(lambda: len(self.ledger.acknowledged) >= goal, f"{more} more are acknowledged", deadline_s)


class Scripted(Program):
    """A next stage that answers by a script (:mod:`tests.faults.scripted`)."""

    def __init__(self, folder: Path, **answer: Any) -> None:
        """Begin with ``answer``."""
        self.port = free_port()
        self._script, self.arrivals = folder / "script.json", folder / "arrivals.pb"
        self.answer(**answer)
        module = [sys.executable, "-m", "tests.faults.scripted"]
        super().__init__("scripted", [*module, str(self.port), self._script, self.arrivals], folder)

    @property
    def endpoint(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    def answer(self, **answer: Any) -> None:
        """Answer so from now on; nothing means success."""
        new = self._script.with_suffix(".new")
        new.write_text(json.dumps(answer))
        new.replace(self._script)

    def answered(self, answer: str) -> list[dict[str, Any]]:
        """The requests with this answer so far: a status, or ``silence``."""
        lines = [line for line in self.output().splitlines(keepends=True) if line.endswith("\n")]
        return [said for said in map(json.loads, lines) if said["answer"] == answer]


class Proxy(Program):
    """Resets connections in the middle of a request (:mod:`tests.faults.proxy`)."""

    def __init__(self, folder: Path, target: int, *, cuts: int, seed: int) -> None:
        """Stand before ``target``, a port."""
        self.port = free_port()
        numbers = map(str, (self.port, target, cuts, seed))
        super().__init__(f"proxy-{target}", [sys.executable, "-m", "tests.faults.proxy", *numbers], folder)

    @property
    def cuts(self) -> int:
        """How many connections it has reset."""
        return self.output().count("reset after")


class Herd(Program):
    """Many exporters with full queues (:mod:`tests.faults.herd`)."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        """For ``settings`` see :class:`~tests.faults.herd.Settings`; the ledger is added."""
        name = f"herd-{settings['first']}"
        path = folder / f"{name}.ledger"
        self.ledger = Ledger(path)
        arguments = json.dumps({"ledger": str(path), **settings})
        super().__init__(name, [sys.executable, "-m", "tests.faults.herd", arguments], folder)


class Fault:
    """One fault: starts its processes, and says in the end what became of every record."""

    def __init__(self, folder: Path, stack: ExitStack, report: Callable[[str, object], None]) -> None:
        """Keep all files in ``folder``; ``stack`` ends what was started, ``report`` takes the row of the table."""
        self.folder = folder
        self._report = report
        self.dead_letter = folder / "dead_letter.jsonl"
        self._enter: Callable[[Any], Any] = stack.enter_context
        self._senders: list[Sender] = []
        self._ledgers: list[Ledger] = []
        self._delivered: list[Ids] = []
        self._dead = Ids(self.dead_letter)
        self._peak_bytes = 0
        self._begun_s = time.monotonic()
        self._pid = 0
        self._limit_mib = 0
        self.otelbee: Otelbee
        self.grpc_port, self.http_port = free_port(), free_port()

    def collector(self, **settings: Any) -> Collector:
        """Start the Collector; for ``settings`` see :class:`~peers.processes.Collector`."""
        collector = Collector(self.folder, **settings)
        self._delivered.append(Ids(collector.proto))
        self._enter(collector)
        return collector

    def collector_again(self, before: Collector, **settings: Any) -> Collector:
        """Start another Collector in the place of one that was ended, with other settings."""
        collector = Collector(self.folder, port=before.port, **settings)
        self._enter(collector)
        return collector

    def scripted(self, **answer: Any) -> Scripted:
        """Start a server that answers so."""
        scripted = Scripted(self.folder, **answer)
        self._delivered.append(Ids(scripted.arrivals))
        self._enter(scripted)
        return scripted

    def proxy(self, target: int, *, cuts: int, seed: int) -> Proxy:
        """Start a proxy that resets."""
        proxy: Proxy = self._enter(Proxy(self.folder, target, cuts=cuts, seed=seed))
        return proxy

    def attacker(self, attack: str) -> Program:
        """Clients that mean no good (:mod:`tests.faults.attacker`), to be entered."""
        ports = map(str, (self.grpc_port, self.http_port))
        return Program("attacker", [sys.executable, "-m", "tests.faults.attacker", attack, *ports], self.folder)

    def run(
        self,
        endpoint: str,
        *,
        exporter: Mapping[str, Any] | None = None,
        queue: Mapping[str, Any] | None = None,
        retry: Mapping[str, Any] | None = None,
        grpc: Mapping[str, Any] | None = None,
        http: Mapping[str, Any] | None = None,
        storage: Path | None = None,
        limit_mib: int = LIMIT_MIB,
    ) -> Otelbee:
        """Start otelbee before ``endpoint``, with intervals for people who wait for tests."""
        retrying = {"initial_interval": "200ms", "max_interval": "1s", **(retry or {})}
        queueing = {"queue_size": "32MiB", "batch": {"flush_timeout": "50ms", "max_size": "1MiB"}, **(queue or {})}
        protocols = {
            "grpc": {"endpoint": f"127.0.0.1:{self.grpc_port}", **(grpc or {})},
            "http": {"endpoint": f"127.0.0.1:{self.http_port}", **(http or {})},
        }
        otlp_grpc = {
            "endpoint": endpoint,
            "tls": {"insecure": True},
            "timeout": "2s",
            "retry_on_failure": retrying,
            "sending_queue": queueing,
            "dead_letter": str(self.dead_letter),
            **(exporter or {}),
        }
        config = {
            "sources": {"otlp": {"protocols": protocols}},
            "exporter": {"otlp_grpc": otlp_grpc},
            "memory_limiter": {"limit_mib": limit_mib},
            **({"storage": str(storage)} if storage else {}),
        }
        self._limit_mib = limit_mib
        self.otelbee = Otelbee(self.folder, config)
        self._enter(self.otelbee)
        self._pid = self.otelbee.pid
        return self.otelbee

    def reload(self, number: int) -> None:
        """Give otelbee's listeners and its exporter other settings, by SIGHUP; the ``number`` makes them others."""
        path = self.folder / "otelbee.yaml"
        config = json.loads(path.read_text())
        config["sources"]["otlp"]["protocols"]["grpc"]["max_recv_msg_size_mib"] = 4 + number
        config["exporter"]["otlp_grpc"]["retry_on_failure"]["max_interval"] = f"{1 + number}s"
        path.write_text(json.dumps(config))
        done = self.otelbee.errors().count("Reload done")
        self.otelbee.signal(signal.SIGHUP)
        self.otelbee.until(lambda: self.otelbee.errors().count("Reload done") > done, "it has read its configuration")

    def stop_otelbee(self) -> int:
        """End otelbee with SIGTERM; its peak is noted before."""
        self._note_peak()
        return self.otelbee.stop()

    def kill_otelbee(self) -> None:
        """End otelbee with SIGKILL; its peak is noted before."""
        self._note_peak()
        self.otelbee.kill()

    def sender(self, name: str = "logs", *, protocol: str = "grpc", endpoint: str = "", **load: Any) -> Sender:
        """Start to send to otelbee."""
        port = self.grpc_port if protocol == "grpc" else self.http_port
        sender = Sender(self.folder, endpoint or f"127.0.0.1:{port}", name, protocol=protocol, **load)
        self._senders.append(sender)
        self._ledgers.append(sender.ledger)
        self._enter(sender)
        return sender

    def herd(self, first: int, exporters: int, **settings: Any) -> Herd:
        """Start exporters with full queues."""
        herd: Herd = self._enter(Herd(self.folder, first=first, exporters=exporters, **settings))
        self._ledgers.append(herd.ledger)
        return herd

    def acknowledged(self) -> set[bytes]:
        """What all senders together were told is safe."""
        return set().union(*(ledger.acknowledged for ledger in self._ledgers))

    def delivered(self) -> set[bytes]:
        """What the next stage has."""
        return set().union(*(ids.all() for ids in self._delivered))

    def put_aside(self) -> set[bytes]:
        """What is in ``dead_letter``."""
        return self._dead.all()

    def arrives(self, more: int, deadline_s: float = SETTLE_S) -> None:
        """Wait until so many more records are delivered."""
        goal = len(self.delivered()) + more
        self.otelbee.until(lambda: len(self.delivered()) >= goal, f"{more} more are delivered", deadline_s)

    def survived(self, fault: str, *, restarted: bool = False) -> Row:
        """Stop sending, wait until the queue is empty, and see that nothing is lost.

        ``fault`` names the row of the table. With ``restarted`` the test itself has restarted otelbee.
        """
        for sender in self._senders:
            sender.finish()
        self.settle()
        self._note_peak()
        row = self.concluded(fault, self._peak_bytes, self._limit_mib)
        if not restarted:
            assert self.otelbee.pid == self._pid
        assert self.otelbee.ready(), "otelbee is not ready after the fault"
        return row

    def settle(self, deadline_s: float = SETTLE_S) -> None:
        """Wait until everything acknowledged has arrived, or for so long: the row says what has not."""
        with suppress(TimeoutError):
            until(lambda: not self.missing(), "everything acknowledged to arrive", deadline_s)

    def missing(self) -> set[bytes]:
        """What was acknowledged and is not where it should be yet."""
        return self.acknowledged() - self.delivered() - self.put_aside()

    def concluded(self, fault: str, peak_bytes: int, limit_mib: int) -> Row:
        """Enter a row in the table, and see that nothing is lost and that memory is below its limit."""
        row = Row(
            fault,
            len(set().union(*(ledger.sent for ledger in self._ledgers))),
            len(self.acknowledged()),
            len(self.delivered()),
            sum(ids.duplicated for ids in self._delivered),
            len(self.missing()),
            len(self.put_aside()),
            peak_bytes / 2**20,
            limit_mib,
            time.monotonic() - self._begun_s,
        )
        self._report(ROW, tuple(row))
        assert row.acknowledged, "nothing was acknowledged: this was no test"
        assert not row.lost, f"{row.lost} records lost, for example {sorted(self.missing())[:3]}"
        assert row.peak_mib <= limit_mib, f"{row.peak_mib:.0f} MiB of memory, {limit_mib} MiB are allowed"
        return row

    def _note_peak(self) -> None:
        self._peak_bytes = max(self._peak_bytes, self.otelbee.peak_bytes)
