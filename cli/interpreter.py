"""Whether this Python reads regular expressions right.

Up to 3.11.4 what is possessive matches too much (CPython gh-106052): statements are cut at the wrong places,
and values stay that should be masked. See docs/adr/0022.
"""

import re
import sys

from scalple.ingest.errors import ConfigError

_PATTERN, _TEXT = "(?:ab?c)?+", "abd"
"""Matches nothing of it."""


def check() -> None:
    """Refuse to work where the result would be wrong.

    Raises:
        ConfigError: this Python has the fault.
    """
    found = re.match(_PATTERN, _TEXT)
    if found is None or found.end():
        raise ConfigError(
            f"this Python ({sys.version.split()[0]}) reads regular expressions wrongly: values that are "
            "to be masked would stay",
            place=sys.executable,
            hint="use Python 3.11.5 or later; `uv tool install --python 3.12 .` brings its own",
        )
