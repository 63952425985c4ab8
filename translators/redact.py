r"""Redaction: what looks like a secret in a string of a process becomes ``<redacted:RULE>`` before it reaches the queue.

One :class:`Redactor` serves every source. All patterns run in RE2, so the time is linear in the length of the input
whatever the input is. One ``re2.Set`` over all rules is the prefilter: a string without anything secret costs that
single pass; otherwise only the rules that the set named are applied.

Three shapes of input share one set of rules because argument lists are joined with NUL, which no argument can hold:

* a list (``argv``) is ``\0item\0item\0``: after a NUL a value ends at the next NUL, spaces and quotes included;
* Tetragon's flat string is argv[1:] joined by spaces, an item with a space put in double quotes, inner quotes not
  escaped: a quoted value ends at a run of quotes that is followed by a space or the end;
* any other text is read as a shell would, approximately.

The rules work on UTF-8 bytes, byte for byte (Latin-1 to RE2): every delimiter is ASCII, so no character is cut, and
bytes that are not text can be redacted as well.
"""

from __future__ import annotations

from collections import Counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

import re2  # type: ignore[import-untyped]  # google-re2 ships no types

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# What may stand before a flag, and what may not end a bare value: closing punctuation belongs to the surroundings.
_BEFORE = r"(?:^|[\s\x00\"'(;,|&=])"
_BARE = r"[^\s\x00]*[^\s\x00\"'`;,)\]}]"
# With the two ways to write a single quote inside of one, and what a shell would join to it.
_SINGLE_QUOTED = r"'[^'\x00]*'(?:(?:\"'\"|\\')'[^'\x00]*')*[^\s\x00\"'`;|&,)\]}]*"
# The inside of a double-quoted value, up to quotes that something else than more of the value follows. It cannot fail:
# an unterminated value (a truncated string) ends with the string, and so no search scans the same bytes again.
_QUOTED = r"(?:[^\"\x00]|\"+[^\"\s\x00;)|&,}\]])*"
_ITEM = r"[^\x00]+"
# A value in the argument after its flag. "--x" and "-x" are the next flag: the secret one was a switch or prompts.
_NEXT_WORD = rf"\"{_QUOTED}\"*|{_SINGLE_QUOTED}|-?[^\s\x00-]{_BARE}|[^\s\x00\"'`;,)\]}}|&<>\\-]"
_NEXT_ITEM = r"-?[^\x00-][^\x00]+|[^\x00-]"
_NEXT = rf"(?:\s+({_NEXT_WORD})|\x00({_NEXT_ITEM}))"
_VALUE = rf"\"[^\s\"\x00]{_QUOTED}\"*|{_SINGLE_QUOTED}|{_BARE}"
_SWITCHES = r"(?:no|ask|allow|change|disable|enable|generate|hide|prompt|require|reset|rotate|set|show|update|use|with)"


class _Builtin(NamedTuple):
    pattern: str
    trigger: str
    """Found in whatever ``pattern`` is found in, and cheap: it is one alternative of the prefilter."""


def _named(words: str) -> _Builtin:
    """Values whose name ends with one of ``words``."""
    name = rf"(?:{words})(?:[_.-]?(?:[0-9]+|hash|value|base64|b64|plain|text))?"
    pattern = (
        "(?i)(?:"
        # --no-password and its like take no value: matched without a group, they are stepped over.
        rf"{_BEFORE}--?(?:[a-z0-9]+[_.-])*{_SWITCHES}[_.-]?{name}(?:[\s\x00]|$)"
        # docker build --secret id=...,src=...
        rf"|{_BEFORE}--{name}[\s\x00=](?:id|source|src|type|target)="
        # sh -c 'PASSWORD=x command': the item is a script that begins with an assignment, not one value.
        rf"|(?:^|[\s\x00])-[a-z]*c(?:\x00|\s+\")[\w.-]*{name}=({_VALUE})"
        # A whole item of a list, and one that Tetragon put in quotes because it has a space.
        rf"|\x00[\w.-]*{name}=({_ITEM})"
        rf"|(?:^|\s)\"[\w.-]*{name}=([^\s\"\x00]{_QUOTED})"
        # A query parameter, a part of a connection string, then KEY=VALUE anywhere.
        rf"|[?&][\w.-]*{name}=([^&#\s\"'\x00]+)"
        rf"|;\s?[\w .-]*{name}\s?=\s?([^;\s\"'\x00]+)"
        rf"|{name}(?:=|\s=\s)({_VALUE})"
        # --password x
        rf"|{_BEFORE}--?[\w.-]*{name}{_NEXT}"
        # JSON, plain, inside a quoted string, or as Python writes it; YAML at the start of a line.
        rf"|{name}\"\s*:\s*(?:\"((?:[^\"\\\x00]|\\[^\x00])+)|([0-9][^\s,}}\x00]*))"
        rf"|{name}\\\"\s*:\s*\\\"([^\"\\\x00]+)"
        rf"|{name}'\s*:\s*'([^'\x00]+)"
        rf"|(?:^|[\n\x00\"'{{,])[ \t]*[\w.-]*{name}:[ \t]+({_VALUE})"
        # HTTP headers such as X-Auth-Token and Private-Token.
        rf"|\b[a-z]+-[a-z-]*{name}:\s*({_BARE})"
        ")"
    )
    return _Builtin(pattern, rf"(?i){name}[=:\"'\\\s\x00]")


def _command(names: str, flag: str, value: str) -> str:
    """A flag that means a secret only after one of some commands: between them, no end of that command."""
    return rf"\b(?:{names})(?:\s|\x00)(?:[^|;&\n]*?[\s\x00])??{flag}{value}"


# A user name, not a number as in docker run -u 1000:1000, and without "<": the colon of a marker is none of its own.
_USER = r"[^\s\x00:\"'=/<]*[^\s\x00:\"'=/<0-9][^\s\x00:\"'=/<]*"
_JOINED = rf"(?:[0-9]+(?::[0-9]+)+|({_BARE}))"  # not docker run --name mysql -p3306:3306

_BUILTIN: Final = {
    "password": _named(
        r"passw(?:or)?d|passphrase|passcode|(?:^|[^a-z])pass|"
        r"(?:admin|auth|db|key|login|mail|master|proxy|require|root|smtp|store|trust|user)pass",
    ),
    # PWD and OLDPWD are working directories; MYSQL_PWD=x and a connection string's Pwd=x are not.
    "pwd": _Builtin(
        r"(?i)(?:[_;]pwd|(?:^|[\s\x00\"'])--?pwd)=([^\s\x00/;\"'][^\s\x00;\"']*)",
        r"(?i)[_;-]pwd=",
    ),
    "token": _named(r"token"),
    "secret": _named(r"secret|secret[_.-]?key(?:[_.-]?base)?"),
    "api_key": _named(
        r"(?:access|account|api|auth|encryption|license|master|shared|signing|storage|webhook)[_.-]?key",
    ),
    # Their values are paths more often than not.
    "credential": _Builtin(
        r"(?i)(?:credentials?|private[_.-]?key)=([^\s\x00/~.\"'][^\s\x00\"']*)",
        r"(?i)(?:credentials?|private[_.-]?key)=",
    ),
    "url": _Builtin(
        r"(?i)://(?:([^\s/:@\"'\x00<]+):x-oauth-basic@"
        r"|[^\s/:@\"'\x00<]*:([^\s/\"'\x00]+)@"
        r"|([^\s/:@\"'\x00]{20}[^\s/:@\"'\x00]*)@)",
        r"://[^\s/]*@",
    ),
    "url_signature": _Builtin(
        r"(?i)[?&](?:sig|signature|x-amz-signature|x-goog-signature)=([^&#\s\"'\x00]+)",
        r"(?i)[?&](?:x-(?:amz|goog)-)?sig(?:nature)?=",
    ),
    "authorization": _Builtin(
        r"(?i)\bauthorization\\?[\"']?\s*[:=]\s*\\?[\"']?"
        rf"(?:(?:apikey|basic|bearer|digest|key|negotiate|ntlm|token)[\s+]+)?({_BARE})",
        r"(?i)authorization",
    ),
    "bearer": _Builtin(r"(?i)\bbearer[\s+:=]+([a-z0-9._~+/-]{16}[a-z0-9._~+/=-]*)", r"(?i)bearer[\s+:=]"),
    "basic": _Builtin(r"(?i)\bbasic\s+([a-z0-9+/]{8}[a-z0-9+/]*={1,2})", r"(?i)basic\s"),
    "cookie": _Builtin(r"(?i)\bcookie:\s*([^\"'\x00\r\n]+)", r"(?i)cookie:"),
    # curl -u name:secret, but not docker run -u 1000:1000.
    "user": _Builtin(
        r"(?:^|[\s\x00\"'])(?:-u|-U|--user|--proxy-user)"
        rf"(?:\x00{_USER}:([^\x00/][^\x00]*)|[\s=][\"']?{_USER}:([^\s\x00/]{_BARE}|[^\s\x00/\"']))",
        r"-(?:u|U|user)[\s\x00=][^\s\x00:/]*:",
    ),
    "aws": _Builtin(r"\b((?:AKIA|ASIA)[A-Z0-9]{16})\b", "A[KS]IA"),
    "github": _Builtin(
        r"\b(gh[opsur]_[A-Za-z0-9]{36}[A-Za-z0-9]*|github_pat_[A-Za-z0-9_]{22}[A-Za-z0-9_]*)",
        "gh[opsur]_|github_pat_",
    ),
    "gitlab": _Builtin(
        r"\b(gl(?:pat|ptt|rt|dt|cbt|oas|soat|ffct|agent)-[A-Za-z0-9_-]{20}[A-Za-z0-9_.-]*)", "gl[a-z]+-"
    ),
    "google": _Builtin(r"\b(AIza[0-9A-Za-z_-]{35}|ya29\.[0-9A-Za-z_-]{20}[0-9A-Za-z_.-]*)", r"AIza|ya29\."),
    "jwt": _Builtin(r"\b(eyJ[A-Za-z0-9_-]{8}[A-Za-z0-9_-]*\.[A-Za-z0-9_-]{8}[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*)", "eyJ"),
    "private_key": _Builtin(
        r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----"
        r"((?:[^-\x00]|-[^-\x00]|--[^-\x00]|---[^-\x00]|----[^-\x00]|-----[^E\x00])+)",
        "PRIVATE KEY",
    ),
    "slack": _Builtin(
        r"\b(?:(xox[a-z]-[A-Za-z0-9-]{10}[A-Za-z0-9-]*|xapp-[A-Za-z0-9-]{10}[A-Za-z0-9-]*)"
        r"|hooks\.slack\.com/services/([A-Za-z0-9/]+))",
        r"xox[a-z]-|xapp-|hooks\.slack",
    ),
    "service_key": _Builtin(
        r"\b([rs]k_(?:live|test)_[0-9A-Za-z]{16}[0-9A-Za-z]*|sk-[A-Za-z0-9_-]{20}[A-Za-z0-9_-]*|npm_[A-Za-z0-9]{36}"
        r"|pypi-[A-Za-z0-9_-]{20}[A-Za-z0-9_-]*|dckr_pat_[A-Za-z0-9_-]{20}[A-Za-z0-9_-]*|hf_[A-Za-z0-9]{30}[A-Za-z0-9]*"
        r"|SG\.[\w-]{16}[\w-]*\.[\w-]{16}[\w-]*|do[opr]_v1_[a-f0-9]{64}|hvs\.[\w-]{20}[\w-]*|AGE-SECRET-KEY-1[A-Z0-9]+)",
        r"\b(?:[rs]k_|sk-|npm_|pypi-|dckr_|hf_|SG\.|do[opr]_v1_|hvs\.|AGE-SECRET)",
    ),
    # The last one: what it passes over until the flag is what the others left.
    "command": _Builtin(
        "(?:"
        + "|".join(
            (
                _command(r"mysql[a-z_]*|mariadb[a-z-]*|7z[a-z]?", "-p", _JOINED),
                _command(
                    r"sshpass|mongo[a-z]*|(?:docker|podman|nerdctl|buildah|skopeo|registry|az)[\s\x00]login",
                    "-p",
                    _NEXT,
                ),
                _command(r"zip|unzip|sqlcmd|ipmitool", "-P", _NEXT),
                _command(r"redis-cli", "-a", _NEXT),
                _command(r"ldap[a-z]+", "-w", _NEXT),
                _command(r"ssh-keygen", "-[NP]", _NEXT),
            )
        )
        # Tetragon does not report argv[0]: mysql -uroot -pSECRET, sshpass -p SECRET ssh host.
        + rf"|(?:^|\s)-u\s?[^\s-]\S*\s+(?:-[hPD]\s?\S+\s+)*-p([^\s\x00]*[a-zA-Z]{_BARE})"
        rf"|^-p\s+({_NEXT_WORD})\s+(?:ssh|scp|sftp|rsync)\s"
        rf"|-pass(?:in|out)?[\s\x00]+pass:({_BARE})"
        r"|(?i:\b(?:identified\s+by|password)\s+'([^'\x00]+)')"
        r")",
        r"\b(?:mysql|mariadb|7z|mongo|ldap)[a-z_-]*[\s\x00]"
        r"|\b(?:sshpass|login|zip|unzip|sqlcmd|ipmitool|redis-cli|ssh-keygen)[\s\x00]"
        r"|(?:^|\s)-u\s?[^\s-]\S*\s+-|^-p\s(?s:.*)\s(?:ssh|scp|sftp|rsync)\s"
        r"|pass:|(?i:identified\s+by|password\s+')",
    ),
}

DEFAULT_RULES: Final[Mapping[str, str]] = MappingProxyType({name: rule.pattern for name, rule in _BUILTIN.items()})
"""Rule name to pattern. Every capturing group of these is a secret; a match without one is deliberately left alone."""

_MAX_MARKER_BYTES: Final = 64
_TETRAGON_MARKER: Final = b"*****"  # what the agent's own redaction filters write (pkg/fieldfilters)
_NO_SPAN: Final = (-1, -1)
_MAX_MATCHES: Final = 256
"""Matches of one user's rule in one string. A pattern of a user's may read far beyond each match; after so many
matches the rest of the string is withheld, which keeps the time linear."""


class _Rule:
    """One compiled rule."""

    def __init__(self, name: str, pattern: str, *, builtin: bool) -> None:
        options = re2.Options()
        options.log_errors = False
        if builtin:
            options.encoding = re2.Options.Encoding.LATIN1
        try:
            self._pattern = re2.compile(pattern.encode(), options)
        except re2.error as error:
            detail = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else error
            raise ValueError(f"redaction rule {name!r}: not a pattern that RE2 understands: {detail}") from None
        named = self._pattern.groupindex.get(b"secret")
        self._groups = tuple(range(1, self._pattern.groups + 1)) if builtin else (named or 0,)
        self._max_matches = None if builtin else _MAX_MATCHES
        self._marker = _marker(name)
        self.name = name

    def apply(self, data: bytes, markers: frozenset[bytes]) -> tuple[bytes, int]:
        """``data`` without what the rule finds, and how much it found; a marker stays."""
        kept: list[bytes] = []
        count = done = position = 0
        while position <= len(data) and (match := self._pattern.search(data, position)) is not None:
            start, end = next((span for group in self._groups if (span := match.span(group)) != _NO_SPAN), _NO_SPAN)
            if start == end:
                # Without a secret: go on behind it, but keep its last byte, which may begin the next match.
                position = max(match.end() - 1, position + 1)
                continue
            if marked := _marked(data, start, end, markers):
                position = marked
                continue
            position = end
            count += 1
            kept += data[done:start], self._marker
            done = end
            if count == self._max_matches:
                return b"".join(kept), count
        return b"".join((*kept, data[done:])) if count else data, count


def _marked(data: bytes, start: int, end: int, markers: frozenset[bytes]) -> int:
    """Where the marker ends with which a secret begins that an earlier pass, or Tetragon, replaced; else 0."""
    if data[start:end] == _TETRAGON_MARKER:
        return end
    close = data.find(b">", start, start + _MAX_MARKER_BYTES) + 1
    return close if data[start:close] in markers else 0


def _marker(name: str) -> bytes:
    return b"<redacted:%s>" % name.encode()


class Redactor:
    """Replaces secrets by ``<redacted:RULE>``. Redacting twice is the same as redacting once.

    ``rules`` are all rules, by name (a letter, then letters, digits, underscores, dashes); the user's stand beside the default
    ones as ``{**DEFAULT_RULES, **rules}``. A user's pattern is RE2's; where it has a group named ``secret`` only that
    group is replaced, else the whole match. A bad rule raises ValueError that names it.
    """

    def __init__(self, rules: Mapping[str, str] | None = None) -> None:
        """Compile the rules; None are the default ones."""
        rules = DEFAULT_RULES if rules is None else rules
        for name, pattern in rules.items():
            if not re2.fullmatch("[a-zA-Z][a-zA-Z0-9_-]{0,39}", name):
                raise ValueError(
                    f"redaction rule {name!r}: a name is a letter, then up to 39 of letters, digits, _ and -"
                )
            if not pattern:
                raise ValueError(f"redaction rule {name!r}: the pattern is empty and would match everywhere")
        builtin = {name: rule for name, rule in _BUILTIN.items() if rules.get(name) == rule.pattern}
        self._builtin = tuple(_Rule(name, rule.pattern, builtin=True) for name, rule in builtin.items())
        self._own = tuple(_Rule(name, text, builtin=False) for name, text in rules.items() if name not in builtin)
        self._match = _prefilter([rule.trigger for rule in builtin.values()]).Match
        names = [rule.name for rule in (*self._builtin, *self._own)]
        self._markers = frozenset(map(_marker, names))
        self.matches: Counter[str] = Counter()
        """What was redacted since the last :meth:`take_counts`, by rule."""

    def take_counts(self) -> dict[str, int]:
        """Return :attr:`matches` and begin anew."""
        counts = dict(self.matches)
        self.matches.clear()
        return counts

    def text(self, value: str) -> str:
        """Redact one string of any kind."""
        data = value.encode()
        hits = self._match(data)
        if hits and len(hits) == 1 and not self._own:
            return value
        redacted = self._apply_own(self._apply_builtin(data))
        return value if redacted is data else redacted.decode()

    def flat(self, arguments: str, command: str = "") -> str:
        """Redact Tetragon's argument string: argv[1:] in one string, not losslessly splittable.

        ``command`` is the path of the executable, where known: some flags mean a secret only to some commands
        (``mysql -pSECRET``).
        """
        prefix = command.rpartition("/")[2] + " "
        if prefix == " " or not arguments:
            return self.text(arguments)
        data = (prefix + arguments).encode()
        redacted = self._apply_builtin(data)
        if redacted is data:
            return self._own_text(arguments)
        text = redacted.decode()
        # A name that is itself redacted cannot be cut off again; it is no known command either.
        return self._own_text(text[len(prefix) :]) if text.startswith(prefix) else self.text(arguments)

    def argv(self, args: Sequence[str]) -> list[str]:
        """Redact an argument list: a flag and its value may be two items. The number of items stays."""
        joined = "\0".join(("", *args, ""))
        if joined.count("\0") != len(args) + 1:
            return [self.text(item) for item in args]
        data = joined.encode()
        redacted = self._apply_builtin(data)
        items = list(args) if redacted is data else redacted.decode().split("\0")[1:-1]
        return [self._own_text(item) for item in items] if self._own else items

    def environment(self, key: str, value: str) -> str:
        """Redact the value of one environment variable, whose name may say that it is a secret."""
        prefix = f"\0{key}="
        data = f"{prefix}{value}\0".encode()
        redacted = self._apply_builtin(data)
        if redacted is data:
            return self._own_text(value)
        text = redacted.decode()
        return self._own_text(text[len(prefix) : -1]) if text.startswith(prefix) else self.text(value)

    def data(self, value: bytes) -> bytes:
        """Redact bytes that may be text, in whole or in part; other bytes stay as they are."""
        redacted = self._apply_builtin(value)
        if not self._own:
            return redacted
        try:
            redacted.decode()
        except UnicodeDecodeError:
            # RE2 needs valid UTF-8 for a user's pattern: each byte as the character of its number.
            return self._own_text(redacted.decode("latin-1")).encode("latin-1")
        return self._apply_own(redacted)

    def _apply_builtin(self, data: bytes) -> bytes:
        hits = self._match(data)
        # The last pattern of the prefilter is found in everything. Not found: the prefilter ran out of memory.
        if hits is None:
            return self._apply(self._builtin, data)
        if len(hits) == 1:
            return data
        return self._apply([self._builtin[index] for index in sorted(hits)[:-1]], data)

    def _apply_own(self, data: bytes) -> bytes:
        return self._apply(self._own, data) if self._own else data

    def _own_text(self, value: str) -> str:
        return self._apply_own(value.encode()).decode() if self._own else value

    def _apply(self, rules: Sequence[_Rule], data: bytes) -> bytes:
        for rule in rules:
            data, count = rule.apply(data, self._markers)
            if count:
                self.matches[rule.name] += count
        return data


def _prefilter(triggers: Sequence[str]) -> re2.Set:
    """What finds the indices of the triggers in some bytes, and that of one more, which is in everything."""
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.log_errors = False
    prefilter = re2.Set.SearchSet(options)
    for trigger in (*triggers, r"\z"):
        prefilter.Add(trigger.encode())
    prefilter.Compile()
    return prefilter
