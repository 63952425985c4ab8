"""Exports to a file in the formats of the Collector's file exporter.

``json`` is a request per line, ``proto`` the length of a request as four bytes, most significant first, and the
request. The Collector's ``otlpjsonfile`` receiver reads the first.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import glob
import json
import os
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from receiver.errors import Held, StartError
from receiver.exporters.sending_queue import SendingQueue
from receiver.fields import Section
from translators.otlp import Malformed, to_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from translators.batch import Batch

_MIB = 1 << 20
_MODE = 0o600
_LENGTH = struct.Struct(">I")

Format = Literal["json", "proto"]


class Rotation(Section):
    """When a file is set aside and how many of those stay."""

    max_megabytes: Annotated[int, Field(ge=1)] = 100
    """MiB after which a new file is begun; a single larger request still goes into one file."""
    max_backups: Annotated[int, Field(ge=0)] = 100
    """Files set aside that are kept, the newest; 0 keeps all."""


class Config(Section):
    """Where and how to write; the keys are those of the Collector's ``file`` exporter."""

    path: Path
    """Created with mode 0600; its folder must exist."""
    format: Format = "json"
    append: bool = False
    """Go on behind what the file has, instead of emptying it at start."""
    rotation: Rotation | None = None
    """Off when absent. With it the file is never emptied at start."""
    sending_queue: SendingQueue = SendingQueue()

    @model_validator(mode="after")
    def _rotation_appends(self) -> Self:
        if self.append and self.rotation is not None:
            raise ValueError("append and rotation exclude each other; a file that rotates is appended to anyway")
        return self


def encode(batch: Batch, file_format: Format) -> bytes:
    """One request in the file's format, its end of line or its length included."""
    if file_format == "json":
        return _line(batch).encode() + b"\n"
    return _LENGTH.pack(len(batch.data)) + batch.data


def _line(batch: Batch) -> str:
    try:
        return to_json(batch.signal, batch.data)
    except Malformed:  # readers of OTLP's JSON ignore fields that they do not know
        malformed = {"signal": batch.signal.value, "request": base64.b64encode(batch.data).decode()}
        return json.dumps({"malformed": malformed})


class Exporter:
    """Appends each batch to the file and leaves nothing in a buffer. Encoding and writing happen in a thread."""

    def __init__(self, config: Config, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """Open the file; ``now`` names what is set aside.

        Raises:
            StartError: The file cannot be opened.
        """
        self._format = config.format
        self._turn = asyncio.Lock()
        try:
            self._file = _File(config.path, config.rotation, now, keep=config.append or config.rotation is not None)
        except OSError as error:
            raise StartError(f"file: {config.path} cannot be opened for writing: {error.strerror}") from None

    async def export(self, batch: Batch) -> None:
        """Write one request; raises :class:`Held` while the file does not take it."""
        async with self._turn:
            try:
                await asyncio.to_thread(self._write, batch)
            except OSError as error:
                remedy = "make room there, or let this user write it"
                raise Held(f"{self._file.path} cannot be written: {error.strerror}", remedy) from None

    async def close(self) -> None:
        """Close the file."""
        async with self._turn:
            self._file.close()

    def _write(self, batch: Batch) -> None:
        self._file.append(encode(batch, self._format))


class _File:
    """An append-only file that keeps whole frames and may rotate."""

    def __init__(self, path: Path, rotation: Rotation | None, now: Callable[[], datetime], *, keep: bool) -> None:
        self.path = path
        self._now = now
        self._rotation = rotation
        self._descriptor = _open(path, keep=keep)

    def append(self, frame: bytes) -> None:
        """Write a frame whole, or leave the file as it was and raise."""
        size = os.fstat(self._descriptor).st_size
        if self._rotation and size and size + len(frame) > self._rotation.max_megabytes * _MIB:
            self._rotate(self._rotation)
            size = 0
        rest = memoryview(frame)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            if len(rest) < len(frame):
                os.ftruncate(self._descriptor, size)
            raise

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _rotate(self, rotation: Rotation) -> None:
        # The names of the Collector's rotation (timberjack): data-2025-01-02T15-04-05.000-size.jsonl
        stem, suffix = self.path.stem, self.path.suffix
        moment = self._now()
        while (backup := self.path.with_name(f"{stem}-{moment:%Y-%m-%dT%H-%M-%S.%f}"[:-3] + f"-size{suffix}")).exists():
            moment += timedelta(milliseconds=1)
        with contextlib.suppress(FileNotFoundError):  # somebody else moved it
            self.path.rename(backup)
        fresh = _open(self.path, keep=True)
        self.close()
        self._descriptor = fresh
        if rotation.max_backups:
            backups = sorted(self.path.parent.glob(f"{glob.escape(stem)}-*-size{glob.escape(suffix)}"))
            for old in backups[: -rotation.max_backups]:
                old.unlink(missing_ok=True)


def _open(path: Path, *, keep: bool) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | (0 if keep else os.O_TRUNC), _MODE)
