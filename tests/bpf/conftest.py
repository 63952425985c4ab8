"""The bpf process that the tests of a file share, and small programs of known behaviour."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from bpf.live import BpfProcess, compiled, require_bpf

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bpf.live import Peer

PROGRAM = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static char **rest;

static void *ends_process(void *leader) {
    pthread_join(*(pthread_t *)leader, 0); /* the leader is gone now */
    syscall(SYS_exit_group, 5);
    return 0;
}

static void *execs(void *unused) {
    execv(rest[0], rest);
    _exit(99);
}

int main(int argc, char **argv) {
    pthread_t thread;
    static pthread_t leader;
    rest = argv + 2;
    if (!strcmp(argv[1], "fork")) { /* a child without exec */
        pid_t child = fork();
        if (!child)
            _exit(4);
        waitpid(child, 0, 0);
        return 2;
    }
    if (!strcmp(argv[1], "leader")) { /* the leader ends first, with another code */
        leader = pthread_self();
        pthread_create(&thread, 0, ends_process, &leader);
        pthread_exit(0);
    }
    if (!strcmp(argv[1], "raw")) /* exit(2), not exit_group(2) */
        syscall(SYS_exit, 9);
    if (!strcmp(argv[1], "orphan")) { /* the child outlives its parent; with more arguments it then execs */
        pid_t parent = getpid();
        if (!fork()) {
            while (getppid() == parent)
                usleep(1000);
            if (rest[0])
                execv(rest[0], rest);
            _exit(6);
        }
        return 0;
    }
    if (!strcmp(argv[1], "thread-exec")) { /* a thread that is not the leader execs */
        pthread_create(&thread, 0, execs, 0);
        pause();
    }
    if (!strcmp(argv[1], "no-arguments")) {
        char *none[] = {0};
        execv("/bin/true", none);
    }
    if (!strcmp(argv[1], "storm")) { /* storm COUNT ARGUMENT: children that exec this program as "nothing ARGUMENT" */
        int running = 0;
        for (int i = 0; i < atoi(argv[2]); i++) {
            if (!vfork()) {
                execl("/proc/self/exe", "nothing", "nothing", argv[3], (char *)0);
                _exit(97);
            }
            if (++running == 32) {
                wait(0);
                running--;
            }
        }
        while (wait(0) > 0) {}
    }
    if (!strcmp(argv[1], "raise"))
        raise(atoi(argv[2]));
    return 0;
}
"""


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that ends in every way there is; see its source."""
    return compiled(tmp_path_factory.mktemp("program"), PROGRAM)


@pytest.fixture(scope="module")
def bpf_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BpfProcess]:
    """The bpf process with both programs, as the parent starts it."""
    require_bpf()
    process = BpfProcess(tmp_path_factory.mktemp("bpf") / "bpf.sock")
    yield process
    process.stop()


@pytest.fixture
def peer(bpf_process: BpfProcess) -> Iterator[Peer]:
    """A connection to the bpf process."""
    with bpf_process.peer() as connection:
        yield connection
