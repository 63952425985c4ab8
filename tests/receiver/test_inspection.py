"""``otelbee inspect``: exact texts of small files, the problems that are found, and files that are none."""

from __future__ import annotations

import gzip
import io
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
import zstandard
from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import ExportProfilesServiceRequest
from peers.processes import run_otelbee

from receiver.errors import RecordingError
from receiver.inspection import inspect
from translators.pb.profile_pb2 import Profile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STRINGS = [
    "",
    "cpu",
    "nanoseconds",
    "samples",
    "count",
    "main",
    "spin",
    "/usr/bin/app",
    "0123456789abcdef0123456789abcdef01234567",
    "thread",
    "worker\x1b[31m",
    "bytes",
    "hello",
]


def small() -> Profile:
    """Two samples; one of three frames has no name."""
    profile = Profile(string_table=STRINGS, time_nanos=1_700_000_000_123_000_000, duration_nanos=10_000_000_000)
    profile.sample_type.add(type=3, unit=4)
    profile.sample_type.add(type=1, unit=2)
    profile.period_type.type, profile.period_type.unit, profile.period = 1, 2, 10_000_000
    profile.comment.append(12)
    profile.mapping.add(id=1, memory_start=0x1000, memory_limit=0x9000, filename=7, build_id=8)
    profile.function.add(id=1, name=5)
    profile.function.add(id=2, name=6)
    profile.location.add(id=1, mapping_id=1, address=0x1500).line.add(function_id=1, line=3)
    profile.location.add(id=2, mapping_id=1, address=0x1600).line.add(function_id=2, line=4)
    profile.location.add(id=3, mapping_id=1, address=0x1789)
    one = profile.sample.add(location_id=[2, 1], value=[3, 30_000_000])
    one.label.add(key=9, str=10)
    two = profile.sample.add(location_id=[3, 2, 1], value=[1, 10_000_000])
    two.label.add(key=11, num=512, num_unit=11)
    return profile


def said(data: bytes, name: str = "file") -> str:
    """What is said of a file's content."""
    return inspect(name, io.BytesIO(data))


PPROF = """\
file: pprof, 289B

  taken     2023-11-14 22:13:20.123 UTC
  duration  10.00s
  period    10.00ms of cpu
  samples   2, 3 locations, 2 functions, 1 mappings
  comment   hello

Sample types
  type             samples    total
  samples/count          2        4
  cpu/nanoseconds        2  40.00ms  default

Functions by cpu/nanoseconds
     flat  flat%      cum    cum%  function
  30.00ms  75.0%  40.00ms  100.0%  spin
  10.00ms  25.0%  10.00ms   25.0%  app+0x789
      0ns   0.0%  40.00ms  100.0%  main

Labels
  name    samples  values
  bytes         1  512 bytes
  thread        1  worker\N{REPLACEMENT CHARACTER}[31m

Mappings
  file          locations  build id
  /usr/bin/app          3  gnu 0123456789abcdef0123456789abcdef01234567

Problems
  - frames without a function name: 1; profile with symbols, symbolize by build id, or see native_names in \
docs/sources/pprof.md
"""


def test_a_pprof_profile() -> None:
    """Everything that is in it; what a terminal would obey is not passed on."""
    data = small().SerializeToString()
    assert said(data) == PPROF
    packed = gzip.compress(data)
    first = f"file: pprof, gzip, {len(packed)}B (289B decompressed)"
    assert said(packed) == PPROF.replace("file: pprof, 289B", first)
    assert said(zstandard.ZstdCompressor().compress(data)).splitlines()[1:] == PPROF.splitlines()[1:]


def test_the_problems_of_a_pprof_profile() -> None:
    """Each with how often it is there."""
    profile = small()
    profile.time_nanos = 0
    profile.string_table[0] = "x"
    profile.sample.add(location_id=[77], value=[1])
    profile.location.add(id=3, mapping_id=9).line.add(function_id=8)
    profile.mapping.add(id=2, filename=7)
    profile.function.add(id=1, name=99)
    profile.default_sample_type = 3
    text = said(profile.SerializeToString() + b"\x32\x01\xff")
    assert "samples/count          3        5  default" in text
    assert text.partition("Problems\n")[2].splitlines() == [
        "  - samples with another number of values than there are sample types: 1",
        "  - the time is missing; the time of arrival stands for it, or from= of a push",
        "  - the first string is not empty",
        "  - references to strings that lead nowhere: 1",
        "  - references to locations that lead nowhere: 1",
        "  - references to functions that lead nowhere: 1",
        "  - references to mappings that lead nowhere: 1",
        "  - locations with the id of another one: 1",
        "  - functions with the id of another one: 1",
        "  - strings that are not UTF-8: 1",
        (
            "  - frames without a function name: 3; profile with symbols, symbolize by build id, or see native_names in "
            "docs/sources/pprof.md"
        ),
        "  - mappings without a build id: 1; nobody can symbolize them later",
    ]
    twice = said(small().SerializeToString() * 2)
    assert "  - several profiles stand one behind the other: push each alone" in twice


def request() -> ExportProfilesServiceRequest:
    """One profile of one resource, with the tables it needs."""
    made = ExportProfilesServiceRequest()
    tables = made.dictionary
    tables.string_table.extend(
        ["", "samples", "count", "cpu", "nanoseconds", "main", "app", "process.executable.build_id.gnu", "thread.id"]
    )
    tables.mapping_table.add()
    tables.mapping_table.add(filename_strindex=6, attribute_indices=[1])
    tables.attribute_table.add()
    tables.attribute_table.add(key_strindex=7).value.string_value = "abcd"
    tables.attribute_table.add(key_strindex=8).value.int_value = 5
    tables.link_table.add()
    tables.function_table.add()
    tables.function_table.add(name_strindex=5)
    tables.location_table.add()
    tables.location_table.add(mapping_index=1, address=16).lines.add(function_index=1)
    tables.stack_table.add()
    tables.stack_table.add(location_indices=[1])
    outer = made.resource_profiles.add()
    outer.resource.attributes.add(key="service.name").value.string_value = "shop"
    profile = outer.scope_profiles.add().profiles.add(time_unix_nano=1_700_000_000_000_000_000, period=10_000_000)
    profile.sample_type.type_strindex, profile.sample_type.unit_strindex = 1, 2
    profile.period_type.type_strindex, profile.period_type.unit_strindex = 3, 4
    profile.samples.add(stack_index=1, values=[7], attribute_indices=[2])
    return made


OTLP = """\
file: OTLP profiles, 288B

  period    10.00ms of cpu
  taken     2023-11-14 22:13:20.000 UTC
  requests  1, 1 profiles
  resource  service.name=shop (1 profiles)

Sample types
  type           samples  total
  samples/count        1      7  default

Functions by samples/count
  flat   flat%  cum    cum%  function
     7  100.0%    7  100.0%  main

Labels
  name       samples  values
  thread.id        1  5

Mappings
  file  locations  build id
  app           1  gnu abcd

No problems found.
"""


def test_an_otlp_request() -> None:
    """Alone, or several as the Collector's file exporter writes them."""
    data = request().SerializeToString()
    assert said(data) == OTLP.replace("288B", f"{len(data)}B")
    framed = len(data).to_bytes(4, "big") + data
    twice = said(framed * 2)
    assert "requests  2, 2 profiles" in twice
    assert "service.name=shop (2 profiles)" in twice
    assert "samples/count        2     14  default" in twice


def test_the_problems_of_an_otlp_request() -> None:
    """Indices that lead nowhere, tables without their zero value, samples without anything."""
    made = request()
    made.dictionary.string_table[0] = "x"
    del made.dictionary.link_table[:]
    made.dictionary.mapping_table.add(filename_strindex=6)
    profile = made.resource_profiles[0].scope_profiles[0].profiles[0]
    profile.samples.add(stack_index=9)
    text = said(made.SerializeToString())
    assert text.partition("Problems\n")[2].splitlines() == [
        "  - indices that lead nowhere: 1",
        "  - link_tables whose first entry is not the zero value: 1",
        "  - string_tables whose first entry is not the zero value: 1",
        "  - samples with neither values nor timestamps: 1",
        "  - mappings without a build id: 1; nobody can symbolize them later",
    ]


def test_the_layout_before_is_recognised(shared_data: Callable[..., Path]) -> None:
    """A parser of 1.10 reads it without an error, and wrongly."""
    text = said(shared_data("profiles", "otlp", "k8s.otlp").read_bytes())
    assert "samples in the layout of OTLP 1.9 or before: 165; they would be read wrongly" in text


def test_every_pprof_of_the_shared_data(shared_data: Callable[..., Path]) -> None:
    """The totals are those that go tool pprof shows."""
    for path in sorted(shared_data("profiles", "pprof").iterdir()):
        assert ": pprof" in said(path.read_bytes(), path.name)
    text = said(shared_data("profiles", "pprof", "query__single-stack.pb.gz").read_bytes())
    assert "  /bin/parca-agent          7  go KCfS6azcoNlxMkpW5Vnk/XYLqHR7ltc3hVx42qQnI/" in text
    text = said(shared_data("profiles", "pprof", "parca__alloc_objects.pb.gz").read_bytes())
    assert "  alloc_space/bytes      4,661    108.07GiB  default" in text.splitlines()
    assert "   27.86GiB  25.8%   48.22GiB  44.6%  compress/flate.NewWriter" in text.splitlines()


def test_arrow_records(shared_data: Callable[..., Path]) -> None:
    """Both versions; a frame without a name is shown by file and address."""
    text = said(shared_data("profiles", "arrow", "v2_lz4.arrows").read_bytes())
    for line in (
        "file: Arrow record of Parca, v2, 10.60KiB",
        "  samples  6, by parca_agent",
        "  samples/count                5         5  default",
        "  comm              6  python3, kworker/0:1",
        "  libc.so.6                           1  gnu or htlhash 69389d485a9793dbe873f0ea2c93e02efaa9aa3d",
    ):
        assert line in text.splitlines()
    assert "libc.so.6+0x1234" in text
    text = said(shared_data("profiles", "arrow", "v1_samples.arrows").read_bytes())
    assert "the first half of Parca's older exchange has their ids alone" in text
    text = said(shared_data("profiles", "arrow", "v1_locations.arrows").read_bytes())
    assert "2, without samples: the second half of Parca's older exchange" in text


def test_an_arrow_record_that_claims_too_much(shared_data: Callable[..., Path]) -> None:
    """Is not believed: Arrow would make room for what it claims."""
    data = bytearray(shared_data("profiles", "arrow", "v2_lz4.arrows").read_bytes())
    at = data.index(b"\x04\x22\x4d\x18") - 8  # the length in front of an LZ4 frame
    data[at : at + 8] = (1 << 40).to_bytes(8, "little")
    with pytest.raises(RecordingError, match="the Arrow data is damaged"):
        said(bytes(data))


def ipc(table: pa.Table) -> bytes:
    """A stream of one table."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "this is neither a pprof profile"),
        (b"heap profile: 1: 2 [3: 4] @ heapprofile\n", "convert them with go tool pprof -proto"),
        (b"FLR\0\0\2", "this is a JFR recording"),
        (gzip.compress(small().SerializeToString())[:-9], "the gzip data is damaged or cut off"),
        (gzip.compress(bytes(300 << 20), 1), "larger than 256 MiB when it is decompressed"),
        (b"\xff\xff\xff\xff\x10\x00\x00\x00nonsense", "the Arrow data is damaged"),
        (b"ARROW1\0\0", "this is neither a pprof profile"),
        (ipc(pa.table({"a": [1]})), "no record of Parca's agent: it has no column value, sample_type"),
    ],
)
def test_files_that_are_none(data: bytes, says: str) -> None:
    """Are an error that says what is read."""
    with pytest.raises(RecordingError, match=says):
        said(data)


def test_the_command(tmp_path: Path) -> None:
    """Text on standard output and 0; a line on standard error and 1, or 2 where the file cannot be opened."""
    path = tmp_path / "cpu.pb"
    path.write_bytes(small().SerializeToString())
    done = run_otelbee("inspect", path)
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, PPROF.replace("file:", f"{path}:", 1), b"")
    done = run_otelbee("inspect", "-", stdin=b"x")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"standard input: this is neither")
    done = run_otelbee("inspect", tmp_path / "missing")
    assert (done.returncode, b"No such file" in done.stderr) == (2, True)
