"""What systemd is told by a service of Type=notify: one datagram a word (sd_notify(3))."""

import contextlib
import os
import socket


def notify(text: str) -> None:
    """Tell systemd, if it asked to be told (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
        to.sendto(text.encode(), "\0" + address[1:] if address[0] == "@" else address)
