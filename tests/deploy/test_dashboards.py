"""Each query of the dashboards: answered by a real Prometheus, or read by the parser of the backend that would answer."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.parse
import urllib.request
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import yaml
from peers import build
from peers.processes import Program, free_port

from deploy.compose import FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from deploy.compose import Stack

pytestmark = pytest.mark.timeout(900)

SILENT = {
    "otelbee_dead_letter_items",
    "otelbee_dropped_items",
    "otelbee_exporter_held",
    "otelbee_receiver_accepted_metric_points",
    "otelbee_receiver_refused_requests",
    "otelbee_source_gaps",
    "otelbee_source_lost_records",
    "otelbee_source_rejected_records",
}
"""What the demo has no series of while all is well; the names have to be otelbee's all the same."""
_OPEN = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


class Query(NamedTuple):
    """A query, and how its results are named."""

    text: str
    legend: str = ""


def queries(datasource: str, key: str) -> list[Any]:
    """The queries of all dashboards to one kind of data source, under the panel's title."""
    found = []
    for path in sorted((FOLDER / "dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                if target["datasource"]["type"] == datasource:
                    text = re.sub(r"\$__\w+", "30s", target[key])
                    query = Query(text, target.get("legendFormat", ""))
                    found.append(pytest.param(query, id=f"{panel['title']} {target['refId']}"))
    assert found
    return found


def texts(datasource: str, key: str) -> list[str]:
    """The queries alone."""
    return [parameter.values[0].text for parameter in queries(datasource, key)]


class Prometheus(Program):
    """A real Prometheus that scrapes what the Collector of the demo does, the way that does it, but more often."""

    def __init__(self, folder: Path, demo: Path, target: str) -> None:
        """Write its configuration: that of the Collector in ``demo``, whose one target is ``target`` from here."""
        self._address = f"127.0.0.1:{free_port()}"
        config = yaml.safe_load((demo / "collector.yaml").read_text())["receivers"]["prometheus"]["config"]
        (scrape,) = config["scrape_configs"]
        assert scrape["static_configs"] == [{"targets": ["otelbee:8877"]}], "the service and its port"
        scrape |= {"scrape_interval": "1s", "static_configs": [{"targets": [target]}]}
        (folder / "prometheus.yaml").write_text(json.dumps(config))
        flags = [f"--config.file={folder}/prometheus.yaml", f"--storage.tsdb.path={folder}/data"]
        super().__init__("prometheus", ["prometheus", *flags, f"--web.listen-address={self._address}"], folder)

    def ready(self) -> bool:
        """Whether it answers."""
        try:
            return _OPEN(f"http://{self._address}/-/ready", timeout=5).status == 200
        except OSError:
            return False

    def ask(self, query: str) -> list[dict[str, str]]:
        """The labels of each series of the answer; an error of the query raises."""
        url = f"http://{self._address}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        with _OPEN(url, timeout=10) as answer:
            return [series["metric"] for series in json.load(answer)["data"]["result"]]


@pytest.fixture(scope="module")
def prometheus(stack: Stack, demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Prometheus, which knows the demo's otelbee; something of each kind has passed through that."""
    stack.see_live_exec()
    stack.see_another_tetragon_event()
    stack.push_profile()
    with Prometheus(tmp_path_factory.mktemp("prometheus"), demo, stack.address("otelbee", 8877)) as running:
        yield running


@pytest.mark.parametrize("query", queries("prometheus", "expr"))
def test_metric_query_returns_series(stack: Stack, prometheus: Prometheus, query: Query) -> None:
    """It returns series with the labels that its legend shows; where all is well with none, its metric exists."""
    names = set(re.findall(r"otelbee_\w+?(?=_bucket|\b)", query.text.replace("(_total)?", "")))
    with _OPEN(f"http://{stack.address('otelbee', 8877)}/metrics", timeout=10) as answer:
        assert names <= set(re.findall(r"^# TYPE (\w+)", answer.read().decode(), re.MULTILINE))
    if names <= SILENT:
        prometheus.ask(query.text)
        return
    series = prometheus.until(partial(prometheus.ask, query.text), f"{query.text} has an answer")
    shown = set(re.findall(r"{{(\w+)}}", query.legend))
    assert all(shown <= set(labels) for labels in series)


def test_log_queries_are_lokis(stack: Stack) -> None:
    """Loki's own parser takes each, and what they select and group by is in what the Collector received."""
    selected = texts("loki", "expr") + texts("grafana-pyroscope-datasource", "labelSelector")
    subprocess.run([build.LOGQL.path, *selected], check=True, capture_output=True, text=True)
    labels = {label for text in selected for label in re.findall(r"(?:\||\bor) (\w+) (?:=|!=|>=)", text)}
    labels |= {label for text in selected for by in re.findall(r"by \((.*?)\)", text) for label in by.split(", ")}
    assert "process_exit_code" in labels

    def missing() -> set[str]:
        return labels - {re.sub(r"\W", "_", key) for _, record in stack.records() for key in record}

    # Loki keeps the severity beside the attributes.
    stack.see(lambda: missing() <= {"severity_number"}, "records with all that the queries name")


def test_trace_queries_are_tempos() -> None:
    """Tempo's own parser takes each."""
    selected = texts("tempo", "query")
    subprocess.run([build.TRACEQL.path, *selected], check=True, capture_output=True, text=True)


@pytest.mark.parametrize("parser", [build.LOGQL, build.TRACEQL], ids=lambda peer: peer.name)
def test_parsers_refuse_what_is_wrong(parser: build.Peer) -> None:
    """The check can fail."""
    assert subprocess.run([parser.path, "{ nonsense"], check=False, capture_output=True).returncode == 1
