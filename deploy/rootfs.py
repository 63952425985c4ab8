"""Gathers in /rootfs what an image of deploy/Dockerfile holds; runs in a stage of its build, as root, on Debian.

``receiver`` and ``bpf`` take the interpreter, what they need beside it, and each shared library that any of it loads.
``code`` takes the folders given, which are ours. Scanners find the packages that the files come from in
``/var/lib/dpkg/status.d`` (as in distroless images), and people their licences in ``/usr/share/doc``.

The same input gives the same bytes: modes and times are set here, and byte code is not checked against its sources
(PEP 552), which cannot change.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path("/rootfs")
CODE = Path("/usr/lib/otelbee")
ENVIRONMENT = Path("/opt/otelbee")
OWNED = Path("/build/owned")
STDLIB = Path(sysconfig.get_path("stdlib"))
USER = 65532

SYSTEM = ("/usr/bin/python3", str(STDLIB), "/etc/ssl/certs/ca-certificates.crt", "/usr/lib/os-release")
BCC = ("/usr/lib/python3/dist-packages/bcc", "/usr/lib/*/libbcc.so.0", "/usr/lib/*/librt.so.1")

NEEDLESS_STDLIB = (
    *("config-*", "distutils", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "test", "tkinter", "turtledemo"),
    *("lib-dynload/_crypt.*", "lib-dynload/_curses*", "lib-dynload/_dbm*", "lib-dynload/_gdbm*"),
    *("lib-dynload/_test*", "lib-dynload/_tkinter*", "lib-dynload/_xx*", "lib-dynload/nis*"),
    *("lib-dynload/ossaudiodev*", "lib-dynload/readline*"),
)
"""Nothing that we load imports these, and some would bring libraries."""
NEEDLESS_ENVIRONMENT = (
    *("bin/[!p]*", "include", "lib64"),  # how a shell enters it
    "lib/*/site-packages/zstandard/_cffi*",  # for interpreters other than CPython
)
NEEDLESS_PYARROW = (
    *("include", "includes", "src", "tests", "*.p[xy][dix]", "_pyarrow_cpp_tests*"),
    *("*_flight*", "_azurefs*", "_gcsfs*", "_s3fs*", "libarrow_s3*"),
    *("libarrow_python*.so", "libarrow_python*.so*.*.*"),  # copies of what is linked, .so.N
)
"""What compilers and tests need, and what fetches from elsewhere: Arrow records come in messages. 60 MB."""

COMMAND = f"""\
#!{ENVIRONMENT}/bin/python -I
import sys

from receiver.cli import main

sys.exit(main())
"""


def main() -> None:
    """Fill /rootfs as the arguments say."""
    what, *folders = sys.argv[1:]
    if what == "code":
        for folder in folders:
            shutil.copytree(folder, below(CODE) / Path(folder).name)
    else:
        gather(*SYSTEM)
        remove(STDLIB, NEEDLESS_STDLIB)
        if what == "receiver":
            gather_receiver()
        else:
            gather(*BCC)
        gather_libraries()
        write_system()
    seal()


def below(path: Path) -> Path:
    """Where a path of this stage lies in the image."""
    return ROOT / path.relative_to("/")


def gather(*patterns: str) -> None:
    """Copy files and folders; each pattern has to match something."""
    for pattern in patterns:
        found = list(Path("/").glob(pattern.removeprefix("/")))
        assert found, f"{pattern}: nothing there"
        for path in found:
            copy(path)


def copy(path: Path) -> None:
    """Copy a file or folder, and where it is a link, what it leads to; links above it become folders."""
    target = below(path.parent.resolve() / path.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        target.symlink_to(path.readlink())
        copy(path.parent / path.readlink())
    elif path.is_dir():
        shutil.copytree(path, target, symlinks=True)
    elif not target.exists():
        shutil.copy(path, target)


def remove(folder: Path, patterns: tuple[str, ...]) -> None:
    """Remove from the image what matches; not every release has everything."""
    for pattern in patterns:
        for path in list(below(folder).glob(pattern)):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def gather_receiver() -> None:
    """Copy the environment with the requirements and add the command."""
    gather(str(ENVIRONMENT))
    remove(ENVIRONMENT, NEEDLESS_ENVIRONMENT)
    (packages,) = ENVIRONMENT.glob("lib/*/site-packages")
    remove(packages / "pyarrow", NEEDLESS_PYARROW)
    (below(packages) / "otelbee.pth").write_text(f"{CODE}\n")
    command = below(ENVIRONMENT) / "bin/otelbee"
    command.write_text(COMMAND)
    command.chmod(0o755)
    (OWNED / "var/lib/otelbee").mkdir(mode=0o700, parents=True)


def gather_libraries() -> None:
    """Copy each shared library that a file in the image is linked with and that is not in it; one missing is an error."""
    linked = [path for path in ROOT.rglob("*") if path.is_file() and path.open("rb").read(4) == b"\x7fELF"]
    for path in linked:
        original = Path("/", path.relative_to(ROOT))
        said = subprocess.run(["ldd", original], capture_output=True, text=True, check=False).stdout
        assert "not found" not in said, f"{original}: {said}"
        for library in re.findall(r"(?:=> |^\s+)(/\S+) \(", said, re.MULTILINE):
            copy_library(Path(library))


def copy_library(path: Path) -> None:
    """Copy a shared library's content under the name by which it is looked for."""
    target = below(path.parent.resolve() / path.name)
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)


def write_system() -> None:
    """Add users, what resolves names, the usual links and folders, and what says where the files come from."""
    for name in ("lib", "lib64", "bin"):
        if Path("/", name).is_symlink() and below(Path("/usr", name)).exists():
            (ROOT / name).symlink_to(f"usr/{name}")
    (ROOT / "etc/os-release").symlink_to("../usr/lib/os-release")
    (ROOT / "etc/passwd").write_text(f"root:x:0:0:root:/:/none\notelbee:x:{USER}:{USER}:otelbee:/:/none\n")
    (ROOT / "etc/group").write_text(f"root:x:0:\notelbee:x:{USER}:\n")
    (ROOT / "etc/nsswitch.conf").write_text("hosts: files dns\n")
    for name in ("dev", "proc", "run", "sys", "tmp"):
        (ROOT / name).mkdir()
    for package in sorted(packages()):
        write_package(package)


def packages() -> set[str]:
    """Return the Debian packages that the gathered files come from."""
    known: dict[str, str] = {}
    for listing in Path("/var/lib/dpkg/info").glob("*.list"):
        for line in listing.read_text().splitlines():
            if (path := Path(line)).is_file():
                known[os.path.realpath(path)] = listing.stem
    gathered = (Path("/", path.relative_to(ROOT)) for path in ROOT.rglob("*") if path.is_file())
    return {known[real] for path in gathered if (real := os.path.realpath(path)) in known}


def write_package(package: str) -> None:
    """Note a Debian package, and its licence."""
    name = package.partition(":")[0]
    status = subprocess.run(["dpkg-query", "--status", package], capture_output=True, text=True, check=True).stdout
    (ROOT / "var/lib/dpkg/status.d").mkdir(parents=True, exist_ok=True)
    (ROOT / "var/lib/dpkg/status.d" / name).write_text(status)
    copyright_ = Path("/usr/share/doc", name, "copyright").resolve()
    if copyright_.exists():
        target = ROOT / "usr/share/doc" / name
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(copyright_, target / "copyright")


def seal() -> None:
    """Compile all modules anew, and give every file and folder its mode and time."""
    for cache in list(ROOT.rglob("__pycache__")):
        shutil.rmtree(cache)
    compiling = [
        sys.executable,
        "-m",
        "compileall",
        "-q",
        "--invalidation-mode",
        "unchecked-hash",
        "-s",
        ROOT,
        "-p",
        "/",
    ]
    # The order of a set of strings in byte code follows the hash seed.
    subprocess.run([*compiling, ROOT], env=os.environ | {"PYTHONHASHSEED": "0"}, check=True)
    for path in ROOT.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    if (ROOT / "tmp").exists():
        (ROOT / "tmp").chmod(0o1777)
    time_s = int(os.environ["SOURCE_DATE_EPOCH"])
    for path in (*ROOT.rglob("*"), *OWNED.rglob("*"), ROOT):
        os.utime(path, (time_s, time_s), follow_symlinks=False)


if __name__ == "__main__":
    main()
