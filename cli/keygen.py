"""`keygen`: a key in a file that only its owner may read, and its id."""

from pathlib import Path

import click

from scalple.cli.options import command, config_option, configured
from scalple.ingest.errors import ConfigError, InputError, StoreError
from scalple.store import keys
from scalple.store.layout import ACCESS_ORIGIN, origin_layout
from scalple.store.note import VerifierKey

KINDS = ("signing", "subject", "access")
_FILE = click.Path(path_type=Path)


@command("keygen")
@click.argument("kind", type=click.Choice(KINDS))
@click.option("--output", type=_FILE, metavar="FILE", help="Make a key here; nothing may be there.")
@click.option("--show", type=_FILE, metavar="FILE", help="Tell the id of a key that is there.")
@click.option(
    "--origin", "origins", multiple=True, metavar="NAME", help="Logs that a signing key is for."
)
@config_option
def keygen(
    kind: str,
    output: Path | None,
    show: Path | None,
    origins: tuple[str, ...],
    config_path: Path | None,
) -> None:
    """Make a key of one KIND: signing (a store's heads), subject (tokens), access (questions).

    stdout has what may be known of it: of a signing key its verifier key for each --origin, which
    `verify --public-key` takes; of a subject key its id. The key itself is never printed.

    \b
    Example:
      scalple-ingest keygen signing --output /etc/scalple/keys/signing.key --origin db1 > db1.pub
    """
    configured(config_path)
    if (output is None) == (show is None):
        raise InputError("make a key, or tell of one?", hint="give --output FILE or --show FILE")
    if kind == "subject" and origins:
        raise InputError("a subject key is for all logs of a store", place="--origin")
    if kind == "signing" and not origins:
        raise InputError("of which log?", hint="give --origin NAME: a verifier key has its name")
    for origin in origins:
        origin_layout(Path(), origin)  # is it a name?
    path = output or show
    assert path is not None
    if output is not None:
        _make(kind, output)
    if kind == "subject":
        click.echo(keys.subject_key_id(keys.subject_key(Path(), path).secret))
        return
    found = keys.signing_key(Path(), path)
    for warning in found.warnings:
        click.echo(f"warning: {warning}", err=True)
    for origin in origins or (ACCESS_ORIGIN,):
        click.echo(VerifierKey.of(origin, found.private).to_text())


def _make(kind: str, path: Path) -> None:
    try:
        (keys.create_subject_key if kind == "subject" else keys.create_signing_key)(path)
    except FileExistsError:
        raise ConfigError(
            "there is a file already, and keys are never overwritten",
            place=str(path),
            hint="give another name; --show FILE tells its id",
        ) from None
    except StoreError as error:
        raise ConfigError(error.what, place=error.place, hint="make the directory first") from error
    name = "access_key_file" if kind == "access" else f"{kind}_key_file"
    told = f'made {path}; name it in the configuration: [keys] {name} = "{path}"'
    if kind == "signing":
        told += "; of who sends events: [ship] key_file"
    click.echo(told, err=True)
