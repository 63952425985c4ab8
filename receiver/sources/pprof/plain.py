"""A profile as the body of a ``POST``: curl, jobs of continuous integration, scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from receiver.errors import Malformed
from receiver.sources.pprof.push import Push

if TYPE_CHECKING:
    from receiver.net.gate import Sender

PATH: Final = "/v1/pprof"
"""That of the Collector's pprofreceiver, which answers 204 as well."""
LABEL_HEADER: Final = "otelbee-label-"
"""Prefix of headers that are labels; ``-`` in the rest of the name stands for ``_``."""


async def read(sender: Sender, body: bytes) -> Push:
    """Take the body as it is; labels from headers, from the query, and pairs of the path, the later over the earlier."""
    labels = {
        name.removeprefix(LABEL_HEADER).replace("-", "_"): value
        for name, value in sender.headers.items()
        if name.startswith(LABEL_HEADER)
    }
    return Push([body], {**labels, **dict(sender.query), **_pairs(sender.below)})


def _pairs(path: str) -> dict[str, str]:
    """``service_name/shop/env/prod``, as Prometheus' Pushgateway has labels in its path."""
    parts = [unquote(part, errors="replace") for part in path.split("/")] if path else []
    if len(parts) % 2:
        raise Malformed(f"below {PATH}/ stand pairs: {PATH}/NAME/VALUE/NAME/VALUE; {len(parts)} parts are not pairs")
    return dict(zip(parts[::2], parts[1::2], strict=True))
