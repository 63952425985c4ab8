"""What runs a frame (semantic conventions, ``profile.frame.type``), told from the names that a profile has.

pprof has no such field. A kernel's mapping is told by its name, a language by the extension of the source file; machine
code of a file that nothing says more about is ``native``, as the convention asks.
"""

from __future__ import annotations

import posixpath
from typing import Final

FRAME_TYPE: Final = "profile.frame.type"

_BY_EXTENSION: Final = {
    extension: frame_type
    for frame_type, extensions in {
        "beam": ".erl .ex .exs",
        "cpython": ".py .pyx",
        "dotnet": ".cs .fs .vb",
        "go": ".go",
        "jvm": ".clj .groovy .java .kt .scala",
        "luajit": ".lua",
        "native": ".asm .c .c++ .cc .cpp .cxx .h .hh .hpp .hxx .inl .m .mm .s .swift .zig",
        "perl": ".pl .pm",
        "php": ".php",
        "ruby": ".rb",
        "rust": ".rs",
        "v8js": ".cjs .js .jsx .mjs .ts .tsx",
    }.items()
    for extension in extensions.split()
}


def of_source_file(filename: str, *, in_go: bool) -> str:
    """Return the type of a frame by its source file, "" where that does not say; ``in_go``: assembly is Go's."""
    extension = posixpath.splitext(filename)[1].lower()
    if extension == ".s" and in_go:
        return "go"
    return _BY_EXTENSION.get(extension, "")


def is_kernel(mapping_filename: str) -> bool:
    """Tell whether a mapping is the kernel or one of its modules: ``[kernel.kallsyms]_text``, ``vmlinux``, ``x.ko``."""
    base = posixpath.basename(mapping_filename)
    return mapping_filename.startswith(("[kernel", "[guest.kernel")) or base == "vmlinux" or base.endswith(".ko")


def of_mapping(filename: str, *, is_go: bool) -> str:
    """Return the type of a frame of machine code by its mapping, "" where there is no file."""
    if is_kernel(filename):
        return "kernel"
    if is_go:
        return "go"
    return "native" if filename and not filename.startswith("[") else ""
