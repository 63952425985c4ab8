"""A fuzz target for what reads a server's bytes: ``python tests/fuzz/fuzz_frames.py [SECONDS] [SEED]``.

Valid sessions are damaged at random, structure kept as often as not, and :func:`check` holds for each: nothing is
raised, the result does not depend on how the bytes are cut, and what is held stays within its bounds. A failure prints
the bytes to repeat it with.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

from peers.http2_frames import GREETING, OK, OPEN, data, feed, headers, message, new_call, raw, take_all

WINDOW_BYTES = 65_535
MAX_MESSAGE_BYTES = 20_000


def check(wire: bytes, cut: random.Random) -> None:
    """Hold the reader's promises for one stream of bytes.

    Raises:
        AssertionError: One of them is broken.
    """
    whole = new_call(window_bytes=WINDOW_BYTES, max_message_bytes=MAX_MESSAGE_BYTES)
    whole.receive(wire)
    held = take_all(whole)
    assert sum(len(body) + 5 for body in held) <= WINDOW_BYTES
    assert len(whole.outgoing()) < 10_000 + 3 * len(wire)
    assert not whole.ended or whole.error is None or str(whole.error)

    parts = new_call(window_bytes=WINDOW_BYTES, max_message_bytes=MAX_MESSAGE_BYTES)
    got: list[bytes] = []
    at = 0
    while at < len(wire):
        size = cut.choice((1, 2, 9, 14, 1000))
        # The whole was not taken from, so neither is this: both have the same window.
        parts.receive(wire[at : at + size])
        at += size
    got += feed(parts, ())
    got += take_all(parts)
    assert (got, parts.ended, str(parts.error)) == (held, whole.ended, str(whole.error))


def session(chance: random.Random) -> bytes:
    """A stream of frames, most of them valid, in an order that mostly is."""
    parts = [GREETING] if chance.random() < 0.95 else []
    if chance.random() < 0.95:
        parts.append(headers(OPEN, cut=(3,) if chance.random() < 0.3 else ()))
    for _ in range(chance.randrange(12)):
        body = chance.randbytes(chance.choice((0, 1, 5, 50, 600, 9000)))
        many = message(body) * chance.choice((1, 1, 1, 2, 7))
        split = chance.randrange(len(many) + 1)
        parts += chance.choice(
            (
                [data(many[at : at + 16_000]) for at in range(0, len(many), 16_000)],
                [data(many[:split]), data(many[split:])],
                [data(many, padding=chance.randrange(256))],
                [raw(6, 0, 0, bytes(8))],
                [raw(4, 0, 0, b"\0\4\0\1\0\0")],
                [raw(8, 0, chance.randrange(2), chance.randbytes(4))],
                [
                    raw(
                        chance.randrange(12),
                        chance.randrange(256),
                        chance.randrange(3),
                        chance.randbytes(chance.randrange(20)),
                    )
                ],
                [raw(7, 0, 0, chance.randbytes(4) + bytes(4) + b"debug")],
                [b"\0\0\5\0\0\0\0\0\1\0" + chance.randbytes(4)],
            )
        )
    if chance.random() < 0.7:
        parts.append(headers([*OK, ("grpc-message", "%41")], ended=True))
    return b"".join(parts)


def damaged(wire: bytes, chance: random.Random) -> bytes:
    """The same with some bytes flipped, removed, repeated or put in."""
    result = bytearray(wire)
    for _ in range(chance.choice((0, 0, 1, 1, 2, 8))):
        at = chance.randrange(len(result) + 1)
        end = at + chance.randrange(1, 16)
        match chance.randrange(4):
            case 0:
                result[at : at + 1] = chance.randbytes(1)
            case 1:
                del result[at:end]
            case 2:
                result[at:at] = result[at:end]
            case _:
                result[at:at] = chance.randbytes(end - at)
    return bytes(result)


def main() -> None:
    """Fuzz for a time; say how many streams that were."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns()
    chance, count, end = random.Random(seed), 0, time.monotonic() + seconds
    while time.monotonic() < end:
        wire = damaged(session(chance), chance)
        try:
            check(wire, chance)
        except Exception:
            sys.stderr.write(f"seed {seed}, stream {count}: {wire!r}\n")
            raise
        count += 1
    sys.stdout.write(f"{count} streams, seed {seed}\n")


if __name__ == "__main__":
    main()
