"""What each command of ``otelbee`` can be given."""

from __future__ import annotations

import argparse
from pathlib import Path

from receiver.registry import TRANSLATABLE

LAYERS_HELP = """\
Later layers win: --config files in order (maps merge, lists are replaced), --set, then the environment:
OTELBEE__EXPORTER__OTLP_GRPC__ENDPOINT=localhost:4317 sets exporter::otlp_grpc::endpoint.
Any value may be ${env:NAME} or ${env:NAME:-default}; $$ is a dollar sign.
"""


def formatter(prog: str) -> argparse.HelpFormatter:
    """Lay help out for terminals of 100 columns."""
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=30, width=100)


def add_init(parser: argparse.ArgumentParser) -> None:
    """Add those of ``init``."""
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="where to write it, not over a file that is there (default: stdout)",
    )
    parser.add_argument("--force", action="store_true", help="write over a file that is there")


def add_layers(parser: argparse.ArgumentParser) -> None:
    """Add those of every command that reads a configuration."""
    parser.add_argument(
        "--config", action="append", default=[], type=Path, metavar="FILE", help="a YAML file; may be repeated"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="PATH=VALUE",
        help="one value, for example exporter.otlp_grpc.endpoint=localhost:4317; write :: between keys that hold dots",
    )


def add_translate(parser: argparse.ArgumentParser) -> None:
    """Add those of ``translate``."""
    parser.add_argument("source", metavar="SOURCE", help=f"whose data it is: {', '.join(TRANSLATABLE)}")
    parser.add_argument(
        "file", metavar="FILE", nargs="?", help="the data, gzip or not; - (the default) is standard input"
    )
    parser.add_argument(
        "--format",
        choices=("json", "proto"),
        default="json",
        help="as the Collector's file exporter writes: a line of JSON, or 4-byte length and message (default: json)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="OPTION=VALUE",
        help="an option of the source, or one below resource or redaction, for example redaction.enabled=false",
    )


def add_replay(parser: argparse.ArgumentParser) -> None:
    """Add those of ``replay``."""
    parser.add_argument("source", metavar="SOURCE", choices=["tetragon"], help="what to play: tetragon")
    parser.add_argument("file", metavar="FILE", type=Path, help="its recorded events, gzip or not")
    parser.add_argument("--listen", required=True, metavar="ADDRESS", help="host:port, or unix:///path")
    parser.add_argument("--rate", type=_positive, metavar="N", help="events per second (default: as fast as they go)")
    parser.add_argument("--loop", action="store_true", help="begin anew after the last event")
    parser.add_argument("--now", action="store_true", help="let each event happen when it is sent")


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number
