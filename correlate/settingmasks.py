"""Values that set_config gives to settings that hold a person's data.

In: cut texts, their forms, and which settings' names are personal. Out: places of literals, and per
bind parameter the texts in which it is such a value. The names are literals: forms don't show them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from scalple.correlate import masking
from scalple.correlate.form import Form
from scalple.correlate.templates import Lexed

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PersonalSettings:
    """Where values of personal settings stand."""

    literals: list[tuple[Ints, Ints]]
    """(segments, their texts)."""
    parameters: list[tuple[Ints, int]]
    """(texts, number of the bind parameter)."""


def personal_settings(
    lexed: Lexed, forms: Sequence[Form], is_personal: Callable[[str], bool]
) -> PersonalSettings:
    """Look at each call of set_config, once per distinct name."""
    found = PersonalSettings([], [])
    for i, form in enumerate(forms):
        for setting in form.settings:
            texts = np.flatnonzero(lexed.form == i)
            names = lexed.segments.take(pa.array(lexed.starts[texts] + 2 * setting.name + 1))
            coded = names.dictionary_encode()
            said = [is_personal(masking.unquote(n).lower()) for n in coded.dictionary.to_pylist()]
            texts = texts[np.array(said, dtype=bool)[coded.indices.to_numpy()]]
            for slot in setting.values if len(texts) else ():
                if slot.is_parameter:
                    found.parameters.append((texts, slot.number))
                else:
                    found.literals.append((lexed.starts[texts] + 2 * slot.number + 1, texts))
    return found
