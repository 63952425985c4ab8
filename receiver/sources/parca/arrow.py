"""Arrow records: ``WriteArrow`` in one message, and the exchange of ``Write``.

``parca-dev/parca-agent``: ``reporter/arrow_v2.go`` and ``reporter/arrow.go``. In ``Write`` the agent sends its samples, the
server answers with the ids of the stacks that it lacks, the agent sends those and ends its side.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError

from receiver.errors import Malformed
from translators.parca_arrow import MalformedError, framed, wanted
from translators.pb.profilestore_pb2 import WriteArrowRequest, WriteRequest, WriteResponse

if TYPE_CHECKING:
    from receiver.net.gate import Sender
    from receiver.net.grpc_server import Conversation
    from receiver.sources.parca.intake import ProfileStore

_SERVICE: Final = "/parca.profilestore.v1alpha1.ProfileStoreService"
ARROW_PATH: Final = f"{_SERVICE}/WriteArrow"
WRITE_PATH: Final = f"{_SERVICE}/Write"
_NOTHING: Final = b""
"""A ``WriteArrowResponse``, which has no fields."""


class Arrow:
    """The methods of the profile store that take Arrow records."""

    def __init__(self, store: ProfileStore) -> None:
        """Hand records to ``store``."""
        self._store = store

    async def write_arrow(self, sender: Sender, message: bytes) -> bytes:
        """Take a batch of schema v2."""
        try:
            record = WriteArrowRequest.FromString(message).ipc_buffer
        except DecodeError:
            raise Malformed("the message is no WriteArrowRequest") from None
        await self._store.take("arrow_v2", record, sender)
        return _NOTHING

    async def write(self, sender: Sender, call: Conversation) -> None:
        """Take part in an exchange; samples that are complete in themselves need no answer."""
        samples = _record(await call.read(), "samples")
        try:
            lacking = await asyncio.to_thread(wanted, samples)
        except MalformedError as error:
            raise Malformed(f"samples: {error}") from None
        if not lacking.stacks:
            await self._store.take("arrow_v2", samples, sender)
            return
        await call.write(WriteResponse(record=lacking.request).SerializeToString())
        locations = _record(await call.read(), "locations")
        await self._store.take("arrow_v1", framed(samples, locations), sender)


def _record(message: bytes | None, what: str) -> bytes:
    if message is None:
        raise Malformed(f"the call ended before its {what}")
    try:
        record: bytes = WriteRequest.FromString(message).record
    except DecodeError:
        raise Malformed("the message is no WriteRequest") from None
    return record
