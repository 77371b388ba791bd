"""What a service says about itself: readiness and Prometheus metrics, over HTTP on a port of its own.

Enters: a collector of metrics, and a function that tells what is wrong. Leaves: `/ready`, `/live` and
`/metrics`. Owner of prometheus_client.
"""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from scalple.ingest.errors import ConfigError
from scalple.ingest.place import Place

__all__ = ["Collector", "CounterMetricFamily", "GaugeMetricFamily", "Metric", "StatusPage"]


class StatusPage:
    """Serves a service's state while it is open.

    Args:
        counters: its metrics, read from another thread.
        faults: why it isn't ready; empty if it is.
        place: where to listen.

    Raises:
        ConfigError: it can't listen there.
    """

    def __init__(self, counters: Collector, faults: Callable[[], list[str]], place: Place) -> None:
        registry = CollectorRegistry()
        registry.register(counters)

        class Answer(BaseHTTPRequestHandler):
            timeout = 5

            def do_GET(self) -> None:
                if self.path == "/metrics":
                    self._say(200, generate_latest(registry), CONTENT_TYPE_LATEST)
                elif self.path == "/live":
                    self._say(200, b"alive\n")
                elif self.path == "/ready":
                    wrong = faults()
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
