"""Text that somebody else wrote -> the same, so that no terminal obeys it.

Enters: names and messages from files and from the network. Leaves: text in which what isn't printable (control
characters, what turns the direction of writing, half characters) stands as Python would write it: `\\x1b`.

Tables have `render.text_of`.
"""

import json


def shown(text: str, keeps: str = "") -> str:
    """For people; `keeps` are characters that stay as they are."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keeps else _escaped(c) for c in text)


def shown_json(text: str) -> str:
    """A JSON document that says the same."""
    return "".join(c if c.isprintable() or c == "\n" else _in_json(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def _in_json(character: str) -> str:
    # DEL is the one that JSON's writer leaves as it is.
    return "\\u007f" if character == "\x7f" else json.dumps(character)[1:-1]
