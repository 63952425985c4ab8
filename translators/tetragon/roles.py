"""The attribute keys of a process, by the part that it plays in an event."""

from __future__ import annotations

from translators import attributes as key
from translators import wire

NAMESPACES = ("uts", "ipc", "mnt", "pid", "pid_for_children", "net", "time", "time_for_children", "cgroup", "user")
"""Fields of Tetragon's Namespaces."""


class Role:
    """The keys of one part: the process itself follows the conventions, its relatives repeat them under a prefix."""

    def __init__(self, tag: bytes, prefix: str, *, itself: bool = False) -> None:
        """Encode every key; ``tag`` is the field that attributes become, ``prefix`` stands before a relative's keys."""
        self._tag, self._itself, self._prefix = tag, itself, prefix
        self.exec_id = self._own("exec_id")
        self.parent_exec_id = self._own("parent_exec_id")
        self.pid = self._key(key.PROCESS_PID, "pid")
        self.user_id = self._key(key.PROCESS_USER_ID, "user.id")
        self.user_name = self._key(key.PROCESS_USER_NAME, "user.name")
        self.real_user_id = self._key(key.PROCESS_REAL_USER_ID, "real_user.id")
        self.saved_user_id = self._key(key.PROCESS_SAVED_USER_ID, "saved_user.id")
        self.working_directory = self._key(key.PROCESS_WORKING_DIRECTORY, "working_directory")
        self.executable_path = self._key(key.PROCESS_EXECUTABLE_PATH, "executable.path")
        self.executable_name = self._key(key.PROCESS_EXECUTABLE_NAME, "executable.name")
        self.command_line = self._key(key.PROCESS_COMMAND_LINE, "command_line")
        self.command_args = self._key(key.PROCESS_COMMAND_ARGS, "command_args")
        self.creation_time = self._key(key.PROCESS_CREATION_TIME, "creation.time")
        self.vpid = self._key(key.PROCESS_VPID, "vpid")
        self.thread_id = self._key(key.THREAD_ID, "thread.id")
        self.args_lossy = self._own("args_lossy")
        self.flags = self._own("flags")
        self.auid = self._own("auid")
        self.in_init_tree = self._own("in_init_tree")
        self.exec_probe = self._own("exec_probe")
        self.resource = self._own("resource")
        self.capabilities = self._capabilities("cap")
        self.credential_capabilities = self._capabilities("credentials.cap")
        self.credentials = {
            name: self._own(name) for name in ("gid", "euid", "egid", "sgid", "fsuid", "fsgid", "securebits")
        }
        self.user_ns = {name: self._own(f"user_ns.{name}") for name in ("level", "uid", "gid", "inum", "host")}
        self.namespaces = {name: self._own(f"ns.{name}") for name in NAMESPACES}
        self.host_namespaces = self._own("ns.host")
        self.setuid = self._own("setuid")
        self.setgid = self._own("setgid")
        self.privileges_changed = self._own("privileges_changed")
        self.unlinked_path = self._own("unlinked_path")
        self.unlinked_inode = self._own("unlinked_inode")
        self.unlinked_links = self._own("unlinked_links")

    def environment_variable(self, name: str) -> wire.Key:
        """Return the key of an environment variable; names come from processes and are not kept."""
        return self._key(key.PROCESS_ENVIRONMENT_VARIABLE + name, "environment_variable." + name)

    def _key(self, convention: str, name: str) -> wire.Key:
        return wire.Key(convention if self._itself else self._prefix + name, self._tag)

    def _own(self, name: str) -> wire.Key:
        return self._key("tetragon.process." + name, name)

    def _capabilities(self, name: str) -> dict[str, wire.Key]:
        return {part: self._own(f"{name}.{part}") for part in ("permitted", "effective", "inheritable")}


PROCESS = Role(wire.RECORD_TAG, "", itself=True)
PARENT = Role(wire.RECORD_TAG, "tetragon.parent.")
PARENT.pid = wire.Key(key.PROCESS_PARENT_PID)
ANCESTOR = Role(wire.LIST_TAG, "")
