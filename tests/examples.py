"""How many examples a costly property looks at: few in the suite, EXAMPLES_TIMES as many in `make prove`."""

import os

from hypothesis import strategies as st

SEEDS = st.integers(0, 2**32).filter(lambda seed: seed != 0)
"""Of a world that chance plays. Hypothesis begins with the simplest example, and of so few that would be
half, the same in every run: 0 is refused, so that each example is another one."""


def examples(few: int, many: int = 0) -> int:
    """For `max_examples`: `few` in the suite, else EXAMPLES_TIMES times `many` (`few`, unless told)."""
    times = os.environ.get("EXAMPLES_TIMES")
    return few if times is None else (many or few) * int(times)
