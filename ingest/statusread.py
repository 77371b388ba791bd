"""A service's status page -> its figures, and whether it is well.

Enters: where it listens. Leaves: metrics by name and labels, and what `/ready` says. The other side of
`statuspage`. Goes straight there, past any proxy that the environment names.
"""

import contextlib
import http.client
import re
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass

from scalple.ingest.errors import ConfigError, InputError
from scalple.ingest.place import Place

_TIMEOUT_S = 5.0
_ANSWER_S = 15.0
"""An answer that comes byte by byte ends by then."""
_BYTES_MAX = 4 << 20
_WHY_MAX = 2000
_LABELS_MAX = 1000
_LABEL_MAX = 100
_VALUE_MAX = 2.0**63
_OURS = "scalple_"
_SAMPLE = re.compile(r"(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)(?: \d+)?")
_LABEL = re.compile(r'\w+="((?:[^"\\]|\\.)*)"')
_HINT = "is this the place that [daemon] status names, and a daemon of this version?"
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
    try:
        return Page(read_metrics(metrics), status == 200, text.strip()[:_WHY_MAX])
    except InputError as error:
        raise InputError(error.what, place=str(place), hint=error.hint) from error


def read_metrics(text: str) -> dict[str, dict[str, float]]:
    """Prometheus' text format; of metrics with several labels the first one counts.

    Raises:
        InputError: a figure is no number that a daemon counts or measures, or there are too many.
    """
    found: dict[str, dict[str, float]] = {}
    for line in text.split("\n"):
        sample = None if line.startswith("#") else _SAMPLE.fullmatch(line)
        if sample is None:
            if line.startswith(_OURS):
                raise unlike_a_number(*line.partition(" ")[::2])
            continue
        label, name = _LABEL.match(sample["labels"] or ""), sample["name"]
        if not name.startswith(_OURS):
            continue
        labels = found.setdefault(name, {})
        labels[label[1][:_LABEL_MAX] if label else ""] = _number(name, sample["value"])
        if len(labels) > _LABELS_MAX:
            raise InputError(f"its page has more than {_LABELS_MAX:,} of {name}", hint=_HINT)
    return found


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise unlike_a_number(name, text) from None
    if not 0 <= value < _VALUE_MAX:  # nor is NaN
        raise unlike_a_number(name, text)
    return value


def unlike_a_number(name: str, text: str) -> InputError:
    """A figure that can't be one."""
    return InputError(
        f"its page says {name[:_LABEL_MAX]} = {text[:_LABEL_MAX]}, which is none", hint=_HINT
    )


def _get(place: Place, path: str) -> tuple[int, str]:
    host = _HERE.get(place.host or "", place.host or "127.0.0.1")
    connection = http.client.HTTPConnection(host, place.port, timeout=_TIMEOUT_S)
    late = threading.Event()
    timer = threading.Timer(_ANSWER_S, lambda: None)
    try:
        connection.connect()
        timer = threading.Timer(_ANSWER_S, _hang_up, (connection.sock, late))
        timer.daemon = True
        timer.start()
        connection.request("GET", path)
        answer = connection.getresponse()
        data = answer.read(_BYTES_MAX + 1)
        if late.is_set():
            raise TimeoutError(f"no whole answer in {_ANSWER_S:.0f} s")
        if len(data) > _BYTES_MAX:
            raise OSError(f"it says more than {_BYTES_MAX:,} bytes")
        return answer.status, data.decode("utf-8", "replace")
    except (OSError, ValueError, http.client.HTTPException) as error:
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        what = f"no whole answer in {_ANSWER_S:.0f} s" if late.is_set() else said[:_LABEL_MAX]
        raise InputError(
            f"no daemon answers: {what.lower()}",
            place=str(place),
            hint="is it running (systemctl status scalple-ingest), and is this the place that "
            "[daemon] status names?",
        ) from error
    finally:
        timer.cancel()
        connection.close()


def _hang_up(connection: socket.socket, late: threading.Event) -> None:
    """Whoever reads from it reads no more."""
    late.set()
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
