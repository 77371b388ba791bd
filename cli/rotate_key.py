"""`rotate-key`: a store goes on under another key, and its log says so."""

from contextlib import suppress
from pathlib import Path

import click
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from scalple.cli.config import Config
from scalple.cli.keygen import KINDS
from scalple.cli.options import command, config_option, configured, store_option, store_path
from scalple.cli.subjectkeys import told
from scalple.ingest.errors import ConfigError
from scalple.store import keys
from scalple.store.keyedrows import SUBJECT_KEY
from scalple.store.layout import ACCESS_ORIGIN, keys_directory
from scalple.store.note import VerifierKey
from scalple.store.reader import StoreReader
from scalple.store.source import source_of
from scalple.store.writer import StoreWriter


@command("rotate-key")
@click.argument("kind", type=click.Choice(KINDS))
@store_option
@click.option(
    "--new-key",
    "new_key",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="The key from now on, made by keygen.",
)
@config_option
def rotate_key(kind: str, store_dir: str | None, new_key: Path, config_path: Path | None) -> None:
    """Go on under a new key of one KIND: signing, subject or access.

    Each log states the change, signed with the key that it had. All that was signed or made before
    stays valid: keep a subject key for as long as its subjects are asked about, and name it in
    [keys] former_subject_key_files. A run that was interrupted is simply given again.

    \b
    Example:
      scalple-ingest rotate-key signing --store ./store --new-key signing-2027.key > new.pub
    """
    config = configured(config_path)
    directory = store_path(store_dir, config)
    if kind == "subject":
        _subject(directory, config, new_key)
    else:
        _signing(directory, config, new_key, kind)


def _signing(directory: Path, config: Config, new_key: Path, kind: str) -> None:
    new = keys.signing_key(directory, new_key)
    for warning in new.warnings:
        click.echo(f"warning: {warning}", err=True)
    access = kind == "access"
    old = _present(directory, config, access=access)
    if old.path.exists() and new_key.exists() and old.path.samefile(new_key):
        raise ConfigError("it is the present key", place=str(new_key), hint="make one: keygen")
    reader = StoreReader.open(directory, ACCESS_ORIGIN if access else None)
    for origin in reader.origins:
        key = VerifierKey.of(origin, new.private)
        chain = reader.chain(origin)
        if chain.key_at(chain.tree.size) == key:
            # Opening mends what an interrupted run has left undone beside the log.
            StoreWriter.open(directory, origin, new.private, create=False).close()
            click.echo(f"{origin} goes on under this key already", err=True)
        else:
            _rotate(directory, origin, old.private, new.private)
        click.echo(key.to_text())
    named = config.keys.access_key_file if access else config.keys.signing_key_file
    _tell(old.path, new_key, "access_key_file" if access else "signing_key_file", named)


def _rotate(directory: Path, origin: str, old: Ed25519PrivateKey, new: Ed25519PrivateKey) -> None:
    try:
        writer = StoreWriter.open(directory, origin, old, create=False)
    except ConfigError:
        # A run that was interrupted may have stated the change: then the new key finishes it.
        with suppress(ConfigError), StoreWriter.open(directory, origin, new, create=False):
            click.echo(f"{origin}: the interrupted change to the new key is complete", err=True)
            return
        raise
    with writer:
        for note in writer.notes:
            click.echo(f"note: {note}", err=True)
        manifest = writer.rotate(new)
    click.echo(f"{origin}: manifest {manifest.n} states the new key", err=True)


def _subject(directory: Path, config: Config, new_key: Path) -> None:
    """The old key isn't needed: a store whose subject key is lost goes on like this."""
    if config.keys.subject_key_period:
        raise ConfigError(
            f"each {config.keys.subject_key_period} has its own subject key",
            place="[keys] subject_key_period",
            hint="leave that out to change keys by hand",
        )
    new_id = _id_of(directory, new_key)
    signing = _present(directory, config, access=False)
    present = config.keys.subject_key_file
    old = Path(present) if present else keys_directory(directory) / "subject.key"
    reader, stated = StoreReader.open(directory), False
    for origin in reader.origins:
        ids = [one.id for one in told(reader) if one.origin == origin]
        if ids and ids[0] == new_id:
            click.echo(f"{origin} goes on under this key already", err=True)
            continue
        if new_id in ids:
            raise ConfigError(
                f"{origin} had this key before: periods must be told apart",
                place=str(new_key),
                hint="make a new one: keygen subject",
            )
        with StoreWriter.open(directory, origin, signing.private, create=False) as writer:
            manifest = writer.commit({}, [], {SUBJECT_KEY: new_id.encode()})
        stated = True
        click.echo(f"{origin}: manifest {manifest.n} states the new key", err=True)
    if not stated and old.exists() and new_id == _id_of(directory, old):
        raise ConfigError(
            "it is the present key", place=str(new_key), hint="make a new one: keygen subject"
        )
    click.echo(new_id)
    if present is None and source_of(directory):  # nothing lies beside a bucket
        click.echo(f'now name it: [keys] subject_key_file = "{new_key.absolute()}"', err=True)
        return
    _tell(old, new_key, "subject_key_file", present)


def _id_of(directory: Path, path: Path) -> str:
    return keys.subject_key_id(keys.subject_key(directory, path).secret)


def _present(directory: Path, config: Config, *, access: bool) -> keys.SigningKey:
    named = config.keys.access_key_file if access else config.keys.signing_key_file
    name = "access" if access else "signing"
    path = Path(named) if named else None
    return keys.signing_key(directory, path, name=name, may_create=False)


def _tell(old: Path, new: Path, setting: str, named: str | None) -> None:
    """What is left to do: key files are the operator's."""
    subject = setting == "subject_key_file"
    if named is None:
        kept = f"{old.stem}-{'ID' if subject else 'old'}.key"
        text = f"now keep {old} as {old.with_name(kept)}, and put {new} in its place"
    else:
        text = f'now name it: [keys] {setting} = "{new.absolute()}"'
        if subject:
            text += f', former_subject_key_files = ["{old}"] (and those from before)'
    click.echo(text, err=True)
