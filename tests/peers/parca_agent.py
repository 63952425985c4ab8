"""A scripted Parca agent: it writes its samples in the agent's Arrow schemas and pushes them as the agent does.

The schemas are those of ``reporter/arrow_v2.go`` and ``reporter/arrow.go`` of parca-agent v0.49.0, written by pyarrow; the
agent's own writer is arrow-go. How it retries is ``flags/grpc.go``.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import grpc
import grpc.aio
import pyarrow as pa

from translators.pb.profilestore_pb2 import WriteArrowRequest, WriteRequest, WriteResponse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

STORE = "/parca.profilestore.v1alpha1.ProfileStoreService"

_TEXT = pa.dictionary(pa.uint32(), pa.utf8())
_LABEL = pa.run_end_encoded(pa.int32(), _TEXT)
_FUNCTION = pa.struct(
    [
        pa.field("system_name", pa.string_view()),
        pa.field("filename", _TEXT),
        pa.field("start_line", pa.uint64(), nullable=False),
    ]
)
_LINE = pa.struct(
    [
        pa.field("line", pa.uint64(), nullable=False),
        pa.field("column", pa.uint64(), nullable=False),
        pa.field("function", pa.dictionary(pa.uint32(), _FUNCTION), nullable=False),
    ]
)


class Line(NamedTuple):
    """Where in which function."""

    name: str
    filename: str | None = None
    line: int = 0
    column: int = 0
    start_line: int = 0


class Frame(NamedTuple):
    """One frame; one of machine code has no lines."""

    address: int
    frame_type: str | None = "native"
    file: str | None = None
    build_id: str | None = None
    lines: tuple[Line, ...] = ()


class Kind(NamedTuple):
    """What is measured."""

    producer: str = "parca_agent"
    sample_type: str = "samples"
    sample_unit: str = "count"
    period_type: str = "cpu"
    period_unit: str = "nanoseconds"
    temporality: str | None = "delta"
    period: int = 52_631_578
    duration_ns: int = 1_000_000_000


ON_CPU = Kind()
OFF_CPU = Kind(sample_type="wallclock", sample_unit="nanoseconds", period_type="samples", period_unit="count", period=0)
GPU = Kind(sample_type="gpu_kernel_time", sample_unit="nanoseconds", period_type="gpu_kernel_time", period=1)
HEAP = Kind("memory", "inuse_space", "bytes", "space", "bytes", None, 524_288, 0)


class Row(NamedTuple):
    """One sample."""

    labels: tuple[tuple[str, str], ...]
    """Sorted by name."""
    stack: tuple[Frame, ...]
    """Leaf first."""
    value: int
    time_ns: int
    kind: Kind = ON_CPU


def v2(rows: Sequence[Row], compression: str | None = "lz4") -> bytes:
    """Write a batch of schema v2, as ``WriteArrow`` carries it."""
    names = sorted({name for row in rows for name, _ in row.labels})
    children = [_runs([dict(row.labels).get(name) for row in rows], dictionary=True) for name in names]
    labels = (
        pa.StructArray.from_arrays(children, fields=[pa.field(name, _LABEL) for name in names])
        if names
        else pa.array([{}] * len(rows), pa.struct([]))
    )
    columns = {
        "labels": labels,
        "stacktrace": _stacks([row.stack for row in rows]),
        "stacktrace_id": pa.array([_id(row.stack) for row in rows], pa.binary(16)),
        "value": pa.array([row.value for row in rows], pa.int64()),
        **{name: _runs([getattr(row.kind, name) for row in rows]) for name in Kind._fields[:6]},
        "period": _runs([row.kind.period for row in rows], kind=pa.int64()),
        "duration": _runs([row.kind.duration_ns for row in rows], kind=pa.uint64()),
        "timestamp": pa.array([row.time_ns for row in rows], pa.timestamp("ns", "UTC")),
    }
    return stream(columns, "v2", compression)


def v1(rows: Sequence[Row]) -> tuple[bytes, dict[bytes, tuple[Frame, ...]]]:
    """Write the samples of schema v1, as ``Write`` begins; and the stacks by the ids that they are asked for."""
    names = sorted({name for row in rows for name, _ in row.labels})
    columns = {
        **{f"labels.{name}": _blobs([dict(row.labels).get(name) for row in rows]) for name in names},
        "stacktrace_id": _blobs([_id(row.stack) for row in rows]),
        "value": pa.array([row.value for row in rows], pa.int64()),
        **{name: _blobs([getattr(row.kind, name) for row in rows]) for name in Kind._fields[:6]},
        "period": _runs([row.kind.period for row in rows], kind=pa.int64()),
        "duration": _runs([row.kind.duration_ns for row in rows], kind=pa.int64()),
        "timestamp": _runs([row.time_ns for row in rows], kind=pa.int64()),
    }
    return stream(columns, "v1", None), {_id(row.stack): row.stack for row in rows}


def locations(stacks: Sequence[tuple[bytes, tuple[Frame, ...] | None]]) -> bytes:
    """Write what schema v1 answers with; a stack that the agent has forgotten is one frame that says so."""
    forgotten = (Frame(0, None, lines=(Line("missing stacktrace"),)),)
    frames = [frame for _, stack in stacks for frame in (stack if stack is not None else forgotten)]
    lines = [line for frame in frames for line in frame.lines]
    line = pa.StructArray.from_arrays(
        [
            pa.array([line.line for line in lines], pa.int64()),
            pa.array([line.column for line in lines], pa.uint64()),
            pa.array([line.name.encode() for line in lines], pa.binary()).dictionary_encode(),
            pa.array([b"" for _ in lines], pa.binary()).dictionary_encode(),
            _blobs([line.filename for line in lines]),
            pa.array([line.start_line for line in lines], pa.int64()),
        ],
        ["line", "column", "function_name", "function_system_name", "function_filename", "function_start_line"],
    )
    zeros = _runs([0 for _ in frames], kind=pa.uint64())
    frame = pa.StructArray.from_arrays(
        [
            pa.array([frame.address for frame in frames], pa.uint64()),
            _blobs([frame.frame_type for frame in frames]),
            zeros,
            zeros,
            zeros,
            _blobs([frame.file for frame in frames]),
            _blobs([frame.build_id for frame in frames]),
            _lists(pa.ListArray, [len(frame.lines) for frame in frames], line, null_if_empty=True),
        ],
        [
            "address",
            "frame_type",
            "mapping_start",
            "mapping_limit",
            "mapping_offset",
            "mapping_file",
            "mapping_build_id",
            "lines",
        ],
    )
    sizes = [len(stack if stack is not None else forgotten) for _, stack in stacks]
    columns = {
        "stacktrace_id": pa.array([each for each, _ in stacks], pa.binary()),
        "is_complete": pa.array([stack is not None for _, stack in stacks]),
        "locations": _lists(pa.ListArray, sizes, frame),
    }
    return stream(columns, "v1", None)


def stream(columns: dict[str, pa.Array], version: str, compression: str | None) -> bytes:
    """Write an IPC stream of one batch."""
    schema = pa.schema([(name, array.type) for name, array in columns.items()], {"parca_write_schema_version": version})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_batch(pa.record_batch(list(columns.values()), schema=schema))
    data: bytes = sink.getvalue().to_pybytes()
    return data


class Agent:
    """Pushes; counts how its calls ended by the name of their status."""

    def __init__(self, address: str, metadata: tuple[tuple[str, str], ...] = ()) -> None:
        """Connect when it first pushes, as plain text; ``metadata`` goes with every call."""
        options = [("grpc.max_send_message_length", 32 << 20), ("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.aio.insecure_channel(address, options=options)
        self._metadata = metadata
        self.ended: Counter[str] = Counter()

    async def __aenter__(self) -> Self:
        """Use it as a context."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connection."""
        await self._channel.close()

    async def call(self, method: str, message: bytes, timeout_s: float = 30) -> bytes:
        """Call a unary method of any service once; raises ``AioRpcError``."""
        call: Any = self._channel.unary_unary(method)
        try:
            answer: bytes = await call(message, metadata=self._metadata, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            self.ended[error.code().name] += 1
            raise
        self.ended["OK"] += 1
        return answer

    async def write_arrow(self, record: bytes, attempts: int = 10, backoff_s: float = 1.0) -> None:
        """Push a batch of schema v2; UNAVAILABLE and RESOURCE_EXHAUSTED are tried again, anything else drops it."""
        message = WriteArrowRequest(ipc_buffer=record).SerializeToString()
        for attempt in range(attempts):
            try:
                await self.call(f"{STORE}/WriteArrow", message)
            except grpc.aio.AioRpcError as error:
                again = error.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED}
                if not again or attempt + 1 == attempts:
                    raise
                await asyncio.sleep(backoff_s * 2**attempt)
            else:
                return

    async def write(
        self, samples: bytes, answer: Callable[[list[bytes]], bytes] | None, timeout_s: float = 30
    ) -> list[bytes]:
        """Take part in an exchange of schema v1, never again when it fails; returns the ids that it was asked for.

        ``answer`` makes the locations of ids; None ends the call instead.
        """
        method: Any = self._channel.stream_stream(f"{STORE}/Write")
        call = method(metadata=self._metadata, timeout=timeout_s)
        await call.write(WriteRequest(record=samples).SerializeToString())
        wanted: list[bytes] = []
        reply = await call.read()
        if isinstance(reply, bytes) and (record := WriteResponse.FromString(reply).record):
            with pa.ipc.open_stream(record) as reader:
                table = reader.read_all()
            assert table.schema.names == ["stacktrace_id"]  # anything else is an error of the agent's
            assert table.schema.field(0).type == pa.binary()
            wanted = table.column(0).to_pylist()
            if answer is not None:
                await call.write(WriteRequest(record=answer(wanted)).SerializeToString())
        await call.done_writing()
        while await call.read() is not grpc.aio.EOF:
            pass
        if await call.code() is not grpc.StatusCode.OK:
            raise grpc.aio.AioRpcError(
                await call.code(), await call.initial_metadata(), await call.trailing_metadata(), await call.details()
            )
        return wanted


def _runs(values: Sequence[Any], *, kind: pa.DataType = pa.utf8(), dictionary: bool = False) -> pa.Array:  # noqa: B008 - immutable
    """Run-end encode, the values of the runs in a dictionary where asked for."""
    ends, kept = [], []
    for index, value in enumerate(values):
        if index and value == kept[-1]:
            ends[-1] = index + 1
        else:
            ends.append(index + 1)
            kept.append(value)
    words = pa.array(kept, kind)
    if dictionary:
        words = words.dictionary_encode().cast(pa.dictionary(pa.uint32(), kind))
    return pa.RunEndEncodedArray.from_arrays(pa.array(ends, pa.int32()), words)


def _blobs(values: Sequence[str | bytes | None]) -> pa.Array:
    data = [value.encode() if isinstance(value, str) else value for value in values]
    return _runs(data, kind=pa.binary(), dictionary=True)


def _stacks(stacks: Sequence[tuple[Frame, ...]]) -> pa.Array:
    """Equal stacks share their place, as the agent's do."""
    places: dict[tuple[Frame, ...], int] = {(): 0}
    known: dict[Frame, int] = {}
    indices: list[int] = []
    for stack in stacks:
        if stack not in places:
            places[stack] = len(indices)
            indices += [known.setdefault(frame, len(known)) for frame in stack]
    frames = pa.DictionaryArray.from_arrays(pa.array(indices, pa.uint32()), _frames(list(known)))
    return pa.ListViewArray.from_arrays(
        pa.array([places[stack] for stack in stacks], pa.int32()),
        pa.array([len(stack) for stack in stacks], pa.int32()),
        frames,
    )


def _frames(frames: Sequence[Frame]) -> pa.Array:
    lines = [line for frame in frames for line in frame.lines]
    functions = list(dict.fromkeys((line.name, line.filename, line.start_line) for line in lines))
    function = pa.StructArray.from_arrays(
        [
            pa.array([name for name, _, _ in functions], pa.string_view()),
            _text([filename for _, filename, _ in functions]),
            pa.array([start for _, _, start in functions], pa.uint64()),
        ],
        fields=list(_FUNCTION),
    )
    places = pa.array([functions.index((line.name, line.filename, line.start_line)) for line in lines], pa.uint32())
    line = pa.StructArray.from_arrays(
        [
            pa.array([line.line for line in lines], pa.uint64()),
            pa.array([line.column for line in lines], pa.uint64()),
            pa.DictionaryArray.from_arrays(places, function),
        ],
        fields=list(_LINE),
    )
    return pa.StructArray.from_arrays(
        [
            pa.array([frame.address for frame in frames], pa.uint64()),
            _text([frame.frame_type for frame in frames]),
            _text([frame.file for frame in frames]),
            _text([frame.build_id for frame in frames]),
            _lists(pa.ListViewArray, [len(frame.lines) for frame in frames], line, null_if_empty=True),
        ],
        ["address", "frame_type", "mapping_file", "mapping_build_id", "lines"],
    )


def _text(values: Sequence[str | None]) -> pa.Array:
    return pa.array(values, pa.utf8()).dictionary_encode().cast(_TEXT)


def _lists(kind: Any, sizes: Sequence[int], values: pa.Array, *, null_if_empty: bool = False) -> pa.Array:
    starts = [0]
    for size in sizes:
        starts.append(starts[-1] + size)
    mask = pa.array([null_if_empty and not size for size in sizes], pa.bool_())
    if kind is pa.ListArray:
        return kind.from_arrays(pa.array(starts, pa.int32()), values, mask=mask)
    return kind.from_arrays(pa.array(starts[:-1], pa.int32()), pa.array(sizes, pa.int32()), values, mask=mask)


def _id(stack: tuple[Frame, ...]) -> bytes:
    return hash(stack).to_bytes(16, "big", signed=True)
