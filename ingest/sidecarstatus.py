"""What the sidecar says about itself: readiness and Prometheus metrics, over HTTP on a port of its own.

Enters: a running sidecar, read from another thread (counters only). Leaves: `/ready`, `/live` and
`/metrics`. Says numbers, no names. Owner of prometheus_client.
"""

import threading
import time
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from scalple.ingest.errors import ConfigError
from scalple.ingest.place import Place

if TYPE_CHECKING:
    from scalple.ingest.sidecar import Sidecar

_STALLED_S = 5.0
"""An event that waits longer to be on disk makes the sidecar unready."""


class _Collector:
    """Reads the sidecar's counters when asked."""

    def __init__(self, sidecar: "Sidecar") -> None:
        self._sidecar = sidecar

    def collect(self) -> Iterable[Metric]:
        sidecar = self._sidecar
        gauges = {
            "connections": ("Open connections", len(sidecar.connections)),
            "event_lag_seconds": ("Age of the oldest event not on disk", event_lag(sidecar)),
            "ready": ("Whether new connections are served", int(not faults(sidecar))),
            "held_bytes": ("Bytes of large queries being read", sidecar.held_bytes),
        }
        for name, (text, value) in gauges.items():
            yield GaugeMetricFamily(f"scalple_sidecar_{name}", text, value)
        counters = {
            "accepted": ("Connections accepted", sidecar.totals["accepted"]),
            "opened": ("Connections relayed", sidecar.totals["opened"]),
            "identified": ("Connections relayed with an actor", sidecar.totals["identified"]),
            "identify": ("Changes of a connection's tag", sidecar.totals["identify"]),
            "drift": ("Changes of application_name by clients", sidecar.totals["drift"]),
            "revoked": ("Connections ended by a revocation", sidecar.totals["revoked"]),
            "ended": ("Connections ended by the sidecar", sidecar.totals["ended"]),
            "upstream_failures": (
                "Connections that the pooler couldn't be reached for",
                sidecar.totals["upstream_failures"],
            ),
            "cancels": ("Cancel requests forwarded", sidecar.cancels),
            "events": ("Events written", sidecar.events.written),
            "unrecorded": ("Connections passed without an event", sidecar.unrecorded),
        }
        for name, (text, value) in counters.items():
            yield CounterMetricFamily(f"scalple_sidecar_{name}", text, value=value)
        sent = CounterMetricFamily("scalple_sidecar_bytes", "Bytes relayed", labels=["from"])
        sent.add_metric(["client"], sidecar.bytes_from_clients)
        sent.add_metric(["upstream"], sidecar.bytes_from_upstream)
        yield sent
        refused = CounterMetricFamily(
            "scalple_sidecar_refused", "Connections refused", labels=["sqlstate"]
        )
        for sqlstate, count in dict(sidecar.refusals).items():
            refused.add_metric([sqlstate], count)
        yield refused


class StatusPage:
    """Serves the sidecar's state while it is open.

    Args:
        sidecar: to be asked.
        place: where to listen.

    Raises:
        ConfigError: it can't listen there.
    """

    def __init__(self, sidecar: "Sidecar", place: Place) -> None:
        registry = CollectorRegistry()
        registry.register(_Collector(sidecar))

        class Answer(BaseHTTPRequestHandler):
            timeout = 5

            def do_GET(self) -> None:
                if self.path == "/metrics":
                    self._say(200, generate_latest(registry), CONTENT_TYPE_LATEST)
                elif self.path == "/live":
                    self._say(200, b"alive\n")
                elif self.path == "/ready":
                    wrong = faults(sidecar)
                    self._say(503 if wrong else 200, f"{'; '.join(wrong) or 'ready'}\n".encode())
                else:
                    self._say(404, b"/metrics, /ready or /live\n")

            def _say(self, status: int, body: bytes, kind: str = "text/plain") -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Every probe would be a line."""

        try:
            self._server = ThreadingHTTPServer((place.host or "127.0.0.1", place.port), Answer)
        except OSError as error:
            raise ConfigError(
                f"can't listen on {place} for the status page: {error.strerror}"
            ) from error
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, name="status")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def event_lag(sidecar: "Sidecar") -> float:
    """Seconds that the oldest event has been waiting to be on disk."""
    since = sidecar.events.waiting_since
    return 0.0 if since is None else max(0.0, time.monotonic() - since)


def faults(sidecar: "Sidecar") -> list[str]:
    """Why new connections aren't served now; empty if they are."""
    wrong = []
    if not sidecar.accepting:
        wrong.append("not accepting connections")
    elif sidecar.events.failing is not None:
        wrong.append("events can't be written")
    elif event_lag(sidecar) > _STALLED_S:
        wrong.append("events wait for the disk")
    return wrong
