r"""How personal values are written in the record: by declared rule, or because they look personal.

In: one text value. Out: what stands in its place. The rules:

    email        first character, the rest hidden, last label: j***@***.com
    keep-last-4  ****1234, and **** alone when the value is shorter than eight characters
    hash         h: and 16 hex digits of a keyed hash: equal values look equal
    redact       ***
    date-year    1984-**-**
    keep:REGEX   what the pattern matches, *** for what stands before and behind it
    id           (identifier columns without a rule) id: and 12 hex digits of the subject token

`scrub` finds e-mail addresses, IBANs and card numbers (by their check digits), secrets, and members
of JSON that are personal by their names in free text; and international telephone numbers where the
text is a comment, or nothing but one. Recognises no names, addresses or dates of birth.
"""

import re
from collections.abc import Callable

from scalple.correlate import credentials, keeping, personalnames, templates

REDACTED = "***"
Masker = Callable[[str], str]

# What may hold something that `scrub` recognises, for RE2: cheap to ask of whole columns.
SUSPICIOUS = (
    r"@|%40|[0-9](?:[ -]?[0-9]){12}|[A-Za-z]{2}[0-9]{2} ?[A-Za-z0-9]{4}|(?:^|')\+[0-9]|\"\s*:|"
    + credentials.SUSPICIOUS
)
SUSPICIOUS_COMMENT = SUSPICIOUS + r"|\+[0-9]|%2B[0-9]"

_EMAIL = re.compile(
    r"(?<![\w.%+-])(?:[\w.+-]|%(?!40))[\w.+-]{0,63}(?:@|%40)(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}"
)
_IBAN = re.compile(
    r"(?<![0-9A-Za-z])[A-Za-z]{2}\d{2}(?: ?[0-9A-Za-z]{4}){2,7}(?: ?[0-9A-Za-z]{1,3})?"
)
_CARD = re.compile(r"(?<![\w.])\d(?:[ -]?\d){12,18}(?![\w.])")
_CARD_KIND = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|(?:5[1-5]|2[2-7]|35|62|65)\d{14}|6011\d{12}|3[47]\d{13}|3[068]\d{12}"
)
_PHONE = re.compile(r"(?<![\w+])(?:\+|%2B)\d{1,3}[\d ().-]{5,16}\d(?!\w)")
_STATEMENT = re.compile(
    r"\s*+(?:--|/\*|\(|(?:select|with|insert|update|delete|merge|values|table|copy|call|do|execute"
    r"|explain|declare|prepare|create|alter|drop|set|comment|grant|begin|truncate|notify)\b)",
    re.IGNORECASE,
)
_ONLY_PHONE = re.compile(r"\s{0,9}\+[0-9](?:[ ().-]{0,2}[0-9]){7,14}\s{0,9}")
# A member of a JSON object whose value is a text or a number.
_MEMBER = re.compile(
    r"""("([A-Za-z][\w-]{1,40})"\s{0,5}:\s{0,5})(?P<quote>")?((?(quote)(?>[^"\\]|\\.)*+|-?[0-9][0-9.]*+))(?(quote)"?)""",
    re.DOTALL,
)
_YEAR = re.compile(r"(\d{4})-\d")


def mask_email(value: str) -> str:
    """`j***@***.com`; without an at sign nothing is kept."""
    local, at, domain = value.replace("%40", "@").partition("@")
    if not at or not local:
        return REDACTED
    _, dot, last = domain.rpartition(".")
    return f"{local[0]}***@***{dot}{last if dot else ''}"


def keep_last_4(value: str) -> str:
    packed = value.replace(" ", "")
    return "****" + (packed[-4:] if len(packed) >= 8 else "")


def redact(value: str) -> str:
    return REDACTED


def date_year(value: str) -> str:
    match = _YEAR.match(value)
    return f"{match[1]}-**-**" if match else REDACTED


def hasher(digest: Callable[[bytes, str], bytes]) -> Masker:
    return lambda value: "h:" + digest(b"mask", value)[:8].hex()


def masker_of(rule: str) -> Masker | None:
    """The masker of a rule that needs no key; None for the others."""
    if rule.startswith(keeping.PREFIX):
        pattern = rule.removeprefix(keeping.PREFIX)
        return lambda value: keeping.keep(pattern, [value])[0]
    return PLAIN_RULES.get(rule)


def statement(text: str) -> str:
    """A text that may be a statement, without any of its literals; another one scrubbed."""
    return hide_literals(text) if _STATEMENT.match(text) else scrub(text)


def hide_literals(text: str) -> str:
    """A statement's text without its literals and comments."""
    segments, skeleton = templates.split(text)
    marks = templates.MARKERS.findall(skeleton)
    return "".join(
        _hide_part(segment, marks[i // 2]) if i % 2 else segment
        for i, segment in enumerate(segments)
    )


def _hide_part(segment: str, mark: str) -> str:
    if mark == templates.NUMBER and len(segment) < 4:
        return segment
    return f"/* {REDACTED} */" if mark == templates.COMMENT else quote(REDACTED)


PLAIN_RULES: dict[str, Masker] = {
    "email": mask_email,
    "keep-last-4": keep_last_4,
    "redact": redact,
    "date-year": date_year,
    "statement": statement,
}


def scrub(text: str, *, is_comment: bool = False) -> str:
    """The text with what is recognised as personal or secret masked in place."""
    if _ONLY_PHONE.fullmatch(text):
        return keep_last_4(text.strip())
    text = _MEMBER.sub(_hide_member, text)
    text = credentials.hide(text)
    text = _EMAIL.sub(lambda m: mask_email(m[0]), text)
    text = _IBAN.sub(_hide_iban, text)
    text = _CARD.sub(lambda m: keep_last_4(m[0]) if is_card(m[0]) else m[0], text)
    return _PHONE.sub(lambda m: keep_last_4(m[0]), text) if is_comment else text


def _hide_member(match: re.Match[str]) -> str:
    kind = personalnames.kind_of(match[2])
    if kind is None or not match[4]:
        return match[0]
    masked = PLAIN_RULES[personalnames.RULES[kind]](match[4])
    return f'{match[1]}"{masked}"'


def _hide_iban(match: re.Match[str]) -> str:
    """What looks like an IBAN may run into the next words: shorter readings are tried."""
    text = match[0]
    while len(text) >= 15:
        if is_iban(text):
            return keep_last_4(text) + match[0][len(text) :]
        text = text[: text.rfind(" ")] if " " in text else ""
    return match[0]


def is_iban(text: str) -> bool:
    packed = text.replace(" ", "").upper()
    if not (15 <= len(packed) <= 34 and packed.isascii() and packed.isalnum()):
        return False
    if not (packed[:2].isalpha() and packed[2:4].isdigit()):
        return False
    digits = "".join(str(int(c, 36)) for c in packed[4:] + packed[:4])
    return int(digits) % 97 == 1


def is_email(text: str) -> bool:
    return _EMAIL.fullmatch(text) is not None


def is_phone(text: str) -> bool:
    """In its international form; others can't be told from other numbers."""
    return _ONLY_PHONE.fullmatch(text) is not None


def holds_personal(text: str) -> bool:
    """Somewhere in the text is an e-mail address, an IBAN or a card number."""
    return (
        _EMAIL.search(text) is not None
        or any(_hide_iban(m) != m[0] for m in _IBAN.finditer(text))
        or any(is_card(m[0]) for m in _CARD.finditer(text))
    )


def is_card(text: str) -> bool:
    """Of a known issuer's form, and the check digit is right."""
    digits = re.sub(r"[ -]", "", text)
    if not _CARD_KIND.fullmatch(digits):
        return False
    doubled = [sum(divmod(2 * int(d), 10)) for d in digits[-2::-2]]
    return (sum(doubled) + sum(int(d) for d in digits[-1::-2])) % 10 == 0


def quote(value: str) -> str:
    """A masked value as it stands in a statement: always a string."""
    return "'" + value.replace("'", "''") + "'"


def unquote(literal: str) -> str:
    """The value of a literal segment; a number is its own value."""
    if literal.startswith("$"):
        tag = literal[: literal.index("$", 1) + 1]
        return literal[len(tag) :].removesuffix(tag)
    at = literal.find("'")
    if at < 0:
        return literal
    body = literal[at + 1 :].removesuffix("'").replace("''", "'")
    if literal[0] in "eE":
        return _ESCAPE.sub(_unescape, body)
    if literal[0] in "uU":
        return _UNICODE.sub(lambda m: _character(m[1] or m[2]), body)
    return body


_ESCAPE = re.compile(
    r"\\(?:x([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|([0-7]{1,3})|(.))", re.DOTALL
)
_UNICODE = re.compile(r"\\(?:([0-9A-Fa-f]{4})|\+([0-9A-Fa-f]{6}))")
_LETTERS = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def _unescape(match: re.Match[str]) -> str:
    short, four, eight, octal, letter = match.groups()
    if code := short or four or eight:
        return _character(code)
    if octal:
        return chr(int(octal, 8) & 0xFF)
    return _LETTERS.get(letter, letter)


def _character(code: str) -> str:
    number = int(code, 16)
    is_character = number < 0x110000 and not 0xD800 <= number < 0xE000
    return chr(number) if is_character else "\N{REPLACEMENT CHARACTER}"


def array_elements(text: str) -> list[str]:
    """Elements of PostgreSQL's array text, however nested; NULLs aren't elements."""
    if not (text.startswith("{") and text.endswith("}")):
        return [text]
    return [
        re.sub(r"\\(.)", r"\1", m[1], flags=re.DOTALL) if m[1] is not None else m[2].strip()
        for m in _ELEMENT.finditer(text)
        if m[1] is not None or (m[2].strip() and m[2].strip().upper() != "NULL")
    ]


def mask_array(text: str, mask: Masker) -> str:
    """An array's text with each element masked."""
    if not (text.startswith("{") and text.endswith("}")):
        return mask(text)
    return "{" + ",".join(mask(element) for element in array_elements(text)) + "}"


_ELEMENT = re.compile(r'"((?>[^"\\]|\\.)*+)"|([^{},"]++)', re.DOTALL)


def scrub_literal(segment: str) -> str:
    """A literal as it stands in a statement, scrubbed; how it is quoted stays where it can."""
    if segment.startswith("$"):
        tag = segment[: segment.index("$", 1) + 1]
        body = segment[len(tag) :]
        closing = tag if body.endswith(tag) else ""
        return tag + scrub(body.removesuffix(tag)) + closing
    value = unquote(segment)
    masked = scrub(value)
    return segment if masked == value else quote(masked)
