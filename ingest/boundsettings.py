"""Settings of identity variables whose parts are bind parameters: Parse and Bind -> plain settings.

Enters: what a text does (`variables`), and the fields of a Bind. Leaves: the same with its parameters
filled in; `unclear` where a value isn't text, isn't there, or is declared as something else.
"""

from scalple.ingest.pgwire import Bind
from scalple.ingest.variables import NOTHING, Effect, Parameter, Setting, Variables, read_truth

_TEXT_TYPES = frozenset({0, 25, 1043})
"""pg_type: unspecified, text, varchar; in both formats their bytes are the text."""


def typed(effect: Effect, types: tuple[int, ...]) -> Effect:
    """Unclear where a parameter is declared as something else than text."""
    asked = [one for setting in effect.settings for one in (setting.value, setting.name)]
    for one in asked:
        if isinstance(one, Parameter) and not _TEXT_TYPES.issuperset(types[one.index :][:1]):
            return Effect(effect.settings, alone=False, unclear=True)
    return effect


def bound(effect: Effect, bind: Bind, variables: Variables) -> Effect:
    """The effect with its bind values filled in."""
    settings: list[Setting] = []
    unclear = effect.unclear
    for setting in effect.settings:
        variable = setting.variable
        if setting.name is not None:
            name = _text_of(setting.name, bind)
            if name is not None and not variables.knows(name):
                continue
            unclear |= name is None
            variable = name.lower() if name else None
        local = setting.local
        if isinstance(local, Parameter):
            truth = _truth_of(local, bind)
            unclear |= truth is None
            local = bool(truth)
        value = setting.value
        if isinstance(value, Parameter):
            said = _text_of(value, bind)
            is_null = value.index < len(bind.values) and bind.values[value.index] is None
            unclear |= said is None and not is_null
            value = said or None
        settings.append(Setting(value, local, variable=variable))
    if not settings and not unclear and not effect.ends:
        return NOTHING
    return Effect(tuple(settings), alone=effect.alone, unclear=unclear, ends=effect.ends)


def has_parameters(setting: Setting) -> bool:
    """Whether any part of it is a bind parameter."""
    said = (setting.value, setting.local, setting.name)
    return any(isinstance(one, Parameter) for one in said)


def _text_of(parameter: Parameter, bind: Bind) -> str | None:
    if parameter.index >= len(bind.values) or bind.format_of(parameter.index) not in (0, 1):
        return None
    value = bind.values[parameter.index]
    try:
        return None if value is None else value.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _truth_of(parameter: Parameter, bind: Bind) -> bool | None:
    if parameter.index >= len(bind.values):
        return None
    return read_truth(bind.values[parameter.index], bind.format_of(parameter.index) == 1)
