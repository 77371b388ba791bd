"""What a daemon does besides following: it copies its store to a bucket, and compacts it.

A configuration enters, and later perhaps another one; processes run at their own pace until the end. Whatever
happens to them, following goes on.
"""

from collections.abc import Iterable
from pathlib import Path

from scalple.cli import reprocess
from scalple.cli.compacting import CompactingState, Compactor, compacting_counters
from scalple.cli.config import Config
from scalple.cli.options import store_path
from scalple.cli.shipping import Shipper, ShippingState, shipping_counters
from scalple.ingest.statuspage import Collector, Metric
from scalple.store.bucketsettings import check_installed


class Background:
    """Everything besides following."""

    def __init__(self) -> None:
        self.shipping = ShippingState()
        self.compacting = CompactingState()
        self._shipper: Shipper | None = None
        self._compactor: Compactor | None = None
        self._store = Path()
        self._config: Config | None = None

    def use(self, config: Config) -> None:
        """Work as a configuration says, on a store that is there.

        Raises:
            ConfigError: something is missing that it needs.
        """
        if config is self._config:
            return
        if config.daemon.mirror is not None:
            check_installed()
        self._stop(0)
        self._config, self._store = config, store_path(None, config)
        origin = reprocess.origin_of(self._store, config.origin)
        if config.daemon.mirror is not None:
            self._shipper = Shipper(self._store, origin, config, self.shipping)
        if config.daemon.compact_commits:
            self._compactor = Compactor(self._store, origin, config, self.compacting)

    def finish(self) -> None:
        """What is committed is copied as well, if that doesn't take long."""
        self._stop(self._config.daemon.mirror_drain_s if self._config else 0)

    def _stop(self, seconds: float) -> None:
        compactor, self._compactor = self._compactor, None
        shipper, self._shipper = self._shipper, None
        if compactor is not None:
            compactor.finish()
        if shipper is not None:
            shipper.finish(seconds)

    def counters(self) -> Collector:
        """Metrics of what it does."""
        return _Counters(self)

    def metrics(self) -> Iterable[Metric]:
        """Those of now."""
        if self._shipper is not None:
            yield from shipping_counters(self.shipping, self._store).collect()
        if self._compactor is not None:
            yield from compacting_counters(self.compacting).collect()


class _Counters(Collector):
    def __init__(self, background: Background) -> None:
        self._background = background

    def collect(self) -> Iterable[Metric]:
        """All of them."""
        return self._background.metrics()
