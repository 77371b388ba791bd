"""What the sidecar says about itself: metrics, and what keeps it from serving.

Enters: a running sidecar, read from another thread (counters only). Leaves: what `statuspage` shows.
Says numbers, no names.
"""

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from scalple.ingest.statuspage import CounterMetricFamily, GaugeMetricFamily, Metric

if TYPE_CHECKING:
    from scalple.ingest.sidecar import Sidecar

_STALLED_S = 5.0
"""An event that waits longer to be on disk makes the sidecar unready."""


class Counters:
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
