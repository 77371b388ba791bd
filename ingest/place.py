"""Places where a process listens or connects: `HOST:PORT` or a unix socket's path."""

from dataclasses import dataclass

from scalple.ingest.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Place:
    """Where to listen or to connect: a host and port, or a unix socket."""

    host: str | None = None
    port: int = 0
    path: str | None = None

    def __str__(self) -> str:
        if self.path is not None:
            return self.path
        host = f"[{self.host}]" if self.host and ":" in self.host else self.host
        return f"{host}:{self.port}"


def read_place(text: str) -> Place:
    """`HOST:PORT`, `[IPv6]:PORT`, `:PORT` or a unix socket's path.

    Raises:
        ConfigError: it is none of those.
    """
    if text.startswith("/"):
        return Place(path=text)
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"{text!r} is neither HOST:PORT nor a path", hint="such as 0.0.0.0:6433")
    return Place(host.strip("[]") or "0.0.0.0", int(port))
