"""What the user chooses about profiles in pprof's format."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from translators.resource import ResourceOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from translators.redact import Redactor


@dataclass(frozen=True)
class Options:
    """What the user chose."""

    resource: ResourceOptions = field(default_factory=ResourceOptions)
    redactor: Redactor | None = None
    """None leaves labels and comments as they are."""
    resource_labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Label to resource attribute, before :data:`translators.profiles.labels.ATTRIBUTES`."""
    native_names: Literal["none", "placeholder"] = "none"
    """What a frame without a name is called: nothing, or its file and where in it, ``libc.so.6+0x47a38``."""
    original_payload: bool = False
    """Whether the pprof goes along as it came, in the first of its Profiles."""
    max_bytes: int = 32 * 1024 * 1024
    """Of a profile once it is decompressed. One made of nothing but tiny parts takes some 30 times as much memory."""
