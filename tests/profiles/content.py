"""What a pprof says, without the ids and indices that say it: two profiles with equal content say the same."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from translators.pb.profile_pb2 import Profile


class Content(NamedTuple):
    """Header fields by name, and how often each sample comes: (stack, labels, values).

    A stack is a tuple of frames, the leaf first; a frame is (address, mapping, folded, lines); a mapping is None or
    (start, limit, offset, file name, build id, the four flags); a line is (function, line, column); a function is
    None or (name, system name, file name, start line). Labels are sorted by key; those of one key keep their order.
    """

    header: dict[str, Any]
    samples: Counter[tuple[Any, ...]]


def content(profile: Profile) -> Content:
    """Resolve every id and index. What no sample refers to is not part of the content."""
    text = profile.string_table or [""]
    mappings = {each.id: _mapping(each, text) for each in profile.mapping}
    functions = {
        each.id: (text[each.name], text[each.system_name], text[each.filename], each.start_line)
        for each in profile.function
    }
    functions = {key: value for key, value in functions.items() if any(value[:3])}
    frames = {
        each.id: (
            each.address,
            mappings[each.mapping_id] if each.mapping_id else None,
            each.is_folded,
            tuple((functions.get(line.function_id), line.line, line.column) for line in each.line),
        )
        for each in profile.location
    }
    types = [(text[each.type], text[each.unit]) for each in profile.sample_type]
    return Content(
        {
            "sample_type": types,
            "drop_frames": text[profile.drop_frames],
            "keep_frames": text[profile.keep_frames],
            "time_nanos": profile.time_nanos,
            "duration_nanos": profile.duration_nanos,
            "period_type": (text[profile.period_type.type], text[profile.period_type.unit]),
            "period": profile.period,
            "comment": [text[each] for each in profile.comment],
            "default_sample_type": text[profile.default_sample_type],
            "doc_url": text[profile.doc_url],
        },
        Counter(
            (tuple(frames[each] for each in sample.location_id), _labels(sample, text), tuple(sample.value))
            for sample in profile.sample
        ),
    )


def _mapping(mapping: Any, text: Any) -> tuple[Any, ...] | None:
    """What a mapping says; one that says nothing is none."""
    said = (
        mapping.memory_start,
        mapping.memory_limit,
        mapping.file_offset,
        text[mapping.filename],
        text[mapping.build_id],
        (mapping.has_functions, mapping.has_filenames, mapping.has_line_numbers, mapping.has_inline_frames),
    )
    return said if any((*said[:-1], *said[-1])) else None


def _labels(sample: Any, text: Any) -> tuple[Any, ...]:
    labels = [
        (text[each.key], text[each.str]) if each.str else (text[each.key], each.num, text[each.num_unit])
        for each in sample.label
    ]
    return tuple(sorted(labels, key=lambda label: label[0]))  # stable: one key's labels keep their order
