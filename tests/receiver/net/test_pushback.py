"""How long a sender is put off."""

from __future__ import annotations

from receiver.errors import Overdue, TryLater
from receiver.net.pushback import Pushback

BUSY = TryLater("busy", 1)


def test_each_sender_has_its_own_time() -> None:
    """It begins with its first refusal, and anew once something of it was taken."""
    now_s = 0.0
    pushback = Pushback(60, lambda: now_s)
    assert pushback.refused("a", BUSY) is BUSY
    now_s = 59.9
    assert pushback.refused("a", BUSY) is BUSY
    assert pushback.refused("b", BUSY) is BUSY
    now_s = 60.0
    assert isinstance(pushback.refused("a", BUSY), Overdue)
    assert pushback.refused("b", BUSY) is BUSY
    pushback.passed("a")
    assert pushback.refused("a", BUSY) is BUSY


def test_none_is_put_off_where_there_is_no_time_for_it() -> None:
    """``max_pushback: 0`` says so at once."""
    assert isinstance(Pushback(0).refused("a", BUSY), Overdue)


def test_senders_are_remembered_within_bounds() -> None:
    """Whoever was refused first is forgotten first."""
    now_s = 0.0
    pushback = Pushback(60, lambda: now_s)
    for number in range(5000):
        pushback.refused(str(number), BUSY)
    now_s = 61.0
    assert pushback.refused("0", BUSY) is BUSY
    assert isinstance(pushback.refused("4999", BUSY), Overdue)
