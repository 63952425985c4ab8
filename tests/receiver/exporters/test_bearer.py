"""The token with which a client says who it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from receiver.errors import StartError
from receiver.exporters.otlp_grpc import Config, Exporter
from receiver.net.bearer import BearerToken, TokenFile
from tests.receiver.exporters.otlp_server import Server, request

if TYPE_CHECKING:
    from pathlib import Path

    from receiver.telemetry import Telemetry

AUTH = {"bearertokenauth": {"filename": "/run/secrets/token"}}


async def test_token_is_sent(server: Server, telemetry: Telemetry, tmp_path: Path) -> None:
    """As the Collector's bearertokenauth expects it, without the line break at the end of its file."""
    (tmp_path / "token").write_text("abc.def\n")
    auth = {"bearertokenauth": {"filename": str(tmp_path / "token")}}
    options: dict[str, Any] = {"endpoint": server.endpoint, "tls": {"insecure": True}, "auth": auth}
    config = Config.model_validate({**options, "headers": {"x-scope": "1"}})
    exporter = Exporter(config, telemetry, first_connection_spread_s=0)
    await exporter.export(request())
    await exporter.close()
    metadata = server.requests[0].metadata
    assert (metadata["authorization"], metadata["x-scope"]) == ("Bearer abc.def", "1")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cannot be read: No such file"),
        (b" \n", "is empty"),
        (b"Bearer abc", "a single word"),
        (b"a\nb", "a single word"),
        ("tök".encode(), "a single word"),
        (b"x" * 20_000, "a single word"),
    ],
)
def test_file_that_holds_no_token(tmp_path: Path, content: bytes | None, problem: str) -> None:
    """It is a start error that names the file and not what is in it."""
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StartError, match=problem) as caught:
        BearerToken(TokenFile(filename=path), "exporter::otlp_grpc::auth")
    assert str(path) in str(caught.value)
    assert "abc" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"endpoint": "localhost:4317", "tls": {"insecure": True}},
        {"endpoint": "[::1]:4317", "tls": {"insecure": True}},
        {"endpoint": "unix:///run/c.sock", "tls": {"insecure": True}},
        {"endpoint": "http://127.0.0.1:4317"},
        {"endpoint": "collector:4317"},
        {"endpoint": "https://collector:4317"},
    ],
)
def test_token_may_go_to_this_machine_or_over_tls(options: dict[str, Any]) -> None:
    """Where nobody else reads it."""
    assert Config.model_validate({**options, "auth": AUTH}).auth is not None


@pytest.mark.parametrize(
    "options", [{"endpoint": "collector:4317", "tls": {"insecure": True}}, {"endpoint": "http://collector:4317"}]
)
def test_token_never_goes_elsewhere_in_plain_text(options: dict[str, Any]) -> None:
    """The configuration is refused before anything is sent."""
    with pytest.raises(ValidationError, match="in plain text, where others can read it"):
        Config.model_validate({**options, "auth": AUTH})


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"headers": {"Authorization": "x"}, "auth": AUTH}, "both set authorization"),
        ({"auth": {"bearertokenauth": {"filename": "token"}}}, "not an absolute path"),
        ({"auth": {}}, "Field required"),
    ],
)
def test_wrong_setting_is_named(options: dict[str, Any], problem: str) -> None:
    """Two tokens, a path that depends on the working directory, or none."""
    with pytest.raises(ValidationError, match=problem):
        Config.model_validate({"endpoint": "collector:4317", **options})
