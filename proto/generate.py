"""Generate translators/pb from the .proto files beside this script.

``python proto/generate.py`` writes; ``--check`` only compares and fails when the committed files are stale. The output
depends on the protoc inside the pinned grpcio-tools and on nothing else.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
PACKAGE = Path("translators", "pb")
INIT = '"""Generated from proto/ by proto/generate.py. Never edited by hand."""\n'


def generate(out: Path) -> dict[str, str]:
    """Generate every module into ``out``; return the files by name, as text."""
    # Every folder of proto/ is mapped onto the Python package, so that imports between generated modules are absolute.
    folders = sorted(path for path in PROTO.iterdir() if path.is_dir())
    sources = sorted(path for folder in folders for path in folder.glob("*.proto"))
    arguments = ["protoc", *(f"-I{PACKAGE.as_posix()}={folder}" for folder in folders)]
    arguments += [f"-I{files('grpc_tools') / '_proto'}", f"--python_out={out}", f"--pyi_out={out}"]
    arguments += [(PACKAGE / source.name).as_posix() for source in sources]
    if protoc.main(arguments) != 0:
        raise SystemExit("protoc failed; its message is above")
    generated = {path.name: path.read_text() for path in sorted((out / PACKAGE).iterdir()) if path.is_file()}
    return {"__init__.py": INIT, **generated}


def stale(generated: dict[str, str], target: Path) -> list[str]:
    """Name the files of ``target`` that are missing, different or left over."""
    present = {path.name: path.read_text() for path in target.glob("*.py*")} if target.is_dir() else {}
    names = sorted(generated.keys() | present.keys())
    return [name for name in names if generated.get(name) != present.get(name)]


def main() -> int:
    """Write the generated files, or with ``--check`` only compare them; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with the committed files instead of writing")
    check = parser.parse_args().check
    target = ROOT / PACKAGE
    with tempfile.TemporaryDirectory() as folder:
        generated = generate(Path(folder))
    names = stale(generated, target)
    if check:
        for name in names:
            print(f"{PACKAGE / name} does not match proto/; run: make proto", file=sys.stderr)
        return 1 if names else 0
    target.mkdir(exist_ok=True)
    for name in names:
        if name in generated:
            (target / name).write_text(generated[name])
        else:
            (target / name).unlink()
        print(f"{'wrote' if name in generated else 'removed'} {PACKAGE / name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
