"""The fixture of the fault tests."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.conftest import must_have
from tests.faults.parts import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def fault(
    tmp_path: Path,
    record_property: Callable[[str, object], None],
    peers: None,  # noqa: ARG001 - the fixture that builds them
) -> Iterator[Fault]:
    """A fault, whose processes are ended after the test."""
    with ExitStack() as stack:
        yield Fault(tmp_path, stack, record_property)


@pytest.fixture
def root() -> None:
    """The test may mount a file system; skips where that is not so, fails where CI needs it."""
    if os.geteuid():
        reason = "needs root, for a file system of its own"
        if must_have("ROOT"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
