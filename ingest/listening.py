"""Listening sockets, on TCP and in the file system, and the sockets that they accept.

Enters: places. Leaves: sockets that don't block. Removes a socket file that nobody listens on any more,
never another file. Raises OSError, or ConfigError where the operator has to choose another place.
"""

import asyncio
import contextlib
import os
import resource
import socket
from pathlib import Path

from scalple.ingest.errors import ConfigError
from scalple.ingest.place import Place

_FILES_A_CONNECTION = 2
_FILES_OF_OUR_OWN = 64


async def first_byte(client: socket.socket) -> bytes:
    """The first byte that the client sends, left where it is."""
    loop = asyncio.get_running_loop()
    try:
        return client.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        readable = asyncio.Event()
        loop.add_reader(client, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(client)
    return client.recv(1, socket.MSG_PEEK)


def bound(place: Place, socket_mode: int) -> socket.socket:
    """A socket that listens there. Raises OSError."""
    if place.path is not None:
        server = _unix_server(place.path, socket_mode)
    else:
        family, *_, address = socket.getaddrinfo(
            place.host, place.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        server = socket.socket(family, socket.SOCK_STREAM)
        try:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(address)
        except OSError:
            server.close()
            raise
    server.listen(1024)
    server.setblocking(False)
    return server


def _unix_server(path: str, mode: int) -> socket.socket:
    if len(path) > 107:
        raise ConfigError(f"the socket's path is too long: {path}")
    if Path(path).exists():
        if not Path(path).is_socket():
            raise ConfigError(f"{path} is there, and is no socket")
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            if probe.connect_ex(path) == 0:
                raise ConfigError(f"somebody listens on {path}")
        Path(path).unlink()
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    old = os.umask(0o777 & ~mode)
    try:
        server.bind(path)
    finally:
        os.umask(old)
    return server


def remove_socket(server: socket.socket) -> None:
    if server.family == socket.AF_UNIX:
        with contextlib.suppress(OSError):
            Path(server.getsockname()).unlink()
    server.close()


def allow_files(connections: int) -> None:
    """As many open files as the connections need, as far as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections * _FILES_A_CONNECTION + _FILES_OF_OUR_OWN
    if soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(most, soft), hard))
