"""Clients that are slow, endless, compressed beyond measure or unknown: the honest ones are served all the while."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from tests.faults.parts import Fault

TOKEN = "honest-token"


class Attack(NamedTuple):
    """What a row of the table is about."""

    name: str
    row: str
    ends: int = 0
    """How many of its calls or connections must have been ended by otelbee, whose limits have not been changed."""
    token: bool = False
    """Whether the listeners ask for a token."""


ATTACKS = (
    Attack("slow_headers", "slow-loris: 100 HTTP headers, a byte at a time"),
    Attack("endless_body", "never-ending: 100 HTTP bodies that trickle", ends=1),
    Attack("slow_message", "never-ending: 100 gRPC messages that trickle", ends=1),
    Attack("endless_call", "never-ending: 100 gRPC calls without a message", ends=1),
    Attack("flood", "never-ending: 20 HTTP bodies at full speed", ends=60),
    Attack("bomb", "gzip, deflate and zstd bombs of 1 GiB", ends=30),
    Attack("denied", "60 MiB calls without a token", ends=60, token=True),
)


@pytest.mark.timeout(90)
@pytest.mark.parametrize("attack", ATTACKS, ids=[attack.name for attack in ATTACKS])
def test_honest_senders_are_served(fault: Fault, attack: Attack) -> None:
    """Memory stays bounded, both protocols answer, and nothing that was acknowledged is lost."""
    grpc: dict[str, Any] = {}
    http: dict[str, Any] = {}
    if attack.token:
        tokens = fault.folder / "tokens"
        tokens.write_text(f"honest:{TOKEN}\n")
        tokens.chmod(0o600)
        auth = {"bearertokenauth": {"filename": str(tokens)}}
        # Nothing but the token keeps them out.
        grpc = {"auth": auth, "max_recv_msg_size_mib": 64}
        http = {"auth": auth, "max_request_body_size": "64MiB"}
    collector = fault.collector()
    fault.run(collector.endpoint, grpc=grpc, http=http)
    token = TOKEN if attack.token else ""
    senders = [fault.sender(name, protocol=name, rate=1000, token=token) for name in ("grpc", "http")]
    fault.arrives(500)
    with fault.attacker(attack.name) as attacker:
        for sender in senders:
            sender.acknowledged(1500)
        attacker.until(lambda: attacker.output().count("\n") >= attack.ends, "otelbee ends it")
        for sender in senders:
            sender.acknowledged(500)
        assert "taken" not in attacker.output()
        assert "200" not in attacker.output()
    fault.survived(attack.row)
