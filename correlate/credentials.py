r"""Passwords, keys and tokens: recognised in free text, and by the words around a literal.

In: a text, or a skeleton of `templates`. Out: the text with its secrets as `***`, or the numbers of
the literals that are secrets whatever they look like. Knows nothing of tables or declarations.
"""

import re

from scalple.correlate import templates

HIDDEN = "***"

# What may hold a secret, for RE2: cheap to ask of whole columns.
SUSPICIOUS = (
    r"://| -[pu]| --user|eyJ|AKIA|ASIA|-----BEGIN|gh[a-z]_|github_pat|xox[a-z]-|[rs]k_|glpat-|AIza"
    r"|(?i:passw|\bpass\b|pwd|secret|token|api_?key|access_?key|private_?key|signature|bearer"
    r"|authorization)"
)

_NAMES = (
    r"passw(?:or)?d|pwd|secret|token|api_?key|access_?key|private_?key|signature|\bpass(?=\W|\Z)"
)
_NAMED = re.compile(
    rf"((?:{_NAMES})[\w-]{{0,20}}[\"']{{0,2}}\s{{0,3}}(?:(?:=>?|:|%3D)\s{{0,3}}|\s(?=[EN]?'|\$\$)))"
    r"(''[^']+''|[EN]'[^']*'?|\$\$.*?\$\$|\"[^\"]*\"?|'[^']*'?|[^\s'\",;&}]+)",
    re.IGNORECASE,
)
_AUTHORIZATION = re.compile(
    r"(\bauthorization[\"']{0,2}\s{0,3}[:=,]\s{0,3}[\"']?)(?:[a-z]{4,12}\s+)?[^\s\"',;]+",
    re.IGNORECASE,
)
_BEARER = re.compile(
    r"(\b(?:bearer|basic)\s{1,3})(?=[\w.~+/-]{0,400}[\d=])[\w.~+/-]{8,}=*", re.IGNORECASE
)
# Of commands (COPY … PROGRAM): `mysql -pSECRET`, `sshpass -p SECRET`, `curl -u NAME:SECRET`.
_OPTION = re.compile(
    r"(\b(?:mysql|mariadb|sshpass)\w{0,8}\b[^|;]{0,200}? -p ?|(?: -u ?| --user[ =])[^\s:'\"]{1,64}:"
    r"|--passw(?:or)?d )[^\s'\"]+"
)
_URL = re.compile(r"(://[^\s:/@\"']{0,64}:)[^\s/\"']{1,256}@")
_ELEMENT = re.compile(rf"(<[\w:.-]{{0,20}}(?:{_NAMES})[\w:.-]{{0,20}}>)[^<]+", re.IGNORECASE)
_JWT = re.compile(r"(?<![\w-])eyJ[\w-]{8,}+\.[\w-]{4,}+(?:\.[\w-]*+)?")
_ISSUED = re.compile(
    r"(?<![A-Za-z0-9])(?:(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Z0-9])|gh[pousr]_[A-Za-z0-9]{20,}+"
    r"|github_pat_\w{20,}+|xox[abeoprs]-[\w-]{10,}+|[rs]k_(?:live|test)_\w{10,}+"
    r"|glpat-[\w-]{15,}+|AIza[\w-]{30,}+)"
)
_PRIVATE_KEY = re.compile(
    r"(-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----).*?(-----END [A-Z ]{0,40}-----|(?=\*/)|\Z)",
    re.DOTALL,
)


def hide(text: str) -> str:
    """The text without what is recognised as a password, key or token."""
    text = _PRIVATE_KEY.sub(rf"\1{HIDDEN}\2", text)
    text = _AUTHORIZATION.sub(rf"\1{HIDDEN}", text)
    text = _BEARER.sub(rf"\1{HIDDEN}", text)
    text = _JWT.sub(HIDDEN, text)
    text = _ISSUED.sub(HIDDEN, text)
    text = _OPTION.sub(rf"\1{HIDDEN}", text)
    text = _ELEMENT.sub(rf"\1{HIDDEN}", text)
    text = _NAMED.sub(_hide_named, text)
    return _URL.sub(rf"\1{HIDDEN}@", text)


def _hide_named(match: re.Match[str]) -> str:
    quote = match[2][0] if match[2][0] in "'\"" and match[2][0] == match[2][-1] else ""
    return f"{match[1]}{quote}{HIDDEN}{quote}"


_SECRET_NAME = re.compile(
    r"passw(?:or)?d|passphrase|secret|token|api_?key|access_?key|private_?key|credential"
    r"|(?:^|_)(?:pwd|pass|passcode|pin|pincode|cvv|cvc|otp|totp)(?:$|_)",
    re.IGNORECASE,
)


def is_secret_name(name: str) -> bool:
    """A name that says its value is a secret, whatever the declarations say."""
    return _SECRET_NAME.search(name) is not None


# A literal after these is a secret whether the statement can be parsed or not.
_BEFORE = re.compile(
    r"""(?: (?:passw(?:or)?d|passphrase|pwd|secret|token|api_?key|access_?key|private_?key|credential)
            (?!_encryption)[\w."]{0,64}+ \s*+(?:=>?|:=|\bto\b|\()? ) \s*+[\x01\x02]""",
    re.IGNORECASE | re.VERBOSE,
)


def slots(skeleton: str) -> list[int]:
    """Numbers of the literals that stand where a secret stands."""
    ends = {match.end() - 1 for match in _BEFORE.finditer(skeleton)}
    if not ends:
        return []
    return [i for i, m in enumerate(templates.MARKERS.finditer(skeleton)) if m.start() in ends]
