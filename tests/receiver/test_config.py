"""Configuration: what is read from where, what wins, and what is said about each mistake.

Every file of ``config/`` is a case. The problems it must lead to are in its first lines; ``@name`` stands for the valid
words of a section that belongs to another module, and ``FILE`` for the file's own path.
"""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from receiver.config import Config, load, load_for_translation
from receiver.errors import ConfigError
from receiver.exporters import debug, otlp_grpc
from receiver.net.tls import ClientTLS
from receiver.registry import SOURCES
from receiver.sources import tetragon

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CASES = Path(__file__).parent / "config"
VALID = {
    "@sources": SOURCES,
    "@tetragon": tetragon.Config.model_fields,
    "@otlp_grpc": otlp_grpc.Config.model_fields,
    "@tls": ClientTLS.model_fields,
}


def problems_of(
    paths: Sequence[Path], sets: Sequence[str] = (), environ: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """What is wrong with a configuration."""
    with pytest.raises(ConfigError) as caught:
        load(paths, sets, environ or {})
    return caught.value.problems


def minimal(*sets: str, environ: Mapping[str, str] | None = None) -> Config:
    """The smallest configuration, with some values set."""
    return load([CASES / "minimal.yaml"], sets, environ or {})


def exporting(*names: str, sets: Sequence[str] = (), environ: Mapping[str, str] | None = None) -> otlp_grpc.Config:
    """The otlp_grpc section of some case files."""
    exporter = load([CASES / name for name in names], sets, environ or {}).exporter
    assert isinstance(exporter, otlp_grpc.Config)
    return exporter


@pytest.mark.parametrize("case", sorted(CASES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_mistake_has_its_message(case: Path) -> None:
    """All problems of a file are reported at once, in the words that its first lines pin."""
    expected = re.findall(r"^# problem: (.*)$", case.read_text(), re.MULTILINE)
    if not expected:
        return
    for name, valid in VALID.items():
        expected = [re.sub(rf"{name}\b", ", ".join(sorted(valid)), line) for line in expected]
    found = [line.replace(str(case), "FILE") for line in problems_of([case])]
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("name", ["minimal", "full"])
def test_valid_files_load(name: str) -> None:
    """What is right is silent."""
    load([CASES / f"{name}.yaml"], [], {})


def test_a_key_without_a_value_means_its_defaults() -> None:
    """``tetragon:`` and ``debug:`` alone are whole sections, as for the Collector."""
    config = minimal()
    assert config.sources == {"tetragon": tetragon.Config()}
    assert config.exporter == debug.Config()
    assert config.debug is None
    assert config.shutdown_timeout == timedelta(seconds=10)
    assert config.telemetry.endpoint == "localhost:8877"
    assert config.redaction.enabled


def test_everything_arrives_typed() -> None:
    """Durations, sizes, instance names and plain words of YAML become what they look like."""
    config = load([CASES / "full.yaml"], [], {})
    assert list(config.sources) == ["tetragon", "tetragon/second-node"]
    assert isinstance(config.exporter, otlp_grpc.Config)
    assert config.exporter.timeout == timedelta(seconds=90)
    assert config.exporter.sending_queue.queue_size == 64 << 20
    assert config.debug == debug.Config(verbosity="detailed")
    assert config.resource.attributes == {
        "deployment.environment.name": "prod",
        "replicas": 3,
        "canary": True,
        "zone": "on",
        "zip": "01234",
    }


def test_it_is_frozen() -> None:
    """Nobody changes a configuration that was validated."""
    config = minimal()
    with pytest.raises(ValueError, match="frozen"):
        config.shutdown_timeout = timedelta(seconds=1)  # type: ignore[misc] # the point


def test_redaction_reaches_the_translator() -> None:
    """Redaction is on unless it is turned off, and extra rules add to the default ones."""
    assert minimal("redaction.enabled=false").shared().redactor is None
    redactor = minimal("redaction.rules.employee=EMP-[0-9]+").shared().redactor
    assert redactor is not None
    assert redactor.text("EMP-17") == "<redacted:employee>"
    assert "hunter2" not in redactor.text("--password hunter2 PASSWORD=hunter2")


class TestEnvironment:
    """``${env:NAME}``, with the Collector's meaning."""

    environ = {"COLLECTOR": "collector", "INSECURE": "true", "KEY": "0123", "RESOURCE": ""}  # noqa: RUF012 - read only

    def test_alone_and_embedded(self) -> None:
        """Alone, the value is YAML; inside a string it is text; a default stands in for what is not set."""
        exporter = exporting("environment.yaml", environ=self.environ)
        assert exporter.endpoint == "collector:4317"
        assert exporter.tls.insecure is True
        assert exporter.timeout == timedelta(seconds=7)

    def test_a_string_of_digits_stays_one(self) -> None:
        """A field that wants a string gets the variable's own text, whatever it looks like."""
        for key in ("0123", "12", "null", "true", "#x", '"quoted"', "", "$5 ${env:NOT_SET}"):
            headers = exporting("environment.yaml", environ={**self.environ, "KEY": key}).headers
            assert headers["x-key"].get_secret_value() == key

    def test_a_dollar_sign_is_written_twice(self) -> None:
        """``$$`` is one dollar sign."""
        headers = exporting("environment.yaml", environ=self.environ).headers
        assert headers["x-price"].get_secret_value() == "$5"

    def test_a_variable_may_hold_a_section(self) -> None:
        """A variable that stands for a map is one."""
        config = load([CASES / "environment.yaml"], [], {**self.environ, "RESOURCE": "{host_name: node-a}"})
        assert config.resource.host_name == "node-a"

    def test_set_but_empty_is_set(self) -> None:
        """The default is for what is not set, as in the Collector."""
        exporter = exporting(
            "environment.yaml",
            sets=["exporter.otlp_grpc.authority=${env:EMPTY:-x}"],
            environ={**self.environ, "RESOURCE": "", "EMPTY": ""},
        )
        assert exporter.authority == ""

    def test_what_a_later_layer_replaces_needs_no_variable(self) -> None:
        """Values are expanded after merging."""
        environ = {name: value for name, value in self.environ.items() if name != "COLLECTOR"}
        exporter = exporting("environment.yaml", sets=["exporter.otlp_grpc.endpoint=localhost:1"], environ=environ)
        assert exporter.endpoint == "localhost:1"


class TestLayers:
    """Files, then --set, then OTELBEE__*."""

    def test_maps_merge_and_lists_are_replaced(self) -> None:
        """A later file changes what it names and leaves the rest."""
        config = load([CASES / "full.yaml", CASES / "overlay.yaml"], [], {})
        source = config.sources["tetragon"]
        assert isinstance(source, tetragon.Config)
        assert source.node_labels == ("b",)
        assert source.endpoint == "unix:///var/run/tetragon/tetragon.sock"
        assert isinstance(config.exporter, otlp_grpc.Config)
        assert (config.exporter.timeout, config.exporter.endpoint) == (timedelta(seconds=9), "localhost:4317")

    def test_the_order(self) -> None:
        """--set wins over files, and a variable wins over --set."""
        path, name = "exporter.otlp_grpc.timeout", "OTELBEE__EXPORTER__OTLP_GRPC__TIMEOUT"
        files = ("full.yaml", "overlay.yaml")
        assert exporting(*files).timeout == timedelta(seconds=9)
        assert exporting(*files, sets=[f"{path}=8s", f"{path}=7s"]).timeout == timedelta(seconds=7)
        assert exporting(*files, sets=[f"{path}=8s"], environ={name: "6s"}).timeout == timedelta(seconds=6)

    def test_set_takes_yaml(self) -> None:
        """A value may be a list or a map; between keys that hold dots stand double colons."""
        config = minimal(
            "sources.tetragon={node_labels: [a, b]}",
            "resource::attributes::deployment.environment.name=prod",
            "resource.host_name='007'",
        )
        source = config.sources["tetragon"]
        assert isinstance(source, tetragon.Config)
        assert source.node_labels == ("a", "b")
        assert config.resource.attributes == {"deployment.environment.name": "prod"}
        assert config.resource.host_name == "007"

    def test_a_variable_means_what_it_says(self) -> None:
        """Dollar signs of OTELBEE__* are no references, and a name of digits is a string."""
        config = minimal(environ={"OTELBEE__RESOURCE__HOST_NAME": "$$x ${env:NOT_SET}"})
        assert config.resource.host_name == "$$x ${env:NOT_SET}"
        assert minimal(environ={"OTELBEE__RESOURCE__HOST_NAME": "17"}).resource.host_name == "17"

    def test_other_variables_are_left_alone(self) -> None:
        """Kubernetes injects OTELBEE_PORT for a Service of that name."""
        assert minimal(environ={"OTELBEE_PORT": "tcp://10.0.0.1:1"}) == minimal()

    def test_variables_alone_are_enough(self) -> None:
        """No file is needed."""
        environ = {"OTELBEE__SOURCES__TETRAGON": "", "OTELBEE__EXPORTER__OTLP_GRPC__ENDPOINT": "localhost:4317"}
        config = load([], [], environ)
        assert list(config.sources) == ["tetragon"]

    def test_a_problem_says_where_its_value_came_from(self) -> None:
        """What is not in a file is named."""
        assert problems_of(
            [CASES / "minimal.yaml"],
            ["shutdown_timeout=5", "x", ".a=1", "resource={"],
            {"OTELBEE__TELEMETRY__LOGS__LEVEL": "loud", "OTELBEE__A____B": "1"},
        ) == (
            "--set x: write --set path.to.key=value",
            "--set .a: write --set path.to.key=value",
            "--set resource: the value is not YAML: 1:2: expected the node content, but found '<stream end>'",
            "OTELBEE__A____B: write OTELBEE__SECTION__KEY",
            'telemetry::logs::level: "loud" is not one of debug, info, warn, error (from OTELBEE__TELEMETRY__LOGS__LEVEL)',
            "shutdown_timeout: a duration needs a unit, for example 5s (found 5) (from --set)",
        )

    def test_files_that_cannot_be_read(self, tmp_path: Path) -> None:
        """Each is named; what is missing because of it is not."""
        (tmp_path / "latin.yaml").write_bytes(b"a: \xff")
        assert problems_of([tmp_path / "none.yaml", tmp_path / "latin.yaml", tmp_path]) == (
            f"{tmp_path}/none.yaml: cannot be read: No such file or directory",
            f"{tmp_path}/latin.yaml: is not UTF-8 at byte 3",
            f"{tmp_path}: cannot be read: Is a directory",
        )


class TestSecrets:
    """A secret's value is in no message."""

    @pytest.mark.parametrize(
        "given",
        [
            "exporter.otlp_grpc.headers=hunter2",
            "exporter.otlp_grpc.headers={x-key: [hunter2]}",
            "exporter.otlp_grpc.headers={x-key: hunter2é}",
            "exporter.otlp_grpc.headerz={x-key: hunter2}",
            "telemetry.endpoint=http://user:hunter2@x",
        ],
    )
    def test_it_is_not_shown(self, given: str) -> None:
        """Neither by a wrong type, nor a wrong value, nor a wrong key, nor a URL."""
        found = problems_of([CASES / "full.yaml"], [given])
        assert len(found) == 1
        assert "hunter2" not in found[0]


class TestTranslation:
    """The configuration of ``otelbee translate``."""

    def test_options_of_the_source(self) -> None:
        """A path begins at the source; resource and redaction are also possible."""
        config = load_for_translation(
            "tetragon", ["command_args=true", "resource.host_name=x", "redaction.enabled=false"], {}
        )
        source = config.sources["tetragon"]
        assert isinstance(source, tetragon.Config)
        assert source.command_args
        assert config.resource.host_name == "x"
        assert not config.redaction.enabled

    def test_the_services_environment_is_not_its_own(self) -> None:
        """Where the service is configured by variables, translating does not stumble over them."""
        load_for_translation("tetragon", [], {"OTELBEE__EXPORTER__OTLP_GRPC__TIMEOUT": "7s"})

    def test_mistakes(self) -> None:
        """An unknown source and an unknown option have their near misses."""
        with pytest.raises(ConfigError, match='unknown source; did you mean "tetragon"'):
            load_for_translation("tetragn", [], {})
        with pytest.raises(
            ConfigError, match=r'sources::tetragon::command_arg: unknown key; did you mean "command_args"'
        ):
            load_for_translation("tetragon", ["command_arg=true"], {})
