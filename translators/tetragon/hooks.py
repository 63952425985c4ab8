"""Hook events: kprobe, tracepoint, uprobe, usdt and LSM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf.unknown_fields import UnknownFieldSet

from translators import attributes as key
from translators import wire
from translators.pb import tetragon_lazy_pb2 as lazy
from translators.tetragon import names, promotion
from translators.tetragon.cache import Cache
from translators.tetragon.detail import Detail
from translators.tetragon.hook_arguments import Argument, read_argument
from translators.tetragon.hook_kinds import SAY
from translators.tetragon.kinds import ERROR, SEVERITIES, WARN, Kind, severity_field
from translators.tetragon.record import fingerprint
from translators.tetragon.stacks import stack_parts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from translators.tetragon.options import Options
    from translators.tetragon.process import Processes
    from translators.tetragon.promotion import Promoted
    from translators.tetragon.redaction import Redaction

ANCESTORS = wire.Key("tetragon.ancestors")
_ACTION = wire.Key("tetragon.action")
_RETURN_ACTION = wire.Key("tetragon.kprobe.return_action")
_RETURN = wire.Key("tetragon.kprobe.return")
_ARGS = wire.Key("tetragon.args")
_DATA = wire.Key("tetragon.data")
_ERRORS = wire.Key("tetragon.arg_errors")
_POLICY_NAME = wire.Key("tetragon.policy.name")
_POLICY_MESSAGE = wire.Key("tetragon.policy.message")
_POLICY_TAGS = wire.Key("tetragon.policy.tags")
_RULE_NAME = wire.Key(key.SECURITY_RULE_NAME)
_RULE_DESCRIPTION = wire.Key(key.SECURITY_RULE_DESCRIPTION)
_RULE_CATEGORY = wire.Key(key.SECURITY_RULE_CATEGORY)
_RULESET = wire.Key(key.SECURITY_RULE_RULESET_NAME).text("tetragon")

_CONNECT = frozenset({"tcp_connect", "tcp_v4_connect", "tcp_v6_connect", "security_socket_connect"})
_ACCEPT = frozenset({"inet_csk_accept", "security_socket_accept"})
_ENFORCED = {"signal": WARN, "set": WARN, "notifyenforcer": WARN, "sigkill": ERROR, "override": ERROR}
"""Actions by which a policy interfered; every other one only observed."""

_ARGUMENTS = 8_192
_BYTES = 16 * 1024 * 1024
_SHARE = 4


class Hooks:
    """Reads what a hook event says beside its processes; the result depends on nothing but those bytes."""

    def __init__(self, options: Options, redaction: Redaction, processes: Processes) -> None:
        """Start with no argument known."""
        self._redaction = redaction
        self._processes = processes
        self._severity = {name: SEVERITIES[severity] for name, severity in options.severity.items()}
        self._arguments: Cache[bytes, Argument] = Cache(_ARGUMENTS, _BYTES)

    def read(self, kind: Kind, data: bytes) -> Detail:
        """Read the rest of a hook event. Raises DecodeError."""
        message: Any = kind.message.FromString(data)
        arguments = [self._argument(argument) for argument in message.args]
        parts = list(_policy(message))
        said, word, rest = SAY[kind.name](message, arguments, self._redaction)
        parts += said
        parts += self._argument_parts(message, arguments)
        if message.ancestors:
            parts.append(ANCESTORS.any(wire.any_array(self._processes.ancestors(message.ancestors))))
        attributes = b"".join(parts)
        return Detail(
            attributes=attributes,
            fingerprint=fingerprint(attributes),
            severity=severity_field(self._severity_of(kind, message)),
            word=(word or kind.word).encode(),
            tail=b" " + rest.encode() if rest else b"",
            process=message.process,
            parent=message.parent,
            unknown_fields=len(UnknownFieldSet(message)),
        )

    def _argument(self, data: bytes) -> Argument:
        argument = self._arguments.get(data, _SHARE * len(data))
        if argument is None:
            argument = read_argument(data, self._redaction)
            self._arguments.put(data, argument, _SHARE * len(data))
        return argument

    def _argument_parts(self, message: Any, arguments: list[Argument]) -> Iterator[bytes]:
        """Encode the arguments, the return value, the extra data, the stacks, and what they promote."""
        everything = list(arguments)
        if arguments:
            yield _ARGS.any(wire.any_array([argument.value for argument in arguments]))
        if isinstance(message, lazy.ProcessKprobe):
            returned = getattr(message, "return")
            if returned:
                everything.append(self._argument(returned))
                yield _RETURN.any(everything[-1].value)
            yield from stack_parts(message.kernel_stack_trace, message.user_stack_trace, self._redaction)
        if isinstance(message, lazy.ProcessKprobe | lazy.ProcessUprobe) and message.data:
            extra = [self._argument(data) for data in message.data]
            everything += extra
            yield _DATA.any(wire.any_array([argument.value for argument in extra]))
        errors = [argument.error for argument in everything if argument.error]
        if errors:
            yield _ERRORS.texts(errors)
        promoted = dict(_promote(getattr(message, "function_name", ""), everything))
        yield from promoted.values()

    def _severity_of(self, kind: Kind, message: Any) -> int:
        for name in (message.policy_name, *message.tags):
            if name in self._severity:
                return self._severity[name]
        actions = [names.action(message.action), names.action(getattr(message, "return_action", 0))]
        return max(kind.severity, *(_ENFORCED.get(action, 0) for action in actions))


def _policy(message: Any) -> Iterator[bytes]:
    if message.policy_name:
        yield _RULE_NAME.text(message.policy_name)
        yield _RULESET
        yield _POLICY_NAME.text(message.policy_name)
    if message.message:
        yield _RULE_DESCRIPTION.text(message.message)
        yield _POLICY_MESSAGE.text(message.message)
    if message.tags:
        yield _RULE_CATEGORY.text(message.tags[0])
        yield _POLICY_TAGS.texts(message.tags)
    if message.action:
        yield _ACTION.text(names.action(message.action))
    if isinstance(message, lazy.ProcessKprobe) and message.return_action:
        yield _RETURN_ACTION.text(names.action(message.return_action))


def _promote(function: str, arguments: Sequence[Argument]) -> Promoted:
    """Collect what arguments promote, last first, so that in a dictionary the first one wins."""
    promoted: Promoted = []
    for argument in reversed(arguments):
        if argument.ends is not None and function in _CONNECT:
            promoted += promotion.endpoints(*argument.ends)
        elif argument.ends is not None and function in _ACCEPT:
            promoted += promotion.endpoints(argument.ends[1], argument.ends[0])
        promoted += argument.promoted
    return promoted
