"""Who is at the other end of a socket: address, certificate, or the account behind a unix socket."""

import asyncio
import ipaddress
import pwd
import socket
import struct

from scalple.ingest.credentials import Client


def client_of(transport: asyncio.Transport) -> Client:
    """What is known of the client at the other end."""
    peer = transport.get_extra_info("socket")
    certificate = transport.get_extra_info("peercert") or None
    if peer.family == socket.AF_UNIX:
        size = struct.calcsize("3i")
        data = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        pid, uid, _gid = struct.unpack("3i", data)
        try:
            account = pwd.getpwuid(uid).pw_name
        except KeyError:
            account = str(uid)
        return Client(f"unix({pid})", None, None, account)
    name = transport.get_extra_info("peername") or ("", 0)
    return Client(address_of(name[0]), int(name[1]), certificate)


def address_of(text: str) -> str:
    """One spelling per address; an IPv4 address that came over IPv6 is that IPv4 address."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return text
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
