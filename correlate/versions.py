"""Which schema each record of a batch was run under: a code per record, and the catalogs."""

from dataclasses import dataclass, field

import numpy as np

from scalple.correlate.catalog import Catalog
from scalple.correlate.logbatch import Ints


@dataclass(slots=True)
class Versions:
    """Which catalog each record of a batch was run under.

    Attributes:
        codes: places in `catalogs`, one per record.
        catalogs: at least one.
    """

    codes: Ints
    catalogs: list[Catalog]

    @property
    def single(self) -> Catalog | None:
        """The only one, if there is only one."""
        return self.catalogs[0] if len(self.catalogs) == 1 else None

    def take(self, rows: Ints) -> "Versions":
        """Those of some records."""
        if self.single is not None:
            return self
        kept, codes = np.unique(self.codes[rows], return_inverse=True)
        catalogs = [self.catalogs[code] for code in kept.tolist()]
        return Versions(codes, catalogs or self.catalogs[-1:])


@dataclass(slots=True)
class Numbered:
    """Catalogs by their place in the list."""

    catalogs: list[Catalog] = field(default_factory=list)
    _place: dict[int, int] = field(default_factory=dict)

    def code(self, catalog: Catalog) -> int:
        """A catalog's place; it gets one if it has none."""
        if catalog.serial not in self._place:
            self._place[catalog.serial] = len(self.catalogs)
            self.catalogs.append(catalog)
        return self._place[catalog.serial]
