"""What a statement's text says about who wrote it: PgBouncer itself, or a client renaming itself.

Enters: one distinct statement text. Leaves: whether it has the exact form in which PgBouncer
replays a client's settings (src/varcache.c, varcache_apply()), the application_name in it, and
whether it changes the application_name in another way. Reads no rows and keeps no state.
"""

import re
from dataclasses import dataclass
from enum import Enum

_QUOTED = r"(?:'(?:[^']|'')*'|E'(?:[^'\\]|''|\\.)*')"
_TRACKED = r"[A-Za-z_]+"
_REPLAY = re.compile(rf"(?:SET {_TRACKED}={_QUOTED};)+", re.DOTALL)
_REPLAY_17 = re.compile(rf"SET {_TRACKED}={_QUOTED}", re.DOTALL)  # pgAudit 17 cuts the ';'
_NAME = re.compile(rf"SET application_name=({_QUOTED})(?:;|\Z)", re.DOTALL)
_TOUCHES = re.compile(
    r"application_name|\bRESET\s+ALL\b|\bDISCARD\s+ALL\b|\bRESET\s+SESSION\b", re.IGNORECASE
)
_SET_CONFIG = re.compile(r"\bset_config\b", re.IGNORECASE)
_EMPTIES = re.compile(
    r"\b(?:RESET\s+ALL|DISCARD\s+ALL|RESET\s+\"?application_name\"?)\b"
    r"|\bapplication_name\"?\s*(?:=|\bTO\b)\s*(?:''|DEFAULT\b)",
    re.IGNORECASE,
)
_SUFFIX = re.compile(
    r" - (\[[0-9a-fA-F:.]+\]|\d+\.\d+\.\d+\.\d+|unix(?:\(\d+@[^)]*\))?):(\d{1,5})\Z"
)
_MENTIONED = re.compile(
    r" - (?:\[[0-9a-fA-F:.]+\]|\d+\.\d+\.\d+\.\d+|unix(?:\(\d+@[^)]*\))?):\d{1,5}(?=')"
)
NAME_BYTES_MAX = 63
"""PostgreSQL cuts an application_name to this many bytes (NAMEDATALEN - 1)."""


class Writing(Enum):
    """Who wrote a SET, RESET or DISCARD, as far as its text can say."""

    REPLAY = "replay"
    REPLAY_WITHOUT_SEMICOLON = "replay-17"
    RENAMES = "renames"
    EMPTIES = "empties"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class SettingText:
    """One distinct text, read once."""

    writing: Writing
    name: str | None = None
    """The application_name that a replay sets, in full length; None if it sets another setting."""
    mentions: tuple[tuple[str, int], ...] = ()
    """Endpoints in the text of another change of the name."""


def read_setting(text: str | None) -> SettingText:
    """Classify the text of a SET, RESET or DISCARD, or one that calls set_config."""
    if text is None:
        return SettingText(Writing.OTHER)
    if _REPLAY.fullmatch(text):
        return SettingText(Writing.REPLAY, _name(text))
    if _REPLAY_17.fullmatch(text):
        return SettingText(Writing.REPLAY_WITHOUT_SEMICOLON, _name(text))
    if not _TOUCHES.search(text):
        return SettingText(Writing.OTHER)
    mentions = tuple(
        one for found in _MENTIONED.findall(text) if (one := suffix_endpoint(found)) is not None
    )
    # What set_config sets may come from anywhere, and may be empty.
    empties = _SET_CONFIG.search(text) or _EMPTIES.search(text)
    return SettingText(Writing.EMPTIES if empties else Writing.RENAMES, None, mentions)


def _name(text: str) -> str | None:
    found = _NAME.findall(text)
    if not found:
        return None
    quoted = found[-1]
    if quoted.startswith("E"):
        return re.sub(r"\\(.)", r"\1", quoted[2:-1].replace("''", "'"), flags=re.DOTALL)
    return str(quoted[1:-1].replace("''", "'"))


def suffix_endpoint(name: str) -> tuple[str, int] | None:
    """The endpoint that `application_name_add_host` put at a name's end: (address, port).

    A unix client is (`unix(<pid>)` as in PgBouncer's own log lines, the pooler's port).
    """
    found = _SUFFIX.search(name)
    if found is None:
        return None
    address, port = found.groups()
    if address.startswith("["):
        address = address[1:-1].lower()
    elif "@" in address:
        address = address.split("@", 1)[0] + ")"
    return (address, int(port)) if int(port) <= 65535 else None


def cut_forms(name: str) -> tuple[str, ...]:
    """What the server may make of a name that it can't keep whole; nothing if it surely can.

    Up to PostgreSQL 15 it cuts to 63 bytes and shows every byte that isn't ASCII as `?`; from 16 on
    it shows such bytes as `\\xNN`, and cuts that again when the pooler plays it back.
    """
    data = name.encode("utf-8", "surrogateescape")
    escaped = "".join(chr(byte) if byte < 128 else f"\\x{byte:02x}" for byte in data)
    # A character of up to four bytes may have stood across the cut.
    if len(escaped) <= NAME_BYTES_MAX - 4:
        return ()
    cut = (
        data[:NAME_BYTES_MAX].decode("utf-8", "ignore").encode()
        if len(data) > NAME_BYTES_MAX
        else data
    )
    shown = "".join(chr(byte) if byte < 128 else "?" for byte in cut)
    return tuple({shown, escaped[:NAME_BYTES_MAX]})
