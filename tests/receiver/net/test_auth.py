"""Who may send: tokens and passwords from a file."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from receiver.errors import StartError, Unauthenticated
from receiver.net.auth import Auth, Authenticator
from receiver.net.files import Watch

if TYPE_CHECKING:
    from pathlib import Path


def secrets(folder: Path, text: str, mode: int = 0o600) -> Path:
    """A file of secrets."""
    path = folder / "secrets"
    path.write_text(text)
    path.chmod(mode)
    return path


def bearer(path: Path) -> Authenticator:
    """An authenticator of bearer tokens."""
    return Authenticator(Auth.model_validate({"bearertokenauth": {"filename": str(path)}}))


def basic(path: Path) -> Authenticator:
    """An authenticator of names and passwords."""
    return Authenticator(Auth.model_validate({"basicauth": {"filename": str(path)}}))


def credentials(name: str, password: str) -> str:
    """An Authorization header."""
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def test_a_token_has_a_name(tmp_path: Path) -> None:
    """The name that stands before the token is the principal; comments and spaces are no part of it."""
    hashed = hashlib.sha256(b"t0ken-three").hexdigest()
    text = f"# who sends\n\nalpha: t0ken:one\nalpha:t0ken-two\nnode-7/beta:sha256:{hashed}\n"
    authenticator = bearer(secrets(tmp_path, text))
    assert authenticator.principal("Bearer t0ken:one") == "alpha"
    assert authenticator.principal("bearer t0ken-two") == "alpha"
    assert authenticator.principal("Bearer t0ken-three") == "node-7/beta"


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Basic t0ken",
        "t0ken",
        "Bearer t0ken2",
        "Bearer sha256:00",
        "Bearer é",
    ],
)
def test_everything_else_is_nobody(tmp_path: Path, header: str | None) -> None:
    """No header, another scheme, a prefix of the token, the digest itself."""
    authenticator = bearer(secrets(tmp_path, f"a:t0ken\nb:sha256:{hashlib.sha256(b'other').hexdigest()}\n"))
    with pytest.raises(Unauthenticated) as caught:
        authenticator.principal(header)
    assert "t0ken" not in str(caught.value)


def test_a_password_belongs_to_its_name(tmp_path: Path) -> None:
    """Another's password is wrong."""
    authenticator = basic(secrets(tmp_path, "one:first:with colon\ntwo:second\n"))
    assert authenticator.principal(credentials("one", "first:with colon")) == "one"
    assert authenticator.principal(credentials("two", "second")) == "two"
    wrong = (
        credentials("one", "second"),
        credentials("", "second"),
        credentials("three", "x"),
        "Basic ???",
        "Basic /w==",
    )
    for header in wrong:
        with pytest.raises(Unauthenticated):
            authenticator.principal(header)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "knows nobody; write name:secret lines"),
        ("hunter2-alone\n", r":1 is no name:secret"),
        ("a:ok\nb:\n", r":2 is no name:secret"),
        ("spaced name:hunter2\n", r":1 is no name:secret"),
        ("a:hunter2\nb:hunter2\n", "gives a and b the same secret"),
    ],
)
def test_a_wrong_line_is_named_and_never_shown(tmp_path: Path, text: str, message: str) -> None:
    """A line without a name may be a secret alone."""
    with pytest.raises(StartError, match=message) as caught:
        bearer(secrets(tmp_path, text))
    assert "hunter2" not in str(caught.value)


def test_a_file_that_everybody_may_read_is_refused(tmp_path: Path) -> None:
    """The error names the mode and two remedies."""
    with pytest.raises(StartError, match=r"mode 0644\); run chmod o= .*defaultMode: 0440"):
        bearer(secrets(tmp_path, "a:b\n", 0o644))
    assert bearer(secrets(tmp_path, "a:b\n", 0o440)).principal("Bearer b") == "a"


def test_a_missing_or_huge_file_is_refused(tmp_path: Path) -> None:
    """Neither is read without end."""
    with pytest.raises(StartError, match="none cannot be read: No such file"):
        bearer(tmp_path / "none")
    with pytest.raises(StartError, match="is larger than 1048576 bytes"):
        bearer(secrets(tmp_path, "a:" + "x" * (1 << 20)))


def test_the_file_is_read_anew_when_it_changes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A new token works and the old one ends; a file that is wrong changes nothing and is logged without its content."""
    path = secrets(tmp_path, "a:old\n")
    authenticator = bearer(path)
    now_s = 0.0
    authenticator._watch = Watch([path], lambda: now_s)
    replacement = tmp_path / "new"
    replacement.write_text("a:new\n")
    replacement.chmod(0o600)
    replacement.rename(path)
    assert authenticator.principal("Bearer old") == "a"  # looks once a second
    now_s = 1.5
    with pytest.raises(Unauthenticated):
        authenticator.principal("Bearer old")
    assert authenticator.principal("Bearer new") == "a"
    path.write_text("hunter2\n")
    now_s = 3.0
    assert authenticator.principal("Bearer new") == "a"
    assert "is no name:secret" in caplog.text
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({}, "exactly one of bearertokenauth and basicauth"),
        ({"bearertokenauth": {"filename": "/a"}, "basicauth": {"filename": "/b"}}, "exactly one"),
        ({"bearertokenauth": {"filename": "a"}}, "not an absolute path"),
        ({"bearertokenauth": {"token": "x"}}, "Extra inputs"),
    ],
)
def test_the_section_names_one_way(section: dict[str, dict[str, str]], message: str) -> None:
    """One way, one absolute file."""
    with pytest.raises(ValidationError, match=message):
        Auth.model_validate(section)
