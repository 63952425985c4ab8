"""Encodes what the agent only sends on demand: capabilities, namespaces, credentials, the executable's privileges.

These messages repeat from process to process, so they stay bytes until they are new.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from translators.pb import tetragon_pb2 as full
from translators.tetragon import names
from translators.tetragon.roles import NAMESPACES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from translators.tetragon.redaction import Redaction
    from translators.tetragon.roles import Role
    from translators.wire import Key


def encode_rare(process: tuple[bytes, bytes, bytes, bytes], role: Role, redaction: Redaction) -> bytes:
    """Encode (cap, ns, process_credentials, binary_properties) of a process. Raises DecodeError."""
    cap, ns, credentials, properties = process
    parts: list[bytes] = []
    if cap:
        parts += _capabilities(full.Capabilities.FromString(cap), role.capabilities)
    if ns:
        parts += _namespaces(full.Namespaces.FromString(ns), role)
    if credentials:
        parts += _credentials(full.ProcessCredentials.FromString(credentials), role)
    if properties:
        parts += _binary_properties(full.BinaryProperties.FromString(properties), role, redaction)
    return b"".join(parts)


def privileges_changed(properties: bytes) -> bool:
    """Tell whether an exec raised privileges. Raises DecodeError."""
    return bool(full.BinaryProperties.FromString(properties).privileges_changed)


def _capabilities(sets: full.Capabilities, keys: Mapping[str, Key]) -> Iterator[bytes]:
    for part, numbers in (
        ("permitted", sets.permitted),
        ("effective", sets.effective),
        ("inheritable", sets.inheritable),
    ):
        if numbers:
            yield keys[part].texts(names.capabilities(numbers))


def _namespaces(namespaces: full.Namespaces, role: Role) -> Iterator[bytes]:
    host = []
    for name in NAMESPACES:
        if namespaces.HasField(name):
            namespace: full.Namespace = getattr(namespaces, name)
            yield role.namespaces[name].integer(namespace.inum)
            if namespace.is_host:
                host.append(name)
    if host:
        yield role.host_namespaces.texts(host)


def _credentials(credentials: full.ProcessCredentials, role: Role) -> Iterator[bytes]:
    for name in ("uid", "suid", "gid", "euid", "egid", "sgid", "fsuid", "fsgid"):
        if credentials.HasField(name):
            key = {"uid": role.real_user_id, "suid": role.saved_user_id}.get(name) or role.credentials[name]
            yield key.integer(getattr(credentials, name).value)
    if credentials.securebits:
        yield role.credentials["securebits"].texts(names.secure_bits(credentials.securebits))
    yield from _capabilities(credentials.caps, role.credential_capabilities)
    if credentials.HasField("user_ns"):
        yield from _user_namespace(credentials.user_ns, role)


def _user_namespace(namespace: full.UserNamespace, role: Role) -> Iterator[bytes]:
    for name in ("level", "uid", "gid"):
        if namespace.HasField(name):
            yield role.user_ns[name].integer(getattr(namespace, name).value)
    if namespace.HasField("ns"):
        yield role.user_ns["inum"].integer(namespace.ns.inum)
        yield role.user_ns["host"].boolean(namespace.ns.is_host)


def _binary_properties(properties: full.BinaryProperties, role: Role, redaction: Redaction) -> Iterator[bytes]:
    if properties.HasField("setuid"):
        yield role.setuid.integer(properties.setuid.value)
    if properties.HasField("setgid"):
        yield role.setgid.integer(properties.setgid.value)
    if properties.privileges_changed:
        yield role.privileges_changed.texts(names.privilege_changes(properties.privileges_changed))
    if properties.file.path:
        yield role.unlinked_path.text(redaction.text(properties.file.path))
    if properties.file.HasField("inode"):
        # Inode numbers are unsigned 64-bit and semantic conventions have them as text (file.inode).
        yield role.unlinked_inode.text(str(properties.file.inode.number))
        if properties.file.inode.HasField("links"):
            yield role.unlinked_links.integer(properties.file.inode.links.value)
