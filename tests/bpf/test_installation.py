"""The bpf process does not run from files that others may change."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import subprocess
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from bpf.live import BPF, SYSTEM_PYTHON, unavailable

from bpf import installation

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SUDO_USER = 4242


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """An installation of root's."""
    if os.geteuid() != 0:
        unavailable("changing owners needs root")
    return shutil.copytree(BPF, tmp_path / "bpf", ignore=shutil.ignore_patterns("__pycache__"))


def others_write_a_file(copy: Path) -> Path:
    """Let everybody write a kernel program."""
    (copy / "programs/exec.c").chmod(0o646)
    return copy / "programs/exec.c"


def group_writes_a_folder(copy: Path) -> Path:
    """Let a group write the folder."""
    os.chown(copy, 0, 100)
    copy.chmod(0o775)
    return copy


def user_owns_a_file(copy: Path) -> Path:
    """Give a file to somebody."""
    os.chown(copy / "server.py", SUDO_USER, 0)
    return copy / "server.py"


def others_write_above(copy: Path) -> Path:
    """Let everybody rename the folder."""
    copy.parent.chmod(0o777)
    return copy.parent


def link_inside(copy: Path) -> Path:
    """Replace a file by a link."""
    (copy / "frames.py").unlink()
    (copy / "frames.py").symlink_to(BPF / "frames.py")
    return copy / "frames.py"


@pytest.mark.parametrize(
    "spoil", [others_write_a_file, group_writes_a_folder, user_owns_a_file, others_write_above, link_inside]
)
def test_refusal_names_the_file(copy: Path, spoil: Callable[[Path], Path]) -> None:
    """Each way for others to change what runs as root is refused before anything is loaded."""
    installation.check(copy, frozenset({0}))
    spoiled = spoil(copy)
    command = [SYSTEM_PYTHON, "-I", "-B", copy, "--program", "exit", "--socket", copy.parent / "socket"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=20)
    assert done.returncode == 2
    assert done.stderr.startswith(f"otelbee-bpf: {spoiled}: ")
    assert len(done.stderr.splitlines()) == 1


def test_user_behind_sudo_is_trusted(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may run anything as root may own the files, and so may that user's private group write them."""
    users = [user for user in pwd.getpwall() if user.pw_uid]
    shared = Counter(user.pw_gid for user in users)
    behind = next(user for user in users if shared[user.pw_gid] == 1 and not grp.getgrgid(user.pw_gid).gr_mem)
    for path in (copy, *copy.rglob("*")):
        os.chown(path, behind.pw_uid, behind.pw_gid)
        path.chmod(0o775)
    with pytest.raises(installation.UnsafeError, match=f"belongs to uid {behind.pw_uid}"):
        installation.check(copy, installation.trusted_uids())
    monkeypatch.setenv("SUDO_UID", str(behind.pw_uid))
    installation.check(copy, installation.trusted_uids())


def test_sticky_folder_above_is_safe(copy: Path) -> None:
    """In /tmp nobody may rename another's folder."""
    copy.parent.chmod(0o1777)
    installation.check(copy, frozenset({0}))
