"""`ship-events`: sends a sidecar's event files to the daemon on the database's host.

Enters: `[ship]` of a configuration. Leaves: a running shipper, until SIGTERM.
"""

import signal
import ssl
import threading
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

import click

from scalple.cli.intakesection import ShipSection
from scalple.cli.intaking import read_token
from scalple.cli.options import command, config_option, configured
from scalple.ingest.errors import ConfigError, InputError
from scalple.ingest.place import Place
from scalple.ingest.servicelog import say
from scalple.ingest.shipper import Daemon, NotTakenError, Shipper, ship
from scalple.ingest.systemd import notify
from scalple.ingest.wakeup import Wakeup
from scalple.store import keys

HTTPS_PORT = 9443


@command("ship-events")
@config_option
@click.option("--check", is_flag=True, help="Ask the daemon where it stands, and end.")
def ship_events(config_path: Path | None, check: bool) -> None:
    """Send identity events to the daemon on another host, as they are written.

    What the daemon has acknowledged is on its disk; where it stands is asked of it, so that nothing is
    kept here. Runs until SIGTERM; what it does, it says on stderr, a line of JSON each time.

    \b
    Example:
      scalple-ingest ship-events --config /etc/scalple/ship.toml
    """
    if config_path is None:
        raise ConfigError("ship-events needs a configuration", hint="give --config FILE")
    section = configured(config_path).ship
    shipper = shipper_of(section)
    if check:
        try:
            found = shipper.daemon.positions()
        except NotTakenError as error:
            raise InputError(
                str(error),
                place=section.to,
                hint="is the daemon running, with an [intake] that names this sender?",
            ) from error
        click.echo(f"{section.to}: has {len(found.positions)} file(s) of {section.name}")
        return
    _run(shipper, section.scan_interval_s)


def shipper_of(section: ShipSection) -> Shipper:
    """What the section describes.

    Raises:
        ConfigError: something is missing, or can't be used.
    """
    for name in ("to", "events", "name", "key_file"):
        if not getattr(section, name):
            raise ConfigError(f"[ship] needs {name}")
    assert section.to is not None and section.name is not None and section.key_file is not None
    if section.token_file is None and section.certificate_file is None:
        raise ConfigError("[ship] needs token_file, certificate_file, or both")
    token = read_token(Path(section.token_file)).decode() if section.token_file else None
    return Shipper(
        Daemon(
            _place(section.to),
            section.name,
            keys.signing_key(Path(), Path(section.key_file)).private,
            _context(section),
            token,
        ),
        section.events,
        section.batch_kb << 10,
    )


def _place(url: str) -> Place:
    parts = urlsplit(url)
    try:
        port = parts.port or HTTPS_PORT
    except ValueError:
        port = 0
    if parts.scheme != "https" or not parts.hostname or not port or parts.path.strip("/"):
        raise ConfigError(f"{url!r} is not https://HOST:PORT", place="[ship] to")
    return Place(parts.hostname, port)


def _context(section: ShipSection) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=section.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if section.certificate_file is not None:
            context.load_cert_chain(section.certificate_file, section.certificate_key_file)
    except (OSError, ssl.SSLError) as error:
        place = section.ca_file or section.certificate_file
        raise ConfigError(
            f"can't use the TLS files: {error.strerror or error}", place=place
        ) from error
    return context


def _run(shipper: Shipper, scan_interval_s: float) -> None:
    ending, wakeup = threading.Event(), Wakeup()

    def end(_number: int, _frame: FrameType | None) -> None:
        ending.set()
        wakeup.wake()

    def wait(seconds: float) -> bool:
        notify("WATCHDOG=1")
        return ending.wait(seconds) if seconds else ending.is_set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    say("started", to=str(shipper.daemon.place), events=list(shipper.patterns))
    notify("READY=1")
    try:
        ship(shipper, lambda folders: wakeup.wait(scan_interval_s, folders), wait)
    finally:
        shipper.close()
        wakeup.close()
    notify("STOPPING=1")
    say("stopped", sent_bytes=shipper.sent_bytes)
