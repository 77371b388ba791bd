"""How many examples a costly property looks at: few in the suite, EXAMPLES_TIMES as many in `make prove`."""

import os


def examples(few: int) -> int:
    """For `max_examples`."""
    return few * int(os.environ.get("EXAMPLES_TIMES", "1"))
