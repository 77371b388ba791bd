"""Passwords, keys and tokens never reach the record, in whatever form a statement holds them."""

import re

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalple.correlate import masking
from scalple.correlate.enrichment import Enricher
from tests.test_enrichment import KEY, RULES, SCHEMA, batch

S = "Hunter2Zq9secret"
JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N"
PEM = f"-----BEGIN RSA PRIVATE KEY-----\nMIIEow{S}\n-----END RSA PRIVATE KEY-----"
SECRETS = [
    *[f"{verb} ROLE bob PASSWORD '{S}'" for verb in ("CREATE", "ALTER")],
    f"ALTER USER bob WITH ENCRYPTED PASSWORD E'{S}' VALID UNTIL '2027-01-01'",
    f"ALTER ROLE bob PASSWORD $${S}$$",
    f"CREATE USER MAPPING FOR bob SERVER s OPTIONS (user 'bob', password '{S}')",
    f"ALTER USER MAPPING FOR bob SERVER s OPTIONS (SET password '{S}')",
    f"CREATE SERVER s FOREIGN DATA WRAPPER f OPTIONS (access_key '{S}', host 'h')",
    f"SELECT dblink_connect('host=h user=u password={S}')",
    f"SELECT dblink_connect('c', 'postgresql://u:{S}@h/db')",
    f"SELECT dblink_connect('c', 'postgresql://u:x@{S}@h/db')",
    f"SELECT * FROM dblink('dbname=x password=''{S}''', 'SELECT 1') AS t(a int)",
    f"SELECT * FROM dblink('c', 'ALTER ROLE x PASSWORD ''{S}''') AS t(a int)",
    f"COPY users TO PROGRAM 'curl -H \"Authorization: Bearer {S}\" https://h'",
    f"COPY users TO PROGRAM 'curl -u bob:{S} https://h'",
    f"COPY users TO PROGRAM 'mysql -h h -p{S} -e x'",
    f"COPY users TO PROGRAM 'PGPASSWORD={S} psql h'",
    f"COPY users TO 's3://key:{S}@bucket/x'",
    f"SELECT crypt('{S}', gen_salt('bf'))",
    f"SELECT id FROM accounts WHERE hash = crypt('{S}', hash)",
    f"SELECT pgp_sym_encrypt('data', '{S}'), pgp_sym_decrypt(note::bytea, '{S}') FROM orders",
    f"SELECT encrypt('data', '{S}', 'aes'), decrypt(x, '{S}', 'aes') FROM orders",
    f"SELECT hmac('data', '{S}', 'sha256'), digest('{S}', 'sha256')",
    f"CREATE SUBSCRIPTION s CONNECTION 'host=h password={S} user=u' PUBLICATION p",
    f"ALTER SUBSCRIPTION s CONNECTION 'postgres://u:{S}@h/db'",
    f"SELECT http_get('https://u:{S}@h/x?y=1')",
    *[f"SELECT lower('https://h/x?{key}={S}&b=1')" for key in ("token", "access_token", "api_key")],
    *[f"SELECT lower('Authorization: {how} {S}')" for how in ("Bearer", "Basic", "Token", "")],
    f"SELECT 'Bearer {S}'",
    f"SELECT id FROM orders WHERE note = '{JWT}'",
    f"SELECT '{PEM}', $${PEM[:60]}$$",
    "SELECT 'AKIAIOSFODNN7EXAMPLE'",
    *[
        f"SELECT '{one}16C7e42F292c6912E7710c83'"
        for one in ("ghp_", "github_pat_", "xoxb-", "sk_live_")
    ],
    f"SET app.api_key = '{S}'",
    f"SET LOCAL my.app.secret TO '{S}'",
    f"SELECT set_config('app.jwt_secret', '{S}', true)",
    f"SELECT set_config('request.jwt.claims', '{{\"access_token\": \"{S}\"}}', true)",
    f"ALTER SYSTEM SET primary_conninfo = 'host=h password={S}'",
    f"ALTER DATABASE d SET app.jwt_secret = '{S}'",
    f"INSERT INTO accounts (login, password) VALUES ('bob', '{S}')",
    *[f"UPDATE accounts SET {one} = '{S}'" for one in ("pwd", "pass", "pin", "cvv", "api_token")],
    *[f"SELECT login('bob', {one} '{S}')" for one in ("password =>", "p_pwd :=", "")],
    *[f"SELECT 1 {one}" for one in (f"/* password={S} */", f"-- Bearer {S}", f"-- {JWT}")],
    f"SELECT 1 -- postgres://u:{S}@h",
    f"SELECT vault.create_secret('{S}', 'name')",
    f"DO $$ BEGIN EXECUTE 'ALTER ROLE x PASSWORD ''{S}'''; END $$",
    f"SELECT '{{\"password\":\"{S}\"}}'::jsonb, '<password>{S}</password>'::xml",
]
TOLD = re.compile(f"{S}|{JWT[:30]}|MIIEow|IOSFODNN7|16C7e42F")


@pytest.mark.parametrize("text", SECRETS, ids=lambda text: text[:50])
def test_secrets_never_reach_the_record(text: str) -> None:
    enricher = Enricher(RULES, SCHEMA, KEY)
    table = batch([text, "SELECT $1", "SELECT id FROM users -- no secret"], [None, text, None])
    shown, bound, plain = enricher.enrich(table).to_pylist()
    assert not TOLD.search(shown["query"])
    assert plain["query"] == "SELECT id FROM users -- no secret"
    if not re.search(r"crypt|hmac|pwd|pass |pin|cvv|login\(|SET |set_config|vault|VALUES", text):
        assert not TOLD.search(bound["parameters"][0])


@pytest.mark.parametrize(
    "text",
    [
        *["basic information", "bearer of bad news", "sk_livery", "a token of thanks", "eyJ.x"],
        *[
            "https://h:80/x",
            "-----BEGIN CERTIFICATE-----",
            "SKIA1234",
            "mail -u root",
            "pass the salt",
        ],
        *["no passwords here", "<token>", '{"a": "b", "n": 1}', "tokens, secrets", "compass=north"],
    ],
)
def test_what_only_sounds_secret_stays(text: str) -> None:
    assert masking.scrub(text) == text


@given(
    st.text(alphabet="@.+:=/-'\"<> 0123456789aeyJkpPassword", max_size=60)
    | st.sampled_from(SECRETS)
)
def test_whatever_is_scrubbed_is_looked_at(text: str) -> None:
    """Whole columns are first asked for what may hold something, by another engine."""
    values = pa.array([text])
    if masking.scrub(text) != text and len(text) >= 5:
        assert pc.match_substring_regex(values, masking.SUSPICIOUS)[0].as_py()
    if masking.scrub(text, is_comment=True) != text and len(text) >= 5:
        assert pc.match_substring_regex(values, masking.SUSPICIOUS_COMMENT)[0].as_py()


def test_members_of_json_that_are_personal_by_name() -> None:
    text = '{"email": "x", "first_name":"Ann \\" B","ssn": 123456789, "id": 5, "title": "Dr", "tel": null}'
    shown = '{"email": "***", "first_name":"***","ssn": "***", "id": 5, "title": "Dr", "tel": null}'
    assert masking.scrub(text) == shown
