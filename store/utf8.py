"""Whether what a user gave is text at all. A text enters; the call returns or raises."""

from scalple.ingest.errors import InputError


def require_utf8(text: str, place: str) -> None:
    """DuckDB and Arrow take no other text; arguments of a command may be any bytes.

    Raises:
        InputError: the text was made of bytes that aren't UTF-8.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError("the text isn't valid UTF-8", place=place) from None
