"""Columns that hold personal data without being declared: by name, by value, masked and proposed."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalple.cli.config import load
from scalple.correlate.enrichment import Enricher
from scalple.correlate.personalnames import RULES as RULE_OF
from scalple.correlate.personalnames import kind_of
from scalple.correlate.proposals import as_toml, propose
from scalple.correlate.rules import Rules
from scalple.correlate.undeclared import Sightings, kind_of_value
from tests.commandline import scalple
from tests.leaks import Case
from tests.test_enrichment import KEY, batch
from tests.test_nothing_leaks import audited, row_of

PERSONAL = [
    "email",
    "email",
    "e_mail",
    "email",
    "eMail",
    "email",
    "E-Mail",
    "email",
    "mail",
    "email",
    "email_address",
    "email",
    "contact_email",
    "email",
    "user_mail",
    "email",
    "email2",
    "email",
    "email_new",
    "email",
    "work_email",
    "email",
    "emailaddress",
    "email",
    "primary_email_value",
    "email",
    "iban",
    "iban",
    "customer_iban",
    "iban",
    "iban_no",
    "iban",
    "bank_account",
    "iban",
    "kontonummer",
    "iban",
    "card_number",
    "card",
    "cardnumber",
    "card",
    "credit_card",
    "card",
    "credit_card_no",
    "card",
    "kreditkarte",
    "card",
    "cc_number",
    "card",
    "phone",
    "phone",
    "phone_number",
    "phone",
    "mobile",
    "phone",
    "mobile_phone",
    "phone",
    "telefon",
    "phone",
    "telefonnummer",
    "phone",
    "home_phone",
    "phone",
    "phone_home",
    "phone",
    "msisdn",
    "phone",
    "tel",
    "phone",
    "fax",
    "phone",
    "phoneNumber",
    "phone",
    "birth_date",
    "birth-date",
    "date_of_birth",
    "birth-date",
    "dob",
    "birth-date",
    "geburtsdatum",
    "birth-date",
    "birthday",
    "birth-date",
    "customer_birth_date",
    "birth-date",
    "dateOfBirth",
    "birth-date",
    "first_name",
    "name",
    "last_name",
    "name",
    "vorname",
    "name",
    "nachname",
    "name",
    "full_name",
    "name",
    "surname",
    "name",
    "firstName",
    "name",
    "maiden_name",
    "name",
    "guest_last_name",
    "name",
    "given_name",
    "name",
    "lastname",
    "name",
    "address",
    "address",
    "street",
    "address",
    "strasse",
    "address",
    "straße",
    "address",
    "home_address",
    "address",
    "street_name",
    "address",
    "billing_address",
    "address",
    "address_1",
    "address",
    "street_no",
    "address",
    "anschrift",
    "address",
    "ssn",
    "official-number",
    "steuer_id",
    "official-number",
    "passport",
    "official-number",
    "passport_number",
    "official-number",
    "tax_id",
    "official-number",
    "national_id",
    "official-number",
    "social_security_number",
    "official-number",
    "public.users.name",
    "name",
    "crm.customers.name",
    "name",
    "public.patient.display_name",
    "name",
    "hr.Employees.Name",
    "name",
    "app.user_email",
    "email",
]

HARMLESS = [
    "id",
    "user_id",
    "order_no",
    "order_number",
    "domain_name",
    "file_name",
    "filename",
    "host_name",
    "product_name",
    "table_name",
    "name",
    "title",
    "mailing_status",
    "mail_server",
    "mail_count",
    "email_verified",
    "email_verified_at",
    "email_template",
    "email_id_hash",
    "email_hash",
    "emails_sent",
    "email_type",
    "is_email",
    "has_phone",
    "is_mobile",
    "phone_verified",
    "phone_type",
    "mobile_app",
    "mobile_version",
    "address_id",
    "ip_address",
    "mac_address",
    "server_address",
    "wallet_address",
    "contract_address",
    "memory_address",
    "url",
    "first_seen",
    "last_login",
    "last_seen",
    "lastmod",
    "full_text",
    "fullscreen",
    "street_lights",
    "card_type",
    "card_id",
    "card_count",
    "birth_place_id",
    "birthplace_code",
    "passport_required",
    "tax_rate",
    "tax_amount",
    "ssn_required",
    "telemetry",
    "telegraph",
    "hotel",
    "streetlight",
    "mobility",
    "mobilized",
    "dobby",
    "mailbox_quota",
    "voicemail_enabled",
    "status",
    "created_at",
    "region",
    "amount",
    "currency",
    "iban_valid",
    "sku",
    "country",
    "zip_required",
    "note",
    "description",
    "namespace",
    "username_length",
    "surname_sort_order",
    "dashboard",
    "public.products.name",
    "public.files.name",
    "public.domains.display_name",
    "pg_catalog.pg_user.email",
    "cell",
    "fuel_cell",
    "information_schema.x.phone",
    "no_mail",
    "min_address",
    "send_mail",
    "accepts_email",
]


@pytest.mark.parametrize(("name", "kind"), [*zip(PERSONAL[::2], PERSONAL[1::2], strict=True)])
def test_names_that_promise_personal_data(name: str, kind: str) -> None:
    assert kind_of(name) == kind
    assert RULE_OF[kind]


@pytest.mark.parametrize("name", HARMLESS)
def test_names_that_only_look_alike(name: str) -> None:
    assert kind_of(name) is None


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        *[(" a.b@example.org ", "email"), ("DE89 3704 0044 0532 0130 00", "iban")],
        *[
            ("4111 1111 1111 1111", "card"),
            ("378282246310005", "card"),
            ("+49 170 1234567", "phone"),
        ],
        *[("write to a@b.de", "text"), ("pay to GB82WEST12345698765432 now", "text")],
        *[("4111111111111112", "number"), ("1700000000000", "number"), ("170 1234567", None)],
        *[("DE89370400440532013001", None), ("a@b", None), ("2026-03-14 11:22:08", None)],
        *[("password=x", None), ("550e8400-e29b-41d4-a716-446655440000", None), ("", None)],
        *[("12:30+01:00", None), ("+1", None), ("v1.2@latest", None), ("@mention", None)],
    ],
)
def test_kinds_of_values(value: str, kind: str | None) -> None:
    assert kind_of_value(value) == kind


@given(st.text(max_size=60))
def test_any_name_and_any_value(text: str) -> None:
    assert kind_of(text) in {None, *RULE_OF}
    kind_of_value(text)


RULES = Rules(
    identifiers={"customer_id": ("public.users.id",), "mail": ("public.users.email",)},
    personal_data={"public.users.email": "email"},
    harmless=("public.shops.phone", "public.shops.contact"),
)


def seen(*asked: tuple[str, str | None]) -> tuple[list[dict[str, Any]], Sightings]:
    enricher = Enricher(RULES, None, KEY)
    table = batch([text for text, _ in asked], [bound for _, bound in asked])
    return enricher.enrich(table).to_pylist(), enricher.take_sightings()


def test_by_name_masks_lists_and_counts() -> None:
    found, sightings = seen(
        ("SELECT id FROM leads WHERE first_name = 'Zanzibarski' AND region = 'EU'", None),
        ("INSERT INTO leads (birth_date, phone) VALUES ($1, $2)", "1984-05-01,0170 1234567"),
        ("SELECT first_name FROM leads", None),
    )
    assert found[0]["query"] == "SELECT id FROM leads WHERE first_name = '***' AND region = 'EU'"
    assert found[1]["parameters"] == ["1984-**-**", "****4567"]
    assert [row["masked_fields"] for row in found] == [
        ["public.leads.first_name"],
        ["public.leads.birth_date", "public.leads.phone"],
        ["public.leads.first_name"],
    ]
    assert sightings.counts == {
        "public.leads.first_name": {"name": 2},
        "public.leads.birth_date": {"name": 1},
        "public.leads.phone": {"name": 1},
    }


def test_by_value_masks_lists_and_counts_only_where_it_is() -> None:
    found, sightings = seen(
        ("SELECT id FROM leads WHERE contact = 'j.doe@x.de'", None),
        ("SELECT id FROM leads WHERE contact = 'by post'", None),
        ("SELECT id FROM leads WHERE contact = $1", "+49 170 1234567"),
        ("SELECT id FROM leads WHERE contact = $1", "none"),
        ("UPDATE leads SET note = 'write to j.doe@x.de' WHERE id = 5", None),
        ("SELECT 'j.doe@x.de'", None),
    )
    contact, note = "public.leads.contact", "public.leads.note"
    shown = [row["masked_fields"] for row in found]
    assert shown == [[contact], [], [contact], [], [note], []]
    assert found[2]["parameters"] == ["****4567"]
    assert sightings.counts == {contact: {"email": 1, "phone": 1}, note: {"text": 1}}
    assert Sightings.from_bytes(sightings.to_bytes()) == sightings


def test_declared_columns_are_no_news_and_harmless_ones_stay() -> None:
    found, sightings = seen(
        ("SELECT id FROM users WHERE email = 'j.doe@x.de' AND id = 5", None),
        ("SELECT id FROM shops WHERE phone = '0800 1234' AND contact = 'shop@x.de'", None),
    )
    assert found[0]["masked_fields"] == ["public.users.email"]
    # What is recognised is masked everywhere; a name alone no longer is.
    text = "SELECT id FROM shops WHERE phone = '0800 1234' AND contact = 's***@***.de'"
    assert (found[1]["query"], found[1]["masked_fields"]) == (text, [])
    assert sightings.counts == {}


def test_sightings_are_bounded() -> None:
    _, sightings = seen(*((f"SELECT email FROM t{i}", None) for i in range(2100)))
    assert len(sightings.counts) == 2000
    more = Sightings()
    more.add(sightings)
    more.add(sightings)
    assert more.counts["public.t5.email"] == {"name": 2}


def test_long_numbers_of_which_some_pass_the_check_are_no_cards() -> None:
    texts = [f"SELECT id FROM jobs WHERE number = {4000000000000000 + 7 * i}" for i in range(200)]
    _, sightings = seen(*((text, None) for text in texts))
    counts = sightings.counts["public.jobs.number"]
    assert 0 < counts["card"] < counts["number"]
    assert propose(sightings, RULES) == []


def test_proposals_are_configuration(tmp_path: Path) -> None:
    _, sightings = seen(
        ("SELECT id FROM leads WHERE contact = 'j.doe@x.de'", None),
        ("SELECT id FROM leads WHERE surname = 'x'", None),
        ('SELECT 1 FROM "My ""Leads" WHERE iban = $1', "x"),
    )
    proposals = propose(sightings, RULES)
    assert [one.column for one in proposals] == [
        'public.My "Leads.iban',
        "public.leads.contact",
        "public.leads.surname",
    ]
    text = as_toml(proposals, RULES)
    assert tomllib.loads(text) == {
        "personal_data": {
            'public.My "Leads.iban': "keep-last-4",
            "public.leads.contact": "email",
            "public.leads.surname": "redact",
        },
        "identifiers": {"mail": ["public.users.email", "public.leads.contact"]},
    }
    (tmp_path / "config.toml").write_text(as_toml(proposals[1:], RULES))
    assert propose(sightings, load(tmp_path / "config.toml").rules()) == proposals[:1]


def test_reprocess_proposes_and_detect_remembers(tmp_path: Path) -> None:
    texts = [
        "SELECT id FROM leads WHERE contact = 'j.doe@x.de'",
        *[f"SELECT id FROM leads WHERE surname = 'Zanzibarski{i}'" for i in range(3)],
    ]
    log = "".join(row_of(audited(i + 1, Case(t, (), ""))) + "\n" for i, t in enumerate(texts))
    (tmp_path / "postgresql.csv").write_text(log)
    (tmp_path / "schema.sql").write_text(
        "CREATE TABLE public.leads (id int, contact text, surname text, birth_date date, note text);"
        "CREATE VIEW public.v AS SELECT leads.surname FROM public.leads;"
    )
    store = tmp_path / "store"
    options = ("--schema", tmp_path / "schema.sql", "--postgres-log", tmp_path / "postgresql.csv")
    said = scalple("reprocess", "--store", store, *options)
    assert said.code == 0
    assert '"public.leads.surname" = "redact"  # by its name, in 3 rows\n' in said.err
    assert f"scalple-ingest detect --store {store}" in said.err
    found = scalple("detect", "--store", store, "--format", "json").json()["proposals"]
    assert found == [
        {
            "column": f"public.leads.{column}",
            "kind": kind,
            "rule": rule,
            "identifier": "email" if kind == "email" else None,
            "by_name": by_name,
            "rows": rows,
            "values": values,
        }
        for column, kind, rule, by_name, rows, values in (
            ("birth_date", "birth-date", "date-year", True, 0, {}),
            ("contact", "email", "email", False, 0, {"email": 1}),
            ("surname", "name", "redact", True, 3, {}),
        )
    ]
    text = scalple("detect", "--store", store, "--format", "toml").out
    (tmp_path / "config.toml").write_text(text)
    config = ("--config", tmp_path / "config.toml")
    assert scalple("detect", "--store", store, *config).out.startswith("no undeclared column")
    assert "public.leads.contact" in scalple("detect", "--store", store).out
    everything = said.err + text
    assert "Zanzi" not in everything
    assert "j.doe" not in everything
