"""How much a program remembers: for showing that it doesn't grow.

Enters: objects of this project's. Leaves: the number of entries of everything that they hold, by the attribute that
holds it. Tables and connections of others' are left out.
"""

from collections import Counter
from typing import Any

import numpy as np

from scalple.correlate.numbered import Numbered


def remembered(thing: object) -> Counter[str]:
    """Entries by attribute (`Class.attribute`), of the thing and of whatever of ours it holds."""
    found: Counter[str] = Counter()
    seen: set[int] = set()
    waiting: list[tuple[str, Any]] = [("", thing)]
    while waiting:
        name, one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, dict):
            found[name] += len(one)
            waiting += [(name, value) for pair in one.items() for value in pair]
        elif isinstance(one, list | set | frozenset | tuple):
            found[name] += len(one)
            waiting += [(name, value) for value in one]
        elif isinstance(one, Numbered):
            found[name] += len(one)
        elif isinstance(one, np.ndarray):
            found[name] += one.size
        elif type(one).__module__.startswith("scalple."):
            held = dict(getattr(one, "__dict__", {}))
            for kind in type(one).__mro__:
                slots = getattr(kind, "__slots__", ())
                held |= {slot: getattr(one, slot) for slot in slots if hasattr(one, slot)}
            waiting += [(f"{type(one).__name__}.{key}", value) for key, value in held.items()]
    return found
