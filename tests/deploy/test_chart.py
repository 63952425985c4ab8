"""The chart on paper: what it renders, what it refuses, and whether what is written beside it is true."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from deploy.kubernetes import helm
from peers import build
from peers.processes import Otelbee, run_otelbee, until

from deploy import dist as release
from translators.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "otelbee"
EXAMPLES = sorted((CHART / "examples").glob("*.yaml"))
ALERTS = CHART / "files" / "alerts.yaml"
TO = ("--set", "collector.endpoint=collector:4317")
OPTIONAL = {"issuerRef", "seccompProfile", "affinity", "resources"}
"""Values with keys of their own that need not be there."""

pytestmark = [pytest.mark.usefixtures("helm_program"), pytest.mark.timeout(900)]


def rendered(*options: str | Path) -> list[dict[str, Any]]:
    """The objects that the chart makes."""
    return list(yaml.safe_load_all(helm("template", "otelbee", CHART, "--namespace=tools", *options).stdout))


def the(kind: str, objects: list[dict[str, Any]]) -> dict[str, Any]:
    """The only object of a kind."""
    (found,) = [each for each in objects if each["kind"] == kind]
    return found


def pod(objects: list[dict[str, Any]]) -> dict[str, Any]:
    """The pod's spec, of either mode."""
    (workload,) = [each for each in objects if each["kind"] in {"DaemonSet", "Deployment"}]
    spec: dict[str, Any] = workload["spec"]["template"]["spec"]
    return spec


def container(spec: dict[str, Any], name: str) -> dict[str, Any]:
    """A container of a pod by its name."""
    (found,) = [each for each in spec["containers"] if each["name"] == name]
    return found


def test_packed_chart_is_this_one(chart: Path, tmp_path: Path) -> None:
    """Every file of the tree and no other; packed again it is the same bytes, though helm writes the time into them."""
    with tarfile.open(chart) as tar:
        packed = {member.name: tar.extractfile(member) for member in tar}
        contents = {name: file.read() for name, file in packed.items() if file is not None}
    tree = {f"otelbee/{path.relative_to(CHART)}": path for path in CHART.rglob("[!.]*") if path.is_file()}
    assert contents.keys() == tree.keys()
    for name in tree.keys() - {"otelbee/Chart.yaml"}:  # which helm writes anew
        assert contents[name] == tree[name].read_bytes(), name
    until(lambda: int(time.time()) > chart.stat().st_mtime + 1, "another second begins")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PATH", str(build.kubernetes()), prepend=os.pathsep)
        release.build(tmp_path / "again", ["chart"])
    assert (tmp_path / "again" / chart.name).read_bytes() == chart.read_bytes()


@pytest.mark.parametrize("values", EXAMPLES, ids=lambda path: path.stem)
def test_chart_has_no_fault_that_helm_finds(values: Path) -> None:
    """``helm lint --strict`` accepts the chart with every values file of the examples."""
    assert "0 chart(s) failed" in helm("lint", "--strict", CHART, "--values", values).stdout


@pytest.mark.parametrize("values", EXAMPLES, ids=lambda path: path.stem)
def test_rendered_configuration_is_valid(values: Path, tmp_path: Path) -> None:
    """What an example configures is accepted by ``otelbee validate``, once the Secrets' files are there."""
    config = the("ConfigMap", rendered("--values", values))["data"]["otelbee.yaml"]
    for variable in ("NODE_NAME", "HOST_IP"):
        config = config.replace(f"${{env:{variable}}}", "10.0.0.1")
    (tmp_path / "otelbee.yaml").write_text(config)
    done = run_otelbee("validate", "--config", tmp_path / "otelbee.yaml")
    assert (done.returncode, done.stderr.decode()) == (0, ""), config


def test_values_reach_the_configuration(tmp_path: Path) -> None:
    """``config`` is merged over what the chart writes: it adds keys and replaces them, and leaves the others."""
    extra = {
        "resource": {"attributes": {"team": "a"}},
        "exporter": {"otlp_grpc": {"sending_queue": {"queue_size": "1MiB"}}},
    }
    (tmp_path / "values.yaml").write_text(yaml.safe_dump({"config": extra}))
    text = the("ConfigMap", rendered(*TO, "--values", tmp_path / "values.yaml"))["data"]["otelbee.yaml"]
    config = yaml.safe_load(text)
    assert config["resource"]["attributes"] == {"k8s.node.name": "${env:NODE_NAME}", "team": "a"}
    assert config["exporter"]["otlp_grpc"] == {"endpoint": "collector:4317", "sending_queue": {"queue_size": "1MiB"}}
    assert config["sources"] == {"bpf": {}}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--set", "modus=daemonset"), "additional properties 'modus' not allowed"),
        (("--set", "mode=statefulset"), "'/mode': value must be one of 'daemonset', 'deployment'"),
        (("--set", "tetragon.sauce=file"), "'/tetragon': additional properties 'sauce' not allowed"),
        (("--set", "bpf.programs={tcp}"), "'/bpf/programs/0': value must be one of 'exec', 'exit'"),
        (("--set", "image.digest=latest"), "'/image/digest': 'latest' does not match pattern"),
        (("--set-string", "replicas=two"), "'/replicas': got string, want integer"),
        (("--set", "queue.sizePerSignal=1Gi"), "'/queue/sizePerSignal': '1Gi' does not match pattern"),
        (("--set", "shutdownTimeoutSeconds=0"), "'/shutdownTimeoutSeconds': minimum: got 0, want 1"),
    ],
)
def test_schema_refuses_what_does_not_exist(options: tuple[str, ...], says: str) -> None:
    """A value that is unknown or of a wrong kind is refused, and named with its path."""
    done = helm("template", "otelbee", CHART, *TO, *options, check=False)
    assert done.returncode != 0
    assert says in done.stderr.replace('"', "'"), done.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--set", "collector.endpoint="), "collector.endpoint: where does the Collector take OTLP/gRPC?"),
        (("--set", "mode=deployment"), "mode deployment: enable one of listeners.otlp"),
        (("--set", "bpf.enabled=false"), "nothing to read: enable bpf"),
        (
            ("--set", "mode=deployment,listeners.otlp.enabled=true,tetragon.source=file"),
            "tetragon.source: what happens",
        ),
        (("--set", "queue.type=pvc"), "queue.type pvc: the pods of a daemonset cannot share one volume"),
        (("--set", "mode=deployment,listeners.otlp.enabled=true,queue.type=hostPath"), "queue.type hostPath: a deploy"),
        (("--set", "mode=deployment,listeners.otlp.enabled=true,queue.type=pvc,replicas=2"), "replicas: two pods"),
        (("--set", "hostNetwork=true,networkPolicy.enabled=true"), "hostNetwork: only with mode daemonset"),
        (("--set", "podDisruptionBudget.enabled=true"), "podDisruptionBudget: a drain does not evict"),
        (("--set", "listeners.tls.certManager.enabled=true"), "issuerRef.name: which issuer?"),
        (("--set", "collector.tls.clientCertificate=true"), "collector.tls.clientCertificate: name the Secret"),
        (("--set", "config.shutdown_timeout=5s"), "config.shutdown_timeout: set shutdownTimeoutSeconds"),
        (("--set", "config.storage=/data"), "config.storage: set queue.type"),
        (("--set", "config.telemetry.endpoint=x:1"), "config.telemetry.endpoint: set nothing"),
    ],
)
def test_values_that_are_wrong_together_are_refused(options: tuple[str, ...], says: str) -> None:
    """Values that are right by themselves and make no sense together are refused by a sentence that says why."""
    done = helm("template", "otelbee", CHART, *TO, *options, check=False)
    assert done.returncode != 0
    assert says in done.stderr, done.stderr


@pytest.mark.parametrize("values", EXAMPLES, ids=lambda path: path.stem)
def test_every_pod_keeps_the_rules(values: Path) -> None:
    """No token, no service links, no exec, a grace period above the stop, hardened containers, and no socket mounted."""
    objects = rendered("--values", values)
    spec = pod(objects)
    config = yaml.safe_load(the("ConfigMap", objects)["data"]["otelbee.yaml"])
    assert spec["automountServiceAccountToken"] is spec["enableServiceLinks"] is False
    assert spec["terminationGracePeriodSeconds"] > int(config["shutdown_timeout"].removesuffix("s"))
    assert not re.search(r"\bexec:|preStop|postStart", yaml.safe_dump(objects))
    receiver = container(spec, "otelbee")
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert "httpGet" in receiver[probe]
    for each in (*spec["containers"], *spec.get("initContainers", ())):
        security = each["securityContext"]
        assert security["readOnlyRootFilesystem"] is True
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"]["drop"] == ["ALL"]
        assert each["resources"]["limits"]["memory"]
    assert "add" not in receiver["securityContext"]["capabilities"]
    assert receiver["securityContext"]["runAsNonRoot"] is True
    assert not [
        each for each in spec["volumes"] if each.get("hostPath", {}).get("path", "").endswith((".sock", ".log"))
    ]


def test_bpf_container_asks_for_no_more_than_two_capabilities() -> None:
    """The container that loads programs has BPF and PERFMON, and no namespace or folder of the node but tracefs."""
    spec = pod(rendered(*TO))
    security = container(spec, "bpf")["securityContext"]
    assert security["capabilities"] == {"drop": ["ALL"], "add": ["BPF", "PERFMON"]}
    assert not {"hostPID", "hostIPC", "hostNetwork", "privileged"} & (set(spec) | set(security))
    assert [each["hostPath"]["path"] for each in spec["volumes"] if "hostPath" in each] == ["/sys/kernel/tracing"]
    assert [
        each["name"] for each in pod(rendered(*TO, "--set", "bpf.enabled=false,tetragon.source=socket"))["containers"]
    ] == ["otelbee"]


def test_change_of_configuration_restarts_the_pods() -> None:
    """The pod's annotation follows the configuration, and nothing else."""

    def checksum(*options: str) -> str:
        (workload,) = [each for each in rendered(*TO, *options) if each["kind"] == "DaemonSet"]
        return str(workload["spec"]["template"]["metadata"]["annotations"]["checksum/config"])

    assert checksum() == checksum("--set", "resources.limits.memory=1Gi")
    assert checksum() != checksum("--set", "clusterName=other")


def test_parca_service_stays_on_the_node_of_an_agent() -> None:
    """Parca's agents reach the otelbee of their own node in a DaemonSet, and any in a Deployment."""
    listens = ("--set", "listeners.parca.enabled=true")
    service = the("Service", rendered(*TO, *listens))
    assert service["spec"]["internalTrafficPolicy"] == "Local"
    assert [(port["name"], port["port"]) for port in service["spec"]["ports"]] == [("parca-grpc", 7070)]
    assert "internalTrafficPolicy" not in the("Service", rendered(*TO, *listens, "--set", "mode=deployment"))["spec"]


def test_image_is_named_by_tag_or_digest() -> None:
    """Without either it is otelbee's own version; a digest wins over a tag."""
    digest = "sha256:" + "0" * 64

    def image(*options: str) -> str:
        return str(container(pod(rendered(*TO, *options)), "otelbee")["image"])

    assert image() == f"otelbee:{VERSION}"
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["version"] == VERSION
    assert image("--set", "image.tag=1.2") == "otelbee:1.2"
    assert (
        image("--set", f"image.repository=r.example/o,image.tag=1.2,image.digest={digest}") == f"r.example/o@{digest}"
    )


def test_readme_has_every_value() -> None:
    """The table in the chart's README is generated from values.yaml, which describes each of its values."""
    done = subprocess.run([sys.executable, ROOT / "deploy" / "chart_readme.py", "--check"], check=False)
    assert done.returncode == 0, "python deploy/chart_readme.py writes it anew"
    described = set(re.findall(r"^\| `([\w.]+)` \|", (CHART / "README.md").read_text(), re.MULTILINE))

    def missing(values: Any, path: str = "") -> Iterator[str]:
        if path in described:
            return
        if not isinstance(values, dict):
            yield path
            return
        for key, value in values.items():
            yield from missing(value, f"{path}.{key}".lstrip("."))

    assert not list(missing(yaml.safe_load((CHART / "values.yaml").read_text())))


def test_schema_knows_exactly_the_values_that_exist() -> None:
    """Every value has a place in the schema, and the schema has no place for another."""
    schema = json.loads((CHART / "values.schema.json").read_text())

    def compare(values: dict[str, Any], part: dict[str, Any]) -> None:
        assert set(values) == set(part["properties"]) - {"global"}
        assert part["additionalProperties"] is False
        for key, value in values.items():
            inner = part["properties"][key]
            if isinstance(value, dict) and "properties" in inner and key not in OPTIONAL:
                compare(value, inner)

    compare(yaml.safe_load((CHART / "values.yaml").read_text()), schema)


def test_collector_of_the_chart_and_of_the_examples_is_one() -> None:
    """The manifest to apply holds the very configuration that the chart brings."""
    manifests = list(yaml.safe_load_all((ROOT / "examples" / "kubernetes" / "collector.yaml").read_text()))
    assert the("ConfigMap", manifests)["data"]["collector.yaml"] == (CHART / "files" / "collector.yaml").read_text()


def test_alerts_are_prometheus_rules() -> None:
    """Prometheus's own parser takes every rule, templates in annotations included."""
    done = subprocess.run(["promtool", "check", "rules", ALERTS], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert the("PrometheusRule", rendered("--values", CHART / "examples" / "push.yaml"))["spec"] == yaml.safe_load(
        ALERTS.read_text()
    )


def test_alerts_ask_for_metrics_that_exist(tmp_path: Path, free_port: Callable[[], int]) -> None:
    """Each name in an alert is one of a running otelbee's /metrics."""
    config = {
        "sources": {"otlp": {"protocols": {"grpc": {"endpoint": f"127.0.0.1:{free_port()}"}}}},
        "exporter": {"otlp_grpc": {"endpoint": f"127.0.0.1:{free_port()}", "tls": {"insecure": True}}},
    }
    with Otelbee(tmp_path, config) as otelbee:
        names = set(otelbee.metric_names())
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    used = {name for rule in rules for name in re.findall(r"otelbee_\w+", rule["expr"])}
    assert len(used) >= 10
    assert used <= names


ALERT_SERIES: dict[str, tuple[int, dict[str, tuple[str, str]]]] = {
    "OtelbeeAbsent": (15, {"otelbee_process_uptime": ("_x30", "0+60x30")}),
    "OtelbeeDropping": (
        15,
        {
            'otelbee_dropped_items{data_type="logs",reason="rejected"}': ("0x5 0+1x30", "3x30"),
            # The first drop of a reason is the beginning of its series.
            'otelbee_dropped_items{data_type="traces",reason="rejected"}': ("_x10 2x30", "2x30"),
        },
    ),
    "OtelbeeHeld": (10, {'otelbee_exporter_held{data_type="logs"}': ("1x30", "0x30")}),
    "OtelbeeQueueAges": (20, {'otelbee_exporter_queue_age_seconds{data_type="logs"}': ("0+60x30", "2x30")}),
    "OtelbeeQueueFills": (
        10,
        {
            'otelbee_exporter_queue_size{data_type="logs"}': ("90x30", "50x30"),
            'otelbee_exporter_queue_capacity{data_type="logs"}': ("100x30", "100x30"),
        },
    ),
    "OtelbeeRefusing": (20, {'otelbee_receiver_refused_requests{receiver="otlp",reason="full"}': ("0+1x30", "3x30")}),
    "OtelbeeSourceDown": (20, {'otelbee_source_up{receiver="bpf"}': ("0x30", "1x30")}),
    "OtelbeeMissing": (
        15,
        {
            'otelbee_source_gaps{receiver="tetragon"}': ("_x10 1x30", "1x30"),
            'otelbee_source_lost_records{receiver="bpf",reason="buffer_full"}': ("0x5 0+1x30", "9x30"),
        },
    ),
    "OtelbeeSourceRestarts": (30, {'otelbee_source_restarts{receiver="bpf"}': ("0+1x60", "7x60")}),
    "OtelbeeRejecting": (70, {'otelbee_source_rejected_records{receiver="bpf",reason="x"}': ("0+1x90", "9x90")}),
}
"""By alert: after how many minutes to look, and each series that it looks at, in trouble and while all is well."""


@pytest.mark.parametrize("trouble", [True, False], ids=["fires", "is_silent"])
def test_alerts_fire_for_what_they_tell_of_and_only_then(trouble: bool, tmp_path: Path) -> None:  # noqa: FBT001 - a parameter
    """Evaluated by Prometheus itself, each alert fires in its own trouble, for each series, and not while all is well."""
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    assert {rule["alert"] for rule in rules} == set(ALERT_SERIES)
    tests = []
    for alert, (minutes, series) in ALERT_SERIES.items():
        times = 1 if alert in {"OtelbeeAbsent", "OtelbeeQueueFills"} else len(series)
        expected = {"labels": "{}", "value": times if trouble else 0}
        query = f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) or vector(0)'
        tests.append(
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values[not trouble]} for name, values in series.items()],
                "promql_expr_test": [{"expr": query, "eval_time": f"{minutes}m", "exp_samples": [expected]}],
            }
        )
    path = tmp_path / "test.yaml"
    path.write_text(yaml.safe_dump({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": tests}))
    done = subprocess.run(["promtool", "test", "rules", path], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
