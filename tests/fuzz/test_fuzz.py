"""Every decoder on a bounded, always equal set of bad inputs; each target can be run longer by hand."""

from __future__ import annotations

import pytest
from fuzz import fuzz_otlp, fuzz_parca, fuzz_pprof, fuzz_profile, fuzz_recording, fuzz_tetragon, mutations

pytestmark = pytest.mark.timeout(120)


def test_the_tetragon_translator_gives_every_bad_event_one_outcome() -> None:
    """No exception, neighbours kept, output that the official schema reads, bounded memory."""
    mutations.in_a_test(fuzz_tetragon.check_protobuf, fuzz_tetragon.inputs("protobuf"), 300)


def test_the_tetragon_translator_gives_every_bad_line_one_outcome() -> None:
    """The same for the agent's JSON."""
    mutations.in_a_test(fuzz_tetragon.check_json, fuzz_tetragon.inputs("json"), 300)


def test_otlp_requests_are_malformed_or_can_be_counted_split_and_shown() -> None:
    """What is checked without parsing agrees with what parsing finds."""
    mutations.in_a_test(fuzz_otlp.check, fuzz_otlp.inputs(), 500)


def test_a_damaged_recording_is_read_up_to_the_damage() -> None:
    """Both formats, gzip or not."""
    mutations.in_a_test(fuzz_recording.check_messages, fuzz_recording.inputs(), 200)
    mutations.in_a_test(fuzz_recording.check_lines, fuzz_recording.inputs(), 200)


def test_a_push_of_profiles_is_read_or_refused() -> None:
    """Forms, queries and JSON of all profilers: nothing but the errors that a sender is told."""
    mutations.in_a_test(fuzz_pprof.check, fuzz_pprof.inputs(), 300)


def test_a_damaged_profile_is_refused_or_conforms() -> None:
    """Whatever is in it, nothing is raised, and what comes out is what the specification asks for."""
    mutations.in_a_test(fuzz_profile.check, fuzz_profile.inputs(), 300)


def test_a_file_of_profiles_is_shown_or_refused() -> None:
    """Whatever it says, a terminal is not made to obey."""
    mutations.in_a_test(fuzz_pprof.check_file, fuzz_pprof.files(), 300)


def test_an_arrow_record_of_parcas_is_translated_or_refused() -> None:
    """Both schemas, compressed or not: OTLP that conforms, or a reason; the process survives."""
    mutations.in_a_test(fuzz_parca.check, fuzz_parca.inputs(), 400)


def test_the_memory_bound_fails_what_goes_beyond_it() -> None:
    """The guard itself works."""
    with pytest.raises(AssertionError, match="the bound is"), mutations.bounded(1, factor=1, room_mib=1):
        bytearray(2**21)
