"""Where each part of a pprof goes, as docs/sources/pprof-mapping.md says."""

from __future__ import annotations

from typing import Any

from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import ExportProfilesServiceRequest
from profiles.conformance import problems

from tests.translators.pprof.test_bad_input import NOW_NS, small
from translators.batch import Origin
from translators.pb.profile_pb2 import Label, Line, Location, Mapping, Sample, ValueType
from translators.pb.profilestore_pb2 import WriteRawRequest
from translators.pprof import Options, Translator
from translators.redact import Redactor

TYPES = [ValueType(type=1, unit=2), ValueType(type=3, unit=2), ValueType(type=4, unit=2)]


class Read:
    """A request with its references resolved where a test looks."""

    def __init__(self, data: bytes) -> None:
        """Every request conforms."""
        assert problems(data) == []
        self.request = ExportProfilesServiceRequest.FromString(data)
        self.dictionary = self.request.dictionary
        self.strings = self.dictionary.string_table
        self.resource = {
            each.key: each.value.string_value for each in self.request.resource_profiles[0].resource.attributes
        }
        self.scope = self.request.resource_profiles[0].scope_profiles[0].scope
        self.profiles = list(self.request.resource_profiles[0].scope_profiles[0].profiles)

    def attributes(self, indices: Any) -> dict[str, Any]:
        """By key, the value as its message, and its unit."""
        found = [self.dictionary.attribute_table[index] for index in indices]
        return {self.strings[each.key_strindex]: (each.value, self.strings[each.unit_strindex]) for each in found}

    def types(self) -> list[str]:
        """The types of the Profiles."""
        return [self.strings[each.sample_type.type_strindex] for each in self.profiles]


def read(profile: Any, origin: Origin = Origin(), **options: Any) -> Read:  # noqa: B008 - it is immutable
    """Translate a profile and read the request."""
    (batch,) = Translator(Options(**options)).translate("pprof", [profile.SerializeToString()], origin, NOW_NS).batches
    return Read(batch.data)


def labelled(*labels: Label, strings: tuple[str, ...]) -> Any:
    """A profile whose one sample has these labels; the strings are from index 5 on."""
    sample = Sample(location_id=[7], value=[5], label=labels)
    return small(sample=[sample], string_table=["", "cpu", "nanoseconds", "main", "/bin/app", *strings])


def test_the_default_type_comes_first_and_the_order_is_kept() -> None:
    """Viewers show the first Profile; the scope says which type it was. Unset, pprof's default is the last."""
    three = {"sample_type": TYPES, "sample": [Sample(location_id=[7], value=[1, 2, 3])]}
    for default, types, order in (
        (3, ["main", "cpu", "/bin/app"], [1, 0, 2]),
        (0, ["/bin/app", "cpu", "main"], [2, 0, 1]),
    ):
        found = read(small(default_sample_type=default, **three))
        about = {each.key: each.value for each in found.scope.attributes}
        assert found.types() == types
        assert [each.int_value for each in about["pprof.scope.sample_type_order"].array_value.values] == order
        assert [each.samples[0].values[0] for each in found.profiles] == [index + 1 for index in order]
        assert ("pprof.scope.default_sample_type" in about) == bool(default)


def test_ids_are_derived_and_differ_by_type_and_resource() -> None:
    """The same profile of the same process has the same ids, however often it is sent."""
    three = small(sample_type=TYPES, sample=[Sample(location_id=[7], value=[1, 2, 3])])
    ids = [[each.profile_id for each in read(three, Origin(labels={"job": job})).profiles] for job in ("a", "a", "b")]
    assert ids[0] == ids[1]
    assert len({*ids[0], *ids[2]}) == 6


def test_comments_are_an_array() -> None:
    """As the convention has it; the regular expressions and the address of the documentation stand beside it."""
    (profile,) = (found := read(small(comment=[3, 4], drop_frames=3, keep_frames=4, doc_url=1))).profiles
    about = found.attributes(profile.attribute_indices)
    assert [each.string_value for each in about["pprof.profile.comment"][0].array_value.values] == ["main", "/bin/app"]
    texts = {name: about[f"pprof.profile.{name}"][0].string_value for name in ("drop_frames", "keep_frames", "doc_url")}
    assert texts == {"drop_frames": "main", "keep_frames": "/bin/app", "doc_url": "cpu"}


def test_labels_become_attributes_with_units() -> None:
    """Strings, numbers with a unit; several of one key become an array, and different units stay with their numbers."""
    found = read(
        labelled(
            Label(key=5, str=3),
            Label(key=6, num=64, num_unit=7),
            Label(key=8, num=1, num_unit=7),
            Label(key=8, num=2, num_unit=7),
            Label(key=9, str=3),
            Label(key=9, num=4, num_unit=7),
            Label(key=9, num=5),
            strings=("handler", "size", "bytes", "sizes", "mixed"),
        )
    )
    about = found.attributes(found.profiles[0].samples[0].attribute_indices)
    assert about["handler"][0].string_value == "main"
    assert (about["size"][0].int_value, about["size"][1]) == (64, "bytes")
    assert ([each.int_value for each in about["sizes"][0].array_value.values], about["sizes"][1]) == ([1, 2], "bytes")
    text, with_unit, without = about["mixed"][0].array_value.values
    assert (text.string_value, without.int_value) == ("main", 5)
    assert {each.key: each.value.int_value or each.value.string_value for each in with_unit.kvlist_value.values} == {
        "value": 4,
        "unit": "bytes",
    }


def test_trace_and_span_ids_become_a_link() -> None:
    """Both of them, whole; anything else stays an attribute."""
    trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    labels = (Label(key=5, str=7), Label(key=6, str=8))
    found = read(labelled(*labels, strings=("trace_id", "span_id", trace, span)))
    (sample,) = found.profiles[0].samples
    link = found.dictionary.link_table[sample.link_index]
    assert (link.trace_id.hex(), link.span_id.hex()) == (trace, span)
    assert not sample.attribute_indices
    for bad in ("b7ad6b71", "0" * 16, "B7AD6B7169203331"):
        found = read(labelled(*labels, strings=("trace_id", "span_id", trace, bad)))
        (sample,) = found.profiles[0].samples
        assert not sample.link_index
        assert found.attributes(sample.attribute_indices)["span_id"][0].string_value == bad


def test_threads_have_the_conventions_names() -> None:
    """As in Parca's other records."""
    found = read(labelled(Label(key=5, str=7), Label(key=6, str=3), strings=("thread_id", "thread_name", "77")))
    about = found.attributes(found.profiles[0].samples[0].attribute_indices)
    assert (about["thread.id"][0].int_value, about["thread.name"][0].string_value) == (77, "main")


def test_labels_of_a_push_are_the_resource() -> None:
    """What is about the process identifies it; a CPU, a thread and reserved labels are about the profile."""
    labels = {
        "job": "shop",
        "pod": "web-1",
        "region": "eu",
        "cpu": "3",
        "__name__": "memory",
        "otelbee.tenant": "forged",
    }
    found = read(small(), Origin("team", labels))
    assert found.resource == {"service.name": "shop", "k8s.pod.name": "web-1", "region": "eu", "otelbee.tenant": "team"}
    about = found.attributes(found.profiles[0].attribute_indices)
    assert {name: value.string_value for name, (value, _) in about.items()} == {
        "pprof.label.cpu": "3",
        "pprof.label.__name__": "memory",
        "pprof.label.otelbee.tenant": "forged",
    }


def test_a_prefix_of_a_container_id_identifies_nothing() -> None:
    """container.id is a whole one or none."""
    found = read(small(), Origin(labels={"container_id": "4f1a", "pod_uid": "x"}))
    assert found.resource == {"pprof.label.container.id": "4f1a", "pprof.label.k8s.pod.uid": "x"}
    whole = "4f" * 32
    assert read(small(), Origin(labels={"container_id": whole})).resource == {"container.id": whole}


def test_frames_without_names_are_counted_and_can_be_called_by_their_place() -> None:
    """File and offset in it, so that backends show them; nothing is invented unless asked for."""
    mapping = Mapping(id=3, memory_start=0x1000, memory_limit=0x2000, file_offset=0x400, filename=4)
    profile = small(location=[Location(id=7, mapping_id=3, address=0x1234)], mapping=[mapping], function=[])
    record = [profile.SerializeToString()]
    plain, placed = (
        Translator(Options(native_names=names)).translate("pprof", record, Origin(), NOW_NS)  # type: ignore[arg-type] # both are
        for names in ("none", "placeholder")
    )
    assert plain.counts == placed.counts == {"frames": 1, "unnamed_frames": 1}
    assert "app+0x634" not in Read(plain.batches[0].data).strings
    assert "app+0x634" in Read(placed.batches[0].data).strings


def test_frame_types_come_from_names() -> None:
    """The kernel by its mapping, a language by its source file, machine code otherwise."""
    for mapping, source, expected in (
        ("[kernel.kallsyms]_text", "", "kernel"),
        ("/bin/app", "main.go", "go"),
        ("/bin/app", "a.py", "cpython"),
        ("/bin/app", "", "native"),
        ("", "", ""),
    ):
        profile = small(string_table=["", "cpu", "nanoseconds", "main", mapping, source])
        profile.function[0].filename = 5
        found = read(profile)
        about = found.attributes(found.dictionary.location_table[1].attribute_indices)
        assert (about["profile.frame.type"][0].string_value if about else "") == expected


def test_what_otlp_cannot_have_stays_beside_it() -> None:
    """An impossible mapping, negative lines, a negative duration."""
    profile = small(mapping=[Mapping(id=3, memory_start=9, memory_limit=4, filename=4)], duration_nanos=-5)
    profile.location[0].line.append(Line(function_id=9, line=-1, column=-2))
    found = read(profile)
    about = found.attributes(found.dictionary.mapping_table[1].attribute_indices)
    assert (about["pprof.mapping.memory_start"][0].int_value, about["pprof.mapping.memory_limit"][0].int_value) == (
        9,
        4,
    )
    assert found.attributes(found.profiles[0].attribute_indices)["pprof.profile.duration_nanos"][0].int_value == -5
    assert [(line.line, line.column) for line in found.dictionary.location_table[1].lines] == [(12, 0), (0, 0)]


def test_the_original_payload_goes_along_when_asked_for() -> None:
    """Once, with its format."""
    profile = small(sample_type=TYPES, sample=[Sample(location_id=[7], value=[1, 2, 3])])
    first, *rest = read(profile, original_payload=True).profiles
    assert (first.original_payload_format, first.original_payload) == ("pprof", profile.SerializeToString())
    assert not any(each.original_payload or each.original_payload_format for each in rest)
    assert not read(profile).profiles[0].original_payload


def test_secrets_in_labels_are_redacted() -> None:
    """In those of samples and in those of a push."""
    profile = labelled(Label(key=5, str=6), strings=("password", "hunter2hunter2"))
    record = profile.SerializeToString()
    origin = Origin(labels={"db_password": "hunter2hunter2"})
    translation = Translator(Options(redactor=Redactor())).translate("pprof", [record], origin, NOW_NS)
    assert b"hunter2" not in translation.batches[0].data
    assert translation.counts["redacted"] == 2


def test_what_parca_says_of_executables_is_on_their_mappings() -> None:
    """With it, addresses become those of the file."""
    request = WriteRawRequest(normalized=True)
    sample = request.series.add().samples.add(raw_profile=small().SerializeToString())
    info = sample.executable_info.add(elf_type=3)
    info.load_segment.offset, info.load_segment.vaddr = 4096, 8192
    record = request.SerializeToString()
    (batch,) = Translator(Options()).translate("write_raw", [record], Origin(), NOW_NS).batches
    found = Read(batch.data)
    about = found.attributes(found.dictionary.mapping_table[1].attribute_indices)
    assert {name: value.int_value for name, (value, _) in about.items()} == {
        "parca.elf.type": 3,
        "parca.elf.load_segment.offset": 4096,
        "parca.elf.load_segment.address": 8192,
    }
    assert "parca.profile.normalized" in found.attributes(found.profiles[0].attribute_indices)
