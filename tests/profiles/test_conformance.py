"""The checker of profiles is right about what is right, and sees every rule broken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import ExportProfilesServiceRequest
from profiles.conformance import problems, warnings

if TYPE_CHECKING:
    from collections.abc import Callable

    Break = Callable[[Any], object]


def _request() -> Any:
    """The smallest request that uses every table."""
    request = ExportProfilesServiceRequest()
    dictionary = request.dictionary
    dictionary.string_table.extend(["", "cpu", "nanoseconds", "main", "/bin/app", "thread.name", BUILD_ID])
    dictionary.attribute_table.add()
    dictionary.attribute_table.add(key_strindex=5, value={"string_value": "worker"})
    dictionary.attribute_table.add(key_strindex=6, value={"string_value": "0123456789abcdef"})
    dictionary.mapping_table.add()
    dictionary.mapping_table.add(memory_start=4096, memory_limit=8192, filename_strindex=4, attribute_indices=[2])
    dictionary.function_table.add()
    dictionary.function_table.add(name_strindex=3)
    dictionary.location_table.add()
    dictionary.location_table.add(mapping_index=1, address=5000, lines=[{"function_index": 1, "line": 7}])
    dictionary.stack_table.add()
    dictionary.stack_table.add(location_indices=[1])
    dictionary.link_table.add()
    dictionary.link_table.add(trace_id=bytes(range(16)), span_id=bytes(range(8)))
    resource = request.resource_profiles.add()
    resource.resource.attributes.add(key="service.name", value={"string_value": "app"})
    profile = resource.scope_profiles.add().profiles.add(
        sample_type={"type_strindex": 1, "unit_strindex": 2},
        time_unix_nano=1_000,
        duration_nano=10,
        profile_id=bytes(range(16)),
    )
    profile.samples.add(stack_index=1, link_index=1, attribute_indices=[1], values=[5], timestamps_unix_nano=[1_009])
    return request


BUILD_ID = "process.executable.build_id.gnu"


def _profile(request: Any) -> Any:
    return request.resource_profiles[0].scope_profiles[0].profiles[0]


def _sample(request: Any) -> Any:
    return _profile(request).samples[0]


def _line(request: Any) -> Any:
    return request.dictionary.location_table[1].lines[0]


def _line_of(request: Any, function_index: int) -> None:
    request.dictionary.location_table[1].lines.add(function_index=function_index)


def _set(message: Any, **fields: Any) -> None:
    for name, value in fields.items():
        setattr(message, name, value)


def _put(values: Any, index: int, value: Any) -> None:
    values[index] = value


def _add_string(request: Any, text: str) -> None:
    request.dictionary.string_table.append(text)


def _attribute_twice(request: Any) -> None:
    request.dictionary.attribute_table.add(key_strindex=5, value={"string_value": "other"})
    _sample(request).attribute_indices.append(3)


BREAKS: dict[str, tuple[Break, str]] = {
    "nothing in it": (lambda r: r.ClearField("resource_profiles"), "resource_profiles: empty"),
    "no scope": (lambda r: r.resource_profiles[0].ClearField("scope_profiles"), "no scope_profiles"),
    "no profile": (lambda r: r.resource_profiles[0].scope_profiles[0].ClearField("profiles"), "no profiles"),
    "no dictionary": (lambda r: r.ClearField("dictionary"), "string_table: empty"),
    "first string": (lambda r: _put(r.dictionary.string_table, 0, "x"), "string_table[0]: not empty"),
    "first mapping": (lambda r: _set(r.dictionary.mapping_table[0], memory_limit=1), "mapping_table[0]: not the zero"),
    "first location": (lambda r: _set(r.dictionary.location_table[0], address=1), "location_table[0]: not the zero"),
    "first function": (lambda r: _set(r.dictionary.function_table[0], start_line=1), "function_table[0]: not the zero"),
    "first link": (lambda r: _set(r.dictionary.link_table[0], span_id=bytes(8)), "link_table[0]: not the zero"),
    "first attribute": (lambda r: _set(r.dictionary.attribute_table[0], key_strindex=1), "attribute_table[0]: not"),
    "first stack": (lambda r: r.dictionary.stack_table[0].location_indices.append(1), "stack_table[0]: not the zero"),
    "stack out of range": (lambda r: _set(_sample(r), stack_index=2), "stack_index: 2 is outside"),
    "link out of range": (lambda r: _set(_sample(r), link_index=-1), "link_index: -1 is outside"),
    "attribute out of range": (lambda r: _sample(r).attribute_indices.append(9), "attribute_indices: 9 is outside"),
    "type out of range": (lambda r: _set(_profile(r).sample_type, type_strindex=99), "sample_type.type_strindex: 99"),
    "location out of range": (
        lambda r: _put(r.dictionary.stack_table[1].location_indices, 0, 5),
        "location_indices: 5",
    ),
    "mapping out of range": (lambda r: _set(r.dictionary.location_table[1], mapping_index=5), "mapping_index: 5"),
    "function out of range": (lambda r: _set(_line(r), function_index=5), "lines[0]: 5 is outside"),
    "negative line": (lambda r: _set(_line(r), line=-1), "negative"),
    "negative column": (lambda r: _set(_line(r), column=-1), "negative"),
    "negative start line": (lambda r: _set(r.dictionary.function_table[1], start_line=-2), "start_line -2"),
    "key twice": (_attribute_twice, "comes 2 times"),
    "range upside down": (
        lambda r: _set(r.dictionary.mapping_table[1], memory_start=9000),
        "is not below memory_limit",
    ),
    "short trace id": (lambda r: _set(r.dictionary.link_table[1], trace_id=b"x"), "ids of 1 and 8 bytes"),
    "time before": (lambda r: _put(_sample(r).timestamps_unix_nano, 0, 999), "outside of [1000, 1010)"),
    "time at the end": (lambda r: _put(_sample(r).timestamps_unix_nano, 0, 1_010), "outside of [1000, 1010)"),
    "neither value nor time": (
        lambda r: [_sample(r).ClearField(name) for name in ("values", "timestamps_unix_nano")],
        "neither values nor timestamps",
    ),
    "more values than times": (lambda r: _sample(r).values.append(6), "2 values but 1 timestamps"),
    "two values": (
        lambda r: [_sample(r).values.append(6), _sample(r).ClearField("timestamps_unix_nano")],
        "2 values without timestamps",
    ),
    "two shapes": (lambda r: _profile(r).samples.add(stack_index=1, values=[1]), "samples of different shapes"),
    "string twice": (lambda r: _add_string(r, "cpu"), "string_table[7]: equals entry 1"),
    "mapping twice": (lambda r: r.dictionary.mapping_table.append(r.dictionary.mapping_table[1]), "equals entry 1"),
    "orphan string": (lambda r: _add_string(r, "x"), "string_table[7]: nothing refers to it"),
    "orphan attribute": (
        lambda r: r.dictionary.attribute_table.add(key_strindex=3, value={"int_value": 1}),
        "attribute_table[3]: nothing refers",
    ),
    "orphan mapping": (lambda r: r.dictionary.mapping_table.add(file_offset=1), "mapping_table[2]: nothing refers"),
    "orphan function": (
        lambda r: r.dictionary.function_table.add(name_strindex=1),
        "function_table[2]: nothing refers",
    ),
    "orphan location": (lambda r: r.dictionary.location_table.add(address=1), "location_table[2]: nothing refers"),
    "orphan stack": (lambda r: r.dictionary.stack_table.add(location_indices=[1, 1]), "stack_table[2]: nothing refers"),
    "orphan link": (
        lambda r: r.dictionary.link_table.add(trace_id=b"t" * 16, span_id=b"s" * 8),
        "link_table[2]: nothing refers",
    ),
    "only an orphan refers to it": (
        lambda r: [_add_string(r, "x"), r.dictionary.function_table.add(name_strindex=7)],
        "string_table[7]: nothing refers to it",
    ),
}
"""Name, what breaks a request, and what is said of it. The profiling SIG's profcheck fails each of these, too."""

BEYOND: dict[str, tuple[Break, str]] = {
    "attribute 0": (lambda r: _sample(r).attribute_indices.append(0), "0 is no attribute"),
    "function without a name": (
        lambda r: [r.dictionary.function_table.add(start_line=3), _line_of(r, 2)],
        "function_table[2]: no name",
    ),
    "function twice": (
        lambda r: [r.dictionary.function_table.add(name_strindex=3), _line_of(r, 2)],
        "function_table[2]: equals entry 1",
    ),
    "profile id": (lambda r: _set(_profile(r), profile_id=bytes(16)), "profile_id"),
    "payload without format": (lambda r: _set(_profile(r), original_payload=b"x"), "belong together"),
    "resource key twice": (
        lambda r: r.resource_profiles[0].resource.attributes.add(key="service.name"),
        "'service.name' comes 2 times",
    ),
    "reference out of range": (
        lambda r: _set(r.resource_profiles[0].resource.attributes[0], key="", key_strindex=50),
        "key_strindex: 50",
    ),
}
"""What profcheck lets pass."""


def test_a_conforming_request_has_no_problems() -> None:
    """Neither problems nor warnings."""
    data = _request().SerializeToString()
    assert (problems(data), warnings(data)) == ([], [])


@pytest.mark.parametrize("name", [*BREAKS, *BEYOND])
def test_broken_rule_is_seen(name: str) -> None:
    """Each rule, broken alone, is reported with its place."""
    break_it, expected = {**BREAKS, **BEYOND}[name]
    assert any(expected in problem for problem in problems(broken(break_it))), problems(broken(break_it))


def test_mapping_without_a_build_id_is_a_warning() -> None:
    """The input had none, and nobody may invent one."""
    request = _request()
    request.dictionary.string_table[6] = "other"
    data = request.SerializeToString()
    assert problems(data) == []
    assert warnings(data) == ["mapping_table[1]: no build id"]


def broken(break_it: Break) -> bytes:
    """The conforming request after ``break_it``."""
    request = _request()
    break_it(request)
    data: bytes = request.SerializeToString()
    return data
