"""Tags, and the application names that carry them through a pooler.

Enters: an application's own name and the address that the pooler will see. Leaves: a random tag, and
a name that begins with it and passes every PgBouncer whole. No I/O; the randomness is the system's.

The limits (measured on PgBouncer 1.12 to 1.25): PostgreSQL cuts names to 63 bytes; PgBouncer before
1.20 skips a replay whose whole text is longer than 127 bytes; `application_name_add_host` puts
` - address:port` behind the name; names that differ in case only count as the same.
"""

import ipaddress
import re
import secrets
from typing import Final

TAG_LENGTH: Final = 13
TAG_ALPHABET: Final = "abcdefghijkmnpqrstuvwxyz23456789"
"""Without the letters and digits that are taken for each other; 32 of them, so 65 bits a tag."""
NAME_BYTES_MAX: Final = 63
"""PostgreSQL cuts an application_name to this many bytes (NAMEDATALEN - 1)."""
_UNIX_SUFFIX = 40
"""` - unix(pid@host):port`; the host's name isn't known here, and what is cut is its end."""
_UNSAFE = re.compile(r"[^ !#-&(-\[\]-~]")
_TAGGED = re.compile(rf"[{TAG_ALPHABET}]{{{TAG_LENGTH}}}(?: |\Z)")
_ENDPOINT = re.compile(r"(:)(?=\d{1,5}\Z)")


def new_tag() -> str:
    """A tag that nobody has."""
    return "".join(secrets.choice(TAG_ALPHABET) for _ in range(TAG_LENGTH))


def begins_with_tag(name: str) -> bool:
    """Whether a name begins with something of a tag's form, whoever made it."""
    return _TAGGED.match(name) is not None


def suffix_room(address: str) -> int:
    """Bytes that `application_name_add_host` needs for a client of that address."""
    try:
        whole = ipaddress.ip_address(address)
    except ValueError:
        return _UNIX_SUFFIX
    shown = f"[{whole}]" if whole.version == 6 else str(whole)
    return len(f" - {shown}:65535")


def printable(name: str) -> str:
    """The name in characters that need no quoting and that PostgreSQL shows as they are.

    What looks like the endpoint that a pooler adds loses its colon: the pooler alone says that.
    """
    return _ENDPOINT.sub("?", _UNSAFE.sub("?", name)).strip()


def tagged_name(tag: str, own: str, room: int) -> str:
    """The application_name to forward: the tag, and as much of the application's own as fits.

    Args:
        tag: as `new_tag` made it.
        own: what the application calls itself; may be empty.
        room: bytes to leave for what the pooler puts behind the name.
    """
    kept = printable(own)[: max(0, NAME_BYTES_MAX - room - len(tag) - 1)].rstrip()
    return f"{tag} {kept}" if kept else tag
