"""`[intake]` -> a port that takes events, and the files that it makes.

Enters: the section, and the key files it names. Leaves: a running server, or an error that says what is
missing. Does nothing with events.
"""

import glob
import ipaddress
import ssl
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from scalple.cli.intakesection import IntakeSection, SenderSection
from scalple.ingest.errors import ConfigError, VerificationError
from scalple.ingest.intake import Intake, Limits
from scalple.ingest.intakeserver import IntakeServer
from scalple.ingest.place import read_place
from scalple.ingest.senders import Sender
from scalple.ingest.servicelog import say
from scalple.store.note import VerifierKey

TOKEN_BYTES = (16, 4096)
TIDY_S = 3600.0


def patterns(section: IntakeSection) -> tuple[str, ...]:
    """The event files that arrive."""
    if section.listen is None or section.directory is None:
        return ()
    return (f"{glob.escape(section.directory)}/*/*.jsonl*",)


@dataclass(slots=True)
class OpenIntake:
    """One that listens; what a reload may change is changed by `reload`."""

    intake: Intake
    context: ssl.SSLContext
    keep_days: int = 30
    _tidied: float = field(default_factory=time.monotonic)

    def tidy(self, unfinished: Collection[Path]) -> None:
        """Once an hour: remove files that nothing came to for so many days, and that were read.

        Args:
            unfinished: event files that are still followed.
        """
        if time.monotonic() - self._tidied < TIDY_S:
            return
        self._tidied = time.monotonic()
        try:
            self.intake.tidy(self.keep_days * 86_400.0, lambda path: path not in unfinished)
        except OSError as error:
            say("intake not tidied", why=error.strerror)

    def reload(self, section: IntakeSection) -> None:
        """Other senders, limits and certificates from now on.

        Raises:
            ConfigError: something can't be used; all stays as it was.
        """
        if section.listen is None or Path(section.directory or "") != self.intake.directory:
            raise ConfigError(
                "where events are taken isn't changed while they are", hint="restart the daemon"
            )
        checked = check(section)
        self.intake.replace(checked.intake.senders, checked.intake.limits)
        self.context, self.keep_days = checked.context, section.keep_days


@contextmanager
def open_intake(section: IntakeSection) -> Iterator[OpenIntake | None]:
    """A port that takes events, as long as the caller holds it; None if none is wanted.

    Raises:
        ConfigError: it can't be opened as asked.
    """
    if section.listen is None:
        yield None
        return
    checked = check(section)
    place = read_place(section.listen)
    server = IntakeServer(
        checked.intake,
        lambda: checked.context,
        place,
        section.max_connections,
        section.request_s,
    )
    with server:
        yield checked


def check(section: IntakeSection) -> OpenIntake:
    """What would be opened.

    Raises:
        ConfigError: something is missing, or can't be used.
    """
    for name in ("directory", "certificate_file", "key_file"):
        if getattr(section, name) is None:
            raise ConfigError(f"[intake] needs {name}")
    if not section.sender:
        raise ConfigError(
            "nobody may send anything", hint="give each sender a table [[intake.sender]]"
        )
    assert section.directory is not None
    if read_place(section.listen or ":0").path is not None:
        raise ConfigError("[intake] listens on HOST:PORT", place=section.listen)
    intake = Intake(Path(section.directory), _senders(section), _limits(section))
    return OpenIntake(intake, _context(section), section.keep_days)


def _limits(section: IntakeSection) -> Limits:
    return Limits(section.batch_kb << 10, section.rate_kb_s << 10, section.backlog_mb << 20)


def _context(section: IntakeSection) -> ssl.SSLContext:
    assert section.certificate_file is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(section.certificate_file, section.key_file)
        if section.client_ca_file is not None:
            context.load_verify_locations(section.client_ca_file)
            by_certificate = all(one.certificate is not None for one in section.sender)
            context.verify_mode = ssl.CERT_REQUIRED if by_certificate else ssl.CERT_OPTIONAL
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"can't use the TLS files: {error.strerror or error}", place=section.certificate_file
        ) from error
    return context


def _senders(section: IntakeSection) -> tuple[Sender, ...]:
    names = [one.name for one in section.sender]
    if len(set(names)) < len(names):
        raise ConfigError("two senders have one name", place="[[intake.sender]]")
    return tuple(_sender(one, section) for one in section.sender)


def _sender(said: SenderSection, section: IntakeSection) -> Sender:
    if said.token_file is None and said.certificate is None:
        raise ConfigError(
            f"sender {said.name} shows nothing",
            hint="give token_file, certificate (with client_ca_file), or both",
        )
    if said.certificate is not None and section.client_ca_file is None:
        raise ConfigError(f"the certificate of sender {said.name} needs client_ca_file")
    key = verifier_key(Path(said.public_key_file), said.name)
    return Sender(
        said.name,
        Ed25519PublicKey.from_public_bytes(key.public),
        said.writers,
        read_token(Path(said.token_file)) if said.token_file is not None else None,
        said.certificate,
        tuple(ipaddress.ip_network(one) for one in said.endpoints),
    )


def verifier_key(path: Path, name: str) -> VerifierKey:
    """The key in that file, which has to bear that name."""
    try:
        key = VerifierKey.from_text(path.read_text("utf-8").strip())
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "no text"
        raise ConfigError(f"can't read the public key: {reason}", place=str(path)) from error
    except VerificationError as error:
        raise ConfigError(error.what, place=str(path)) from error
    if key.name != name:
        raise ConfigError(
            f"is the key of {key.name}, not of {name}",
            place=str(path),
            hint=f"make it with `keygen signing --origin {name}`",
        )
    return key


def read_token(path: Path) -> bytes:
    """What a file holds, without the white space around it."""
    try:
        token = path.read_bytes().strip()
        is_open = path.stat().st_mode & 0o007
    except OSError as error:
        raise ConfigError(f"can't read the token: {error.strerror}", place=str(path)) from error
    least, most = TOKEN_BYTES
    if not least <= len(token) <= most or not token.isascii() or b"\n" in token:
        raise ConfigError(
            f"a token is one line of {least} to {most} ASCII characters",
            place=str(path),
            hint="make one with: openssl rand -hex 32",
        )
    if is_open:
        raise ConfigError("everybody can read this token", place=str(path), hint="chmod 0600")
    return token
