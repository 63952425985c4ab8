"""Whose events a source drops: otelbee's own, so that nothing observes itself, and what the configuration names."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from receiver.fields import Section
from receiver.identity import self_exclude
from translators.batch import Exclude as ExcludedProcesses

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def _container_id(value: str) -> str:
    bare = value.rpartition("://")[2].lower()
    if not re.fullmatch("[0-9a-f]{64}", bare):
        raise ValueError("not a full container id; write its 64 hexadecimal digits")
    return bare


def _pod_uid(value: str) -> str:
    if not _UUID.fullmatch(value.lower()):
        raise ValueError("not a pod uid; write it as metadata.uid shows it, 8-4-4-4-12 hexadecimal digits")
    return value.lower()


class Exclude(Section):
    """Whose events to drop and count, besides otelbee's own."""

    pod_uids: tuple[Annotated[str, AfterValidator(_pod_uid)], ...] = ()
    """``metadata.uid`` of pods."""
    container_ids: tuple[Annotated[str, AfterValidator(_container_id)], ...] = ()
    """Full ids of containers, with or without ``containerd://``."""
    pids: tuple[Annotated[int, Field(gt=0, lt=1 << 32)], ...] = ()
    """Process ids on the host."""

    def processes(self) -> ExcludedProcesses:
        """Return them as translators take them."""
        return ExcludedProcesses(frozenset(self.pids), frozenset(self.container_ids), frozenset(self.pod_uids))


class Excluding(Section):
    """The configuration of a source that observes processes."""

    exclude_self: bool = True
    """Drop, and count, the events of otelbee itself."""
    exclude: Exclude = Exclude()
    """Drop, and count, the events of these too."""

    def excluded(self) -> ExcludedProcesses:
        """Return them as translators take them; asks /proc who we are."""
        own = self_exclude() if self.exclude_self else ExcludedProcesses()
        named = self.exclude.processes()
        return ExcludedProcesses(
            own.pids | named.pids, own.container_ids | named.container_ids, own.pod_uids | named.pod_uids
        )
