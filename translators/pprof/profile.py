"""One pprof to one OTLP ``ScopeProfiles``: a Profile for each of its sample types, the default one first."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, NamedTuple

from translators import attributes as key
from translators import event
from translators.pprof import samples
from translators.pprof.refused import RefusedError
from translators.pprof.sample_labels import Labels
from translators.pprof.tables import Functions, Locations, Mappings, Strings
from translators.profiles.dictionary import indices, number
from translators.wire import SCOPE_TAG, Key, any_array, any_int, any_string, field, fixed64_field

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Mapping, Sequence

    from translators.pprof.options import Options
    from translators.pprof.read import Pprof
    from translators.profiles.dictionary import Dictionary

FRAMES, UNNAMED_FRAMES, INVALID_STRINGS = "frames", "unnamed_frames", "invalid_strings"
"""Counts: distinct frames, those of them that came without a name, and strings that were no UTF-8."""

COMMENT: Final = "pprof.profile.comment"
DROP_FRAMES: Final = "pprof.profile.drop_frames"
KEEP_FRAMES: Final = "pprof.profile.keep_frames"
DOC_URL: Final = "pprof.profile.doc_url"
TIME_NANOS: Final = "pprof.profile.time_nanos"
DURATION_NANOS: Final = "pprof.profile.duration_nanos"
"""What the profile says of its time and that cannot be right; OTLP's own fields then have something better."""
DEFAULT_SAMPLE_TYPE: Final = "pprof.scope.default_sample_type"
SAMPLE_TYPE_ORDER: Final = "pprof.scope.sample_type_order"
ORIGINAL_FORMAT: Final = "pprof"

_ORDER: Final = Key(SAMPLE_TYPE_ORDER, SCOPE_TAG)
_SCHEMA: Final = field(3, key.SCHEMA_URL.encode())
_YEAR_1971_NS: Final = 31_536_000 * 10**9
_MAX_TYPES: Final = 100
"""Of samples: each type is a Profile, which has all samples. Go's heap profiles have 4, the JVM's a dozen."""
_EXPANSION: Final = 4
"""How many times ``max_bytes`` the encoded samples may have, labels and stacks being repeated for each type."""


class Given(NamedTuple):
    """What came beside a pprof."""

    resource: bytes
    """The encoded ``Resource`` that it is of, which is a part of its identity."""
    about_profile: Mapping[str, str]
    """Attributes of its Profiles."""
    payload: bytes
    """The body as it came."""
    start_ns: int
    """Unix time in nanoseconds of its start, where it does not say it itself."""
    mappings: Sequence[Mapping[str, int]] = ()
    """Further attributes of its mappings, in their order."""


class Translated(NamedTuple):
    """An encoded ``ScopeProfiles``."""

    scope_profiles: bytes
    samples: int
    end_ns: int
    """Unix time in nanoseconds."""


def translate(pprof: Pprof, given: Given, dictionary: Dictionary, options: Options, counts: Counter[str]) -> Translated:
    """Translate one pprof; what it refers to is entered into the dictionary.

    Raises:
        RefusedError: Something in it is wrong; the dictionary has parts of it then.
    """
    header = pprof.header
    types = len(header.sample_type)
    if types > _MAX_TYPES:
        raise RefusedError(f"it has {types} sample types, and at most {_MAX_TYPES} are taken", "too_large")
    strings = Strings(pprof.strings, dictionary)
    locations = Locations(
        pprof,
        Functions(header.function, strings, dictionary),
        Mappings(header.mapping, given.mappings, strings, dictionary),
        dictionary,
        name_natives=options.native_names == "placeholder",
    )
    columns = samples.split(pprof.samples, types)
    stacks = samples.stacks(columns.stacks, locations, dictionary)
    labels = Labels(strings, dictionary, options.redactor)
    encoded = samples.encode(stacks, labels, columns, types, _EXPANSION * options.max_bytes)

    order = _order(pprof, strings)
    start_ns, duration_ns, about_time = _times(pprof, given.start_ns)
    tail = _tail(pprof, strings, start_ns, duration_ns)
    about = about_time + _about(pprof, given, strings, options)
    content = hashlib.blake2b(pprof.body)
    content.update(given.resource)
    profiles: list[bytes] = []
    for index in order:
        kind = header.sample_type[index]
        identity = hashlib.blake2b(content.digest() + number(1, index), digest_size=16)
        payload = field(9, ORIGINAL_FORMAT.encode()) + field(10, given.payload) if options.original_payload else b""
        head = field(1, number(1, strings[kind.type]) + number(2, strings[kind.unit]))
        own = (field(7, identity.digest()), b"" if profiles else payload, indices(11, _entered(about, dictionary)))
        profiles.append(field(2, b"".join((head, encoded[index], tail, *own))))
    counts[FRAMES] += locations.frames
    counts[UNNAMED_FRAMES] += locations.unnamed
    counts[INVALID_STRINGS] += strings.invalid
    scope = field(1, _scope(pprof, strings, order))
    return Translated(b"".join((scope, *profiles, _SCHEMA)), len(pprof.samples) * types, start_ns + duration_ns)


def _order(pprof: Pprof, strings: Strings) -> list[int]:
    """The sample types, the default one first: viewers show the first Profile. Unset, it is the last."""
    header = pprof.header
    count = len(header.sample_type)
    wanted = strings.encoded(header.default_sample_type)
    named = (index for index in range(count) if strings.encoded(header.sample_type[index].type) == wanted)
    default = next(named, count - 1) if wanted else count - 1
    return [default, *(index for index in range(count) if index != default)]


def _scope(pprof: Pprof, strings: Strings, order: Sequence[int]) -> bytes:
    default = strings.text(pprof.header.default_sample_type)
    return event.scope({DEFAULT_SAMPLE_TYPE: default} if default else {}) + _ORDER.any(any_array(map(any_int, order)))


def _times(pprof: Pprof, start_ns: int) -> tuple[int, int, list[tuple[str, bytes]]]:
    """Start and duration, and as attributes what was given instead of them."""
    about: list[tuple[str, bytes]] = []
    given_ns = pprof.header.time_nanos[0] if pprof.header.time_nanos else 0
    duration_ns = pprof.header.duration_nanos[0] if pprof.header.duration_nanos else 0
    if given_ns >= _YEAR_1971_NS:
        start_ns = given_ns
    else:
        about.append((TIME_NANOS, any_int(given_ns)))
    if duration_ns < 0:
        about.append((DURATION_NANOS, any_int(duration_ns)))
    return start_ns, max(duration_ns, 0), about


def _tail(pprof: Pprof, strings: Strings, start_ns: int, duration_ns: int) -> bytes:
    """Fields 3 to 6 of every Profile."""
    header = pprof.header
    period_type = b"".join(
        [field(5, number(1, strings[kind.type]) + number(2, strings[kind.unit])) for kind in header.period_type]
    )
    period = number(6, header.period[0]) if header.period else b""
    return fixed64_field(3, start_ns) + number(4, duration_ns) + period_type + period


def _about(pprof: Pprof, given: Given, strings: Strings, options: Options) -> list[tuple[str, bytes]]:
    """The attributes of every Profile: key and encoded value."""
    header = pprof.header
    about = [(name, any_string(value)) for name, value in given.about_profile.items()]
    if header.comment:
        comments = map(strings.text, header.comment)
        redacted = comments if options.redactor is None else map(options.redactor.text, comments)
        about.append((COMMENT, any_array(map(any_string, redacted))))
    texts = ((DROP_FRAMES, header.drop_frames), (KEEP_FRAMES, header.keep_frames), (DOC_URL, header.doc_url))
    about += [(name, any_string(strings.text(index))) for name, index in texts if strings.encoded(index)]
    return about


def _entered(about: Sequence[tuple[str, bytes]], dictionary: Dictionary) -> list[int]:
    return [dictionary.attribute(name, value) for name, value in about]
