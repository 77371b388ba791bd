"""Which names of columns, settings and JSON members say that a value is personal.

In: one name, as the server or a document spells it, alone or as `schema.table.column`. Out: a kind
of personal data, or nothing. Reads whole words, the last of them: `contact_email` holds an address,
`email_template`, `domain_name` and `mailing_status` don't. Sees no values.
"""

import re
from functools import lru_cache

RULES = {
    "email": "email",
    "iban": "keep-last-4",
    "card": "keep-last-4",
    "phone": "keep-last-4",
    "birth-date": "date-year",
    "name": "redact",
    "address": "redact",
    "official-number": "redact",
}
"""Kind -> the masking rule that suits it."""


def _listed(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Without blanks, hyphens and underscores: e_mail and e-mail are `email`.
_CATALOGUE = {
    "email": "email mail emailaddress emailaddr mailaddress courriel correo",
    "iban": "iban bankaccount kontonummer bankverbindung",
    "card": "cardnumber cardno creditcard creditcardnumber ccnumber ccnum kreditkarte debitcard",
    "phone": "phone telephone mobile mobilephone cellphone phonenumber msisdn tel telefon handy"
    " telefono telefone mobil fax rufnummer telefonnummer",
    "birth-date": "birthdate birthday dateofbirth dob bornon geburtsdatum geburtstag datenaissance"
    " birth fechanacimiento",
    "name": "firstname lastname fullname middlename givenname familyname surname maidenname forename"
    " legalname vorname nachname familienname geburtsname vollername prenom apellido apellidos"
    " fname lname",
    "address": "address streetaddress homeaddress postaladdress mailingaddress billingaddress"
    " shippingaddress deliveryaddress street streetname strasse straße adresse anschrift direccion"
    " wohnort wohnanschrift hausnummer housenumber",
    "official-number": "ssn socialsecuritynumber socialsecurity sozialversicherungsnummer svnummer"
    " steuerid steuernummer taxid taxnumber nationalid nationalidnumber passport passportno"
    " passportnumber passnummer reisepass personalausweis ausweisnummer driverlicense driverslicense"
    " drivinglicence driverlicensenumber nhsnumber versichertennummer",
}
_KINDS = {name: kind for kind, names in _CATALOGUE.items() for name in names.split()}
_LONGEST = 4  # words

# Behind the word that counts, these leave the value what it is.
_QUALIFIERS = _listed(
    "no nr num number nummer value text raw norm normalized normalised lower lc clean plain primary"
    " secondary main private work office home business alt alternate alternative old new previous"
    " current"
)
# Before it, these make something else of it.
_FLAGS = _listed(
    "is has had can should allow allows use uses enable enabled send sends no not num count total max"
    " min accepts wants verify"
)
_OTHER_ADDRESSES = _listed(
    "ip ipv4 ipv6 mac memory mem server host listen bind contract wallet web site url network net"
    " base device remote client local src dst source target btc eth bitcoin blockchain bus i2c http"
    " smtp node peer"
)
_PEOPLE = _listed(
    "user users customer customers person persons people patient patients employee employees member"
    " members contact contacts student students guest guests subscriber subscribers applicant"
    " applicants kunde kunden mitarbeiter personen patienten mitglied mitglieder"
)
_NAMES_OF_PEOPLE = frozenset({"name", "displayname"})
_SYSTEM = ("pg_catalog.", "information_schema.", "pg_toast.")

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_WORD = re.compile(r"[^\W\d_]+|\d+")


def is_system(column: str) -> bool:
    """A column (`schema.table.column`) of the server's own catalog."""
    return column.startswith(_SYSTEM)


@lru_cache(maxsize=8192)
def kind_of(name: str) -> str | None:
    """The kind of personal data that a name promises; None for what promises none."""
    if is_system(name):
        return None
    relation, _, column = name.rpartition(".")
    words = _words(column)
    while words:
        for count in range(min(_LONGEST, len(words)), 0, -1):
            kind = _KINDS.get("".join(words[-count:]))
            if kind and not _is_other(kind, words[:-count]):
                return kind
        if "".join(words) in _NAMES_OF_PEOPLE and _is_of_people(relation):
            return "name"
        if not (words[-1] in _QUALIFIERS or words[-1].isdigit()):
            return None
        words = words[:-1]
    return None


def _is_other(kind: str, before: list[str]) -> bool:
    if not before:
        return False
    return before[0] in _FLAGS or (kind == "address" and before[-1] in _OTHER_ADDRESSES)


def _is_of_people(relation: str) -> bool:
    words = _words(relation.rpartition(".")[2])
    return bool(words) and words[-1] in _PEOPLE


def _words(name: str) -> list[str]:
    return _WORD.findall(_HUMP.sub("_", name).lower())
