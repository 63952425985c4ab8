"""Bad profiles and bad raw pushes for the translator of pprof."""

from __future__ import annotations

import gzip
from typing import NamedTuple

from fuzz import mutations
from hypothesis import strategies as st
from profiles.conformance import problems
from profiles.generated import profiles, unpacked

from translators.batch import Origin, Signal
from translators.otlp import count_items
from translators.otlp_profiles import split
from translators.pb.profilestore_pb2 import WriteRawRequest
from translators.pb.push_pb2 import PushRequest
from translators.pprof import Options, Translator


class Input(NamedTuple):
    """A record of one kind."""

    kind: str
    data: bytes


def _seeds() -> list[bytes]:
    """One profile that has everything, in the encodings that there are."""
    from translators.pb.profile_pb2 import (  # noqa: PLC0415 - only here
        Function,
        Label,
        Line,
        Location,
        Mapping,
        Profile,
        Sample,
        ValueType,
    )

    profile = Profile(
        sample_type=[ValueType(type=1, unit=2), ValueType(type=3, unit=2)],
        sample=[
            Sample(location_id=[1, 2, 1], value=[5, -6], label=[Label(key=4, str=5), Label(key=4, num=7, num_unit=2)]),
            Sample(location_id=[2], value=[0, 1 << 62]),
        ],
        mapping=[Mapping(id=1, memory_start=1, memory_limit=2, filename=5, build_id=6)],
        location=[
            Location(id=1, mapping_id=1, address=1, line=[Line(function_id=1, line=3), Line(function_id=2)]),
            Location(id=2, is_folded=True),
        ],
        function=[Function(id=1, name=4, filename=5), Function(id=2, system_name=6, start_line=9)],
        string_table=["", "cpu", "nanoseconds", "wall", "trace_id", "a.go", "0123456789abcdef"],
        comment=[4, 5],
        period_type=ValueType(type=1, unit=2),
        default_sample_type=1,
    )
    raw = profile.SerializeToString()
    return [raw, unpacked(profile), gzip.compress(raw)]


def _pushed(kind: str, body: bytes) -> bytes:
    if kind == "pprof":
        return body
    if kind == "write_raw":
        request = WriteRawRequest()
        series = request.series.add()
        series.labels.labels.add(name="job", value="x")
        series.samples.add(raw_profile=body).executable_info.add(elf_type=3)
        return request.SerializeToString()
    push = PushRequest()
    push.series.add().samples.add(raw_profile=body, ID="1")
    return push.SerializeToString()


def inputs() -> st.SearchStrategy[Input]:
    """Damaged profiles, good ones nobody writes, and damage to the pushes around them."""
    bodies = st.one_of(mutations.any_bytes(_seeds()), profiles().map(lambda profile: profile.SerializeToString()))
    kinds = st.sampled_from(["pprof", "write_raw", "pyroscope_push"])
    pushed = st.builds(lambda kind, body: Input(kind, _pushed(kind, body)), kinds, bodies)
    seeds = [_pushed(kind, body) for kind in ("write_raw", "pyroscope_push") for body in _seeds()]
    return st.one_of(pushed, st.builds(Input, kinds, mutations.any_bytes(seeds)))


def check(given: Input) -> None:
    """Refused with a reason, or a request that conforms, counts what it has and can be cut."""
    with mutations.bounded(len(given.data), factor=256, room_mib=16):
        translation = Translator(Options()).translate(given.kind, [given.data], Origin(), 1 << 60)
    for rejection in translation.rejected:
        assert rejection.index == 0
        assert rejection.reason in {"malformed", "too_large", "unsupported"}
        assert rejection.message
    for batch in translation.batches:
        assert problems(batch.data) == []
        assert count_items(Signal.PROFILES, batch.data) == batch.items
        pieces = split(batch, 200)
        assert sum(piece.items for piece in pieces) == batch.items


if __name__ == "__main__":
    mutations.by_hand({"profile": (check, inputs())})
