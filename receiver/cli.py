"""The command ``otelbee``: arguments, signals and exit codes. Nobody else prints or exits.

Exit codes: 0 done; 1 it ran but not all went well; 2 wrong usage, configuration or start; 141 nobody reads the output.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self, TextIO

from receiver import app, arguments, doctor, effective, init, inspection, logs, parent, replay
from receiver.config import load, load_for_translation
from receiver.errors import ConfigError, OtelbeeError, RecordingError, StartError
from receiver.layers import ENVIRONMENT_PREFIX, origins
from receiver.registry import EXPORTERS, SOURCES
from receiver.reload import Reload
from receiver.translation import Refused, translate
from translators.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from receiver.config import Config

_FAILED, _WRONG, _NO_READER = 1, 2, 128 + signal.SIGPIPE
_STOP_TIMEOUT_S = 10.0
_STOP_MARGIN_S = 1.0
"""For last words, beyond the time that a stop may take."""

_WHAT_TO_DO = """\
otelbee run: there is no configuration. Write one for this machine, and start with it:

    otelbee init -o otelbee.yaml
    otelbee run --config otelbee.yaml

Every key is in docs/config.md. OTEL_EXPORTER_OTLP_* is not read.\
"""

_CORRECT = "correct it; docs/config.md has every key"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    given = _parsed(argv)
    command: Callable[[argparse.Namespace], int] = given.command
    try:
        code = command(given)
        sys.stdout.flush()
    except (ConfigError, StartError) as error:
        _complain(str(error))
        return _WRONG
    except OtelbeeError as error:
        _complain(str(error))
        return _FAILED
    except BrokenPipeError:
        # Python flushes stdout once more on its way out, and would complain there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _NO_READER
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return code


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    given, rest = parser.parse_known_args(argv)
    # argparse fills an optional positional before it reads on: ``translate tetragon --set x=y FILE`` leaves FILE over.
    if len(rest) == 1 and not rest[0].startswith("-") and getattr(given, "file", "") is None:
        given.file, rest = rest[0], []
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return given


def _parser() -> argparse.ArgumentParser:
    listed: list[str] = []
    parser = argparse.ArgumentParser(
        prog="otelbee",
        usage="otelbee COMMAND ...",
        description="The eBPF companion of the OpenTelemetry Collector: eBPF tools in, typed OTLP out.",
        formatter_class=arguments.formatter,
    )
    commands = parser.add_subparsers(prog="otelbee", metavar="COMMAND", required=True, help=argparse.SUPPRESS)

    def add(name: str, command: Callable[[argparse.Namespace], int], text: str, **more: Any) -> argparse.ArgumentParser:
        added = commands.add_parser(name, description=text, formatter_class=arguments.formatter, **more)
        added.set_defaults(command=command)
        listed.append(f"  {name:<14}{text}")
        return added

    arguments.add_init(
        add("init", _init, "Write a first configuration for what is found on this machine; asks nothing.")
    )
    for name, command, text in (
        ("run", _run, "Run the service until SIGTERM or SIGINT; a second signal stops at once. SIGHUP reloads."),
        ("validate", _validate, "Check the configuration: silent when it is right, every problem when not."),
        (
            "print-config",
            _print_config,
            "Print the configuration in force, and where each value came from; no secrets.",
        ),
    ):
        arguments.add_layers(add(name, command, text, epilog=arguments.LAYERS_HELP))
    examined = add(
        "doctor",
        _doctor,
        "Look whether this configuration would work here; exit code 0 says so.",
        epilog=arguments.LAYERS_HELP,
    )
    arguments.add_layers(examined)
    examined.add_argument("--json", action="store_true", help="for programs")
    add("components", _components, "List the sources and exporters of this build.")
    arguments.add_translate(
        add("translate", _translate, "Translate one tool's recorded data to OTLP on standard output.")
    )
    inspected = add("inspect", _inspect, "Say what is in a file of profiles: pprof, OTLP profiles, or Parca's Arrow.")
    inspected.add_argument("file", metavar="FILE", help="compressed or not; - is standard input")
    arguments.add_replay(add("replay", _replay, "Serve recorded events as the tool itself would."))
    add("version", _version, "Print the version.")
    parser.epilog = "\n".join(("commands:", *listed, "", "otelbee COMMAND --help says more."))
    return parser


def _run(given: argparse.Namespace) -> int:
    if not given.config and not given.set and not any(name.startswith(ENVIRONMENT_PREFIX) for name in os.environ):
        _complain(_WHAT_TO_DO)
        return _WRONG
    config = load(given.config, given.set, os.environ)
    logging_ends = logs.configure(config.telemetry.logs.level, config.telemetry.logs.encoding, sys.stderr)
    stop_timeout_s = config.shutdown_timeout.total_seconds()
    # What the imports made lives as long as the process. A full collection that looks at it takes 30 ms more, in which
    # an agent's queue may overflow (docs/architecture.md).
    gc.collect()
    gc.freeze()
    reload = Reload(asyncio.Event(), lambda: load(given.config, given.set, os.environ))
    try:
        if (setup := parent.setup(config)) is not None:
            return _until_signalled(
                lambda shutdown: parent.run(setup, shutdown, reload.asked),
                stop_timeout_s + parent.STOP_MARGIN_S,
                reload.asked,
            )
        return _until_signalled(
            lambda shutdown: app.run(config, shutdown, sys.stdout, reload=reload), stop_timeout_s, reload.asked
        )
    finally:
        logging_ends()


def _init(given: argparse.Namespace) -> int:
    init.check(given.output, force=given.force)
    written = asyncio.run(init.first())
    _complain("\n".join(doctor.as_lines(written.findings, colour=_colourful(sys.stderr))))
    if given.output is None:
        print(written.text, end="")
    else:
        init.save(written.text, given.output)
        _complain(f"\n{given.output} is written. Look whether it works here: otelbee doctor --config {given.output}")
    return 0


def _validate(given: argparse.Namespace) -> int:
    load(given.config, given.set, os.environ)
    return 0


def _print_config(given: argparse.Namespace) -> int:
    config = load(given.config, given.set, os.environ)
    print(effective.show(config, origins(given.config, given.set, os.environ)), end="")
    return 0


def _doctor(given: argparse.Namespace) -> int:
    wrong = False
    try:
        findings = asyncio.run(_examined(load(given.config, given.set, os.environ)))
    except ConfigError as error:
        findings, wrong = [doctor.Finding("config", "fail", each, _CORRECT) for each in error.problems], True
    print(doctor.as_json(findings) if given.json else doctor.as_text(findings, colour=_colourful(sys.stdout)), end="")
    return _WRONG if wrong else 0 if doctor.works(findings) else _FAILED


def _colourful(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR")


async def _examined(config: Config) -> list[doctor.Finding]:
    return [finding async for finding in doctor.examine(config)]


def _components(_: argparse.Namespace) -> int:
    print("sources:")
    for name, entry in SOURCES.items():
        print(f"  - name: {name}\n    stability: {entry.stability}")
    print("exporters:")
    for name in EXPORTERS:
        print(f"  - name: {name}")
    return 0


def _translate(given: argparse.Namespace) -> int:
    config = load_for_translation(given.source, given.set, os.environ)
    name = given.file if given.file not in {None, "-"} else "standard input"
    code = 0
    with _opened(given.file) as stream:
        for piece in translate(config, stream, given.format):
            if isinstance(piece, Refused):
                code = _FAILED
                _complain(": ".join(part for part in (name, *piece) if part))
            else:
                sys.stdout.buffer.write(piece)
    return code


def _inspect(given: argparse.Namespace) -> int:
    name = given.file if given.file != "-" else "standard input"
    with _opened(given.file) as stream:
        try:
            print(inspection.inspect(name, stream), end="")
        except RecordingError as error:
            raise RecordingError(f"{name}: {error}") from error
    return 0


def _opened(file: str | None) -> BinaryIO:
    try:
        return sys.stdin.buffer if file in {None, "-"} else Path(file).open("rb")
    except OSError as error:
        raise StartError(f"{file}: {error.strerror}") from error


def _replay(given: argparse.Namespace) -> int:
    logging_ends = logs.configure("info", "console", sys.stderr)
    try:
        return _until_signalled(
            lambda shutdown: replay.serve(
                given.file,
                given.listen,
                shutdown=shutdown,
                rate=given.rate,
                loop=given.loop,
                now=given.now,
                started=lambda address: _complain(f"{given.file} is served at {address}"),
            )
        )
    finally:
        logging_ends()


def _version(_: argparse.Namespace) -> int:
    print(f"otelbee {VERSION}")
    return 0


def _complain(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _until_signalled(
    run: Callable[[Awaitable[object]], Coroutine[Any, Any, int | None]],
    stop_timeout_s: float = _STOP_TIMEOUT_S,
    hangup: asyncio.Event | None = None,
) -> int:
    """Run until SIGTERM or SIGINT, which ends it gracefully; a second one cancels it. Returns its exit code.

    What does not end within ``stop_timeout_s`` of a signal, a second more for its last words, is ended. ``hangup`` is
    set by SIGHUP.
    """
    signals = (signal.SIGTERM, signal.SIGINT, *([signal.SIGHUP] if hangup else []))
    before = {number: signal.getsignal(number) for number in signals}
    with _Deadline() as deadline:

        async def serve() -> int:
            loop = asyncio.get_running_loop()
            shutdown: asyncio.Future[None] = loop.create_future()
            task = asyncio.ensure_future(run(shutdown))

            def stop() -> None:
                if shutdown.done():
                    deadline.set(_STOP_MARGIN_S)
                    task.cancel()
                else:
                    deadline.set(stop_timeout_s + _STOP_MARGIN_S)
                    shutdown.set_result(None)

            for number in signals:
                loop.add_signal_handler(number, hangup.set if hangup and number == signal.SIGHUP else stop)
            try:
                return await task or 0
            finally:
                for number in signals:
                    loop.remove_signal_handler(number)
                await _end_tasks(deadline)

        try:
            return asyncio.run(serve())
        except asyncio.CancelledError:
            _complain("stopped at once by a second signal; what was queued in memory is lost")
            return _FAILED
        finally:
            for number, previous in before.items():
                signal.signal(number, previous)


async def _end_tasks(deadline: _Deadline) -> None:
    """Cancel what is left; asyncio itself would wait for ever for what ignores that."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left and (await asyncio.wait(left, timeout=_STOP_MARGIN_S))[1]:
        deadline.end()


class _Deadline:
    """Ends the process when time is up, whatever holds it: a task that ignores its cancellation, a thread that hangs."""

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def set(self, timeout_s: float) -> None:
        """End the process in ``timeout_s`` from now, and no later than was set before."""
        self.__exit__()
        self._timer = threading.Timer(timeout_s, self.end)
        self._timer.daemon = True
        self._timer.start()

    @staticmethod
    def end() -> None:
        """End the process now."""
        _complain("not everything stopped in time; ended without it")
        os._exit(_FAILED)


if __name__ == "__main__":
    sys.exit(main())
