"""Who opens a connection: startup packets and rules in, identities and refusals out. No sockets.

Attacks by name: two identities, smuggled newlines, foreign tokens, replayed tokens, confused algorithms.
"""

import dataclasses
import datetime as dt
import re
from pathlib import Path

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalple.ingest.actorfile import ActorFile
from scalple.ingest.bearer import Tokens
from scalple.ingest.credentials import Client, Credentials, Opening
from scalple.ingest.errors import ConfigError
from scalple.ingest.pgwire import (
    CANCEL_REQUEST,
    Startup,
    WireError,
    join_options,
    read_startup,
    split_options,
    startup_packet,
)
from scalple.ingest.whose import NOBODY, Identity
from tests.certificates import AUDIENCE, Issuer

HERE = Client("10.0.0.5", 51234)
V3 = 196608


def opened(rules: Credentials, *pairs: tuple[str, str], client: Client = HERE) -> Opening:
    """The connection that these parameters open."""
    base = (("user", "app_user"), ("database", "app"))
    return rules.open(Startup(V3, (*base, *pairs)), client)


def refusal(rules: Credentials, *pairs: tuple[str, str], client: Client = HERE) -> str:
    """What the client is told."""
    with pytest.raises(WireError) as refused:
        opened(rules, *pairs, client=client)
    return f"{refused.value.sqlstate} {refused.value.message}"


PLAIN = Credentials()


@pytest.mark.parametrize(
    "pairs",
    [
        (("scalple.user", "anna"),),
        (("options", "-c scalple.user=anna"),),
        (("options", "-cscalple.user=anna"),),
        (("options", "--scalple.user=anna"),),
        (("Scalple.User", "anna"), ("options", "-c scalple.user=anna")),
        (("options", "-c geqo=off -c scalple.user=anna -c statement_timeout=5min"),),
    ],
)
def test_a_parameter_names_and_goes_no_further(pairs: tuple[tuple[str, str], ...]) -> None:
    opening = opened(PLAIN, *pairs)
    assert opening.identity == Identity("anna", authn="asserted")
    assert "scalple" not in str(opening.startup).lower()
    if "geqo" in str(pairs):
        assert ("options", "-c geqo=off -c statement_timeout=5min") in opening.startup.parameters
    else:
        assert "options" not in dict(opening.startup.parameters)


def test_what_else_is_said_comes_along() -> None:
    said = "-c scalple.user=bot -c scalple.kind=agent -c scalple.on_behalf_of=anna"
    said += " -c scalple.groups=ops,night -c scalple.purpose=fraud\\ check -c scalple.ticket=T-1"
    opening = opened(PLAIN, ("options", said))
    assert opening.identity == Identity(
        "bot", None, "agent", "asserted", "anna", groups=("ops", "night")
    )
    assert opening.said == {"purpose": "fraud check", "ticket": "T-1"}


def test_names_of_every_spelling_become_one_application_name() -> None:
    opening = opened(
        PLAIN,
        ("application_name", "one"),
        ("APPLICATION_NAME", "two"),
        ("options", "-c application_name=three"),
    )
    assert opening.own_name == "three"
    names = [name.lower() for name, _ in opening.forwarded("tag three").parameters]
    assert names.count("application_name") == 1
    assert "options" not in names


@pytest.mark.parametrize(
    ("pairs", "told"),
    [
        ((("scalple.user", "anna"), ("scalple.user", "bert")), "given twice"),
        ((("scalple.user", "anna"), ("options", "-c scalple.user=bert")), "given twice"),
        ((("scalple.user", "anna\nb"),), "not printable"),
        ((("scalple.user", "anna\u2028"),), "not printable"),
        ((("scalple.user", "a" * 201),), "longer than"),
        ((("scalple.user", "\udcff"),), "not printable"),
        ((("scalple.usr", "anna"),), "unknown parameter"),
        ((("scalple.user", "anna"), ("scalple.kind", "boss")), "scalple.kind"),
        ((("scalple.token", "x.y.z"),), "aren't accepted"),
        ((("user", "postgres"),), "given twice"),
        ((("DATABASE", "other"),), "given twice"),
    ],
)
def test_two_identities_and_smuggled_text_are_refused(
    pairs: tuple[tuple[str, str], ...], told: str
) -> None:
    assert told in refusal(PLAIN, *pairs)


def test_the_unidentified_are_nobody_or_refused_with_what_to_do() -> None:
    assert opened(PLAIN).identity == NOBODY
    strict = Credentials(require_identity=True)
    with pytest.raises(WireError) as refused:
        opened(strict)
    assert refused.value.sqlstate == "28000"
    assert "scalple.user" in (refused.value.hint or "")


def test_the_first_source_that_says_something_decides() -> None:
    certificate = {"subject": ((("commonName", "cert_anna"),),)}
    client = dataclasses.replace(HERE, certificate=certificate, system_user="unix_anna")
    rules = Credentials(
        sources=("mtls", "peercred", "parameter", "application_name"),
        name_pattern=re.compile("^(?P<actor>[a-z_]+)@"),
    )
    assert opened(rules, ("scalple.user", "p"), client=client).identity.authn == "mtls"
    assert opened(rules, ("scalple.user", "p"), client=HERE).identity.actor == "p"
    socket = Client("unix", None, None, "unix_anna")
    assert opened(rules, client=socket).identity == Identity("unix_anna", authn="peercred")
    named = opened(rules, ("application_name", "carl@psql"), client=HERE)
    assert named.identity == Identity("carl", authn="asserted")
    assert opened(rules, ("application_name", "psql"), client=HERE).identity == NOBODY


# -- tokens -------------------------------------------------------------------------------------


@pytest.fixture
def issuer(tmp_path: Path) -> Issuer:
    """Who signs."""
    return Issuer(tmp_path)


def by_token(issuer: Issuer, **more: object) -> Credentials:
    """Rules that take tokens of that issuer."""
    tokens = Tokens(issuer.jwks, (AUDIENCE,), leeway_s=0, **more)  # type: ignore[arg-type]
    return Credentials(sources=("jwt", "parameter"), tokens=tokens)


def test_a_signed_token_names(issuer: Issuer) -> None:
    token = issuer.token("anna", email="anna@x.org", groups=["ops"], kind="human")
    opening = opened(by_token(issuer), ("options", f"-c scalple.token={token}"))
    assert opening.identity == Identity("anna", "anna@x.org", "human", "jwt", groups=("ops",))
    assert token not in repr(opening)


def test_bad_tokens_are_refused_without_being_repeated(issuer: Issuer, tmp_path: Path) -> None:
    rules = by_token(issuer)
    other = Issuer(tmp_path, "k2")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    same_id = Issuer(elsewhere, "k1")
    public = issuer.jwks.read_bytes()
    hour = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
    body = {"sub": "anna", "aud": AUDIENCE, "exp": hour}
    bad = {
        "expired": issuer.token("anna", seconds=-5),
        "another audience": issuer.token("anna", aud="elsewhere"),
        "unknown key": other.token("anna"),
        "signature is wrong": same_id.token("anna"),
        "isn't valid": jwt.encode(body, "x" * 40, "HS256", headers={"kid": "k1"}),
        "lacks the claim": jwt.encode({"aud": AUDIENCE}, issuer.key, "ES256", {"kid": "k1"}),
        "names nobody": issuer.token(""),
        "not printable": issuer.token("anna\nroot"),
    }
    bad["isn't valid "] = jwt.encode(body, "", "none", headers={"kid": "k1"})
    assert b"kty" in public
    for told, token in bad.items():
        text = refusal(rules, ("scalple.token", token))
        assert told.strip() in text
        assert token not in text
    assert "isn't valid" in refusal(rules, ("scalple.token", "x"))
    assert "two people" in refusal(
        rules, ("scalple.token", issuer.token("anna")), ("scalple.user", "bert")
    )


def test_a_stolen_token_is_no_use_on_another_machine(issuer: Issuer) -> None:
    token = ("scalple.token", issuer.token("anna"))
    rules = by_token(issuer)
    opened(rules, token)
    opened(rules, token, client=Client("10.0.0.5", 2))
    assert "from elsewhere" in refusal(rules, token, client=Client("10.0.0.66", 3))
    reloaded = by_token(issuer)
    assert reloaded.tokens is not None and rules.tokens is not None
    reloaded.tokens.remember(rules.tokens)
    assert "from elsewhere" in refusal(reloaded, token, client=Client("10.0.0.66", 3))
    once = by_token(issuer, replay="once")
    opened(once, token)
    assert "from elsewhere" in refusal(once, token)
    anywhere = by_token(issuer, replay="allow")
    opened(anywhere, token)
    opened(anywhere, token, client=Client("10.0.0.66", 3))


@pytest.mark.parametrize("text", ["", "{}", '{"keys":[]}', '{"keys":[{"kty":"oct","k":"AAAA"}]}'])
def test_a_jwks_file_without_public_keys_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "jwks.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="jwks"):
        Tokens(path, (AUDIENCE,))


# -- the identity file --------------------------------------------------------------------------


def listed(tmp_path: Path, text: str) -> ActorFile:
    """That file."""
    path = tmp_path / "people.csv"
    path.write_text(text)
    return ActorFile(path)


def test_whoever_is_not_in_the_identity_file_is_refused_or_nobody(tmp_path: Path) -> None:
    people = listed(
        tmp_path,
        "actor,email,kind,valid_from,valid_until\n"
        "anna,anna@x.org,human,,\nleft,,,2020-01-01,2020-12-31\nsoon,,,2190-01-01,\n",
    )
    rules = Credentials(actor_file=people)
    assert opened(rules, ("scalple.user", "anna")).identity.email == "anna@x.org"
    for name in ("left", "soon", "unknown"):
        assert "identity file" in refusal(rules, ("scalple.user", name))
    lenient = Credentials(actor_file=people, refuse_unlisted=False)
    assert opened(lenient, ("scalple.user", "left")).identity == NOBODY
    assert lenient.variable("left") == NOBODY
    assert rules.variable("left") is None
    assert rules.variable("anna") == Identity("anna", "anna@x.org", "human", "asserted")
    assert rules.variable("an\nna") == NOBODY


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("who\nanna\n", ":1"),
        ("actor,boss\nanna,x\n", ":1"),
        ("actor\n\nanna,extra\n", ":3"),
        ("actor,kind\nanna,cat\n", ":2"),
        ("actor,valid_until\nanna,tomorrow\n", ":2"),
    ],
)
def test_an_identity_file_that_is_none_says_where(tmp_path: Path, text: str, place: str) -> None:
    with pytest.raises(ConfigError) as refused:
        listed(tmp_path, text)
    assert place in str(refused.value)


# -- packets ------------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


@given(st.lists(st.tuples(texts.filter(bool), texts), max_size=6), st.integers(0, 9))
def test_a_startup_packet_reads_as_it_was_written(pairs: list[tuple[str, str]], minor: int) -> None:
    startup = Startup(V3 + minor, tuple(pairs))
    assert read_startup(startup_packet(startup)) == startup


@given(st.binary(max_size=60))
def test_any_other_packet_is_refused_and_breaks_nothing(body: bytes) -> None:
    for packet in (b"\0\0\0\x20" + body, startup_packet(Startup(V3, ()))[:8] + body):
        if len(packet) >= 8:
            try:
                startup = read_startup(packet)
                PLAIN.open(startup, HERE)
            except WireError as error:
                assert len(error.sqlstate) == 5


def test_a_blank_that_was_not_escaped_makes_nobody_else_of_a_name() -> None:
    assert "is no option" in refusal(PLAIN, ("options", "-c scalple.user=Anna Muster"))
    assert "is no option" in refusal(
        PLAIN, ("options", "-c scalple.user=Anna Muster -c work_mem=1MB")
    )
    whole = opened(PLAIN, ("options", r"-c scalple.user=Anna\ Muster -c work_mem=1MB"))
    assert whole.identity.actor == "Anna Muster"


@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1), max_size=5))
def test_options_join_as_they_split(words: list[str]) -> None:
    assert split_options(join_options(words)) == words


def test_old_protocols_are_refused_by_name() -> None:
    with pytest.raises(WireError, match=r"2\.0"):
        read_startup(b"\0\0\0\x09\0\2\0\0\0")
    assert CANCEL_REQUEST >> 16 == 1234
