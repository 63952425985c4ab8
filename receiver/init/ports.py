"""Ports that are free here, for what listens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from receiver.doctor import Finding, running_version
from receiver.errors import StartError
from receiver.init.text import Block
from receiver.net.listen import listen, split_address
from receiver.net.protocols import Protocols

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from receiver.fields import Section
    from receiver.registry import Entry

_TRIED = 50


class Free:
    """Gives each port once."""

    def __init__(self) -> None:
        """Nothing was given yet."""
        self._given: set[int] = set()

    def at(self, endpoint: str) -> str:
        """``endpoint``, or one with the next port above it that nobody has; ``endpoint`` too where there is none."""
        host, port = endpoint.rpartition(":")[0], split_address(endpoint)[1]
        for candidate in range(port, min(port + _TRIED, 1 << 16)):
            if candidate not in self._given and _is_free(address := f"{host}:{candidate}"):
                self._given.add(candidate)
                return address
        return endpoint


def _is_free(endpoint: str) -> bool:
    try:
        listeners = listen(endpoint)
    except StartError:
        return False
    for listener in listeners:
        listener.close()
    return True


async def own(endpoint: str) -> tuple[Sequence[Block], Free]:
    """Where health and metrics go, where their port is somebody else's; an otelbee that runs here is to be replaced."""
    free = Free()
    found = endpoint if await running_version(endpoint) else free.at(endpoint)
    if found == endpoint:
        return (), free
    return (Block("telemetry", {"endpoint": found}, on=True, why=f"{endpoint} is another process's"),), free


def listeners(registry: Mapping[str, Entry], free: Free, *, on: bool) -> tuple[Sequence[Finding], Sequence[Block]]:
    """Every source that is pushed to, for senders on this machine."""
    findings: list[Finding] = []
    blocks: list[Block] = []
    for name, entry in registry.items():
        usual = _protocols(entry.config)
        chosen = {protocol: free.at(endpoint) for protocol, endpoint in usual.items()}
        findings += [
            Finding(
                f"sources::{name}", "note", f"{usual[each]} is taken", f"{chosen[each]} is free and written instead"
            )
            for each in usual
            if chosen[each] != usual[each]
        ]
        if usual:
            why = "for what programs on this machine push; " + ("nothing else was found" if on else "off until some do")
            blocks.append(Block(name, {"protocols": {each: {"endpoint": chosen[each]} for each in usual}}, on, why))
    return findings, blocks


def _protocols(config: type[Section]) -> dict[str, str]:
    """Where a source listens unless told otherwise, by protocol; nothing where it connects by itself."""
    field = config.model_fields.get("protocols")
    if field is None:
        return {}
    (model,) = [each for each in (field.annotation, *get_args(field.annotation)) if _is_protocols(each)]
    whole = model.model_validate({name: {} for name in model.model_fields})
    return {name: getattr(whole, name).endpoint for name in model.model_fields}


def _is_protocols(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Protocols)
