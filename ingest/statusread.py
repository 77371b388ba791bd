"""A service's status page -> its figures, and whether it is well.

Enters: where it listens. Leaves: metrics by name and labels, and what `/ready` says. The other side of
`statuspage`. Goes straight there, past any proxy that the environment names.
"""

import http.client
import re
from collections.abc import Mapping
from dataclasses import dataclass

from scalple.ingest.errors import ConfigError, InputError
from scalple.ingest.place import Place

_TIMEOUT_S = 5.0
_BYTES_MAX = 4 << 20
_SAMPLE = re.compile(r"(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)(?: \d+)?")
_LABEL = re.compile(r'\w+="((?:[^"\\]|\\.)*)"')
_HERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


@dataclass(frozen=True, slots=True)
class Page:
    """What a service says of itself.

    Attributes:
        metrics: name -> value of its one label ('' without one) -> value.
        ready: whether it is well.
        why: what isn't well.
    """

    metrics: Mapping[str, Mapping[str, float]]
    ready: bool
    why: str

    def one(self, name: str) -> float:
        """A metric without labels; 0 where there is none of that name."""
        return self.metrics.get(name, {}).get("", 0.0)

    def many(self, name: str) -> Mapping[str, float]:
        """A metric with a label."""
        return self.metrics.get(name, {})


def read_page(place: Place) -> Page:
    """Ask a service.

    Raises:
        ConfigError: a status page has no path.
        InputError: nothing answers there, or not as a status page does.
    """
    if place.path is not None:
        raise ConfigError("a status page listens on HOST:PORT, not on a socket", place=place.path)
    status, metrics = _get(place, "/metrics")
    if status != 200 or "# TYPE " not in metrics:
        raise InputError(
            f"what answers there has no metrics (HTTP {status})",
            place=str(place),
            hint="give the place that [daemon] status names",
        )
    status, text = _get(place, "/ready")
    return Page(read_metrics(metrics), status == 200, text.strip())


def read_metrics(text: str) -> dict[str, dict[str, float]]:
    """Prometheus' text format; of metrics with several labels the first one counts."""
    found: dict[str, dict[str, float]] = {}
    for line in text.split("\n"):
        sample = None if line.startswith("#") else _SAMPLE.fullmatch(line)
        if sample is None:
            continue
        label = _LABEL.search(sample["labels"] or "")
        try:
            value = float(sample["value"])
        except ValueError:
            continue
        found.setdefault(sample["name"], {})[label[1] if label else ""] = value
    return found


def _get(place: Place, path: str) -> tuple[int, str]:
    host = _HERE.get(place.host or "", place.host or "127.0.0.1")
    connection = http.client.HTTPConnection(host, place.port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read(_BYTES_MAX).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        what = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise InputError(
            f"no daemon answers: {what.lower()}",
            place=str(place),
            hint="is it running (systemctl status scalple-ingest), and is this the place that "
            "[daemon] status names?",
        ) from error
    finally:
        connection.close()
