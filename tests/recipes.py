"""The recipes of docs/TAGGERS.md, as the page has them.

Enters: a recipe's name. Leaves: its text, or what its Python defines. Does not: change a letter of it.
"""

import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parent.parent / "docs" / "TAGGERS.md"
_RECIPE = re.compile(r"^<!-- recipe: ([a-z-]+) -->\n```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_FENCE = re.compile(r"^```\w+$", re.MULTILINE)


def recipes(*languages: str) -> dict[str, str]:
    """The recipes in these languages: name -> text."""
    found = _RECIPE.findall(PAGE.read_text(encoding="utf-8"))
    return {name: text for name, language, text in found if language in languages}


def unmarked() -> int:
    """Blocks of code on the page that no test could find."""
    text = PAGE.read_text(encoding="utf-8")
    return len(_FENCE.findall(text)) - len(_RECIPE.findall(text))


class Recipes:
    """Executes Python recipes and remembers which."""

    def __init__(self) -> None:
        self.used: set[str] = set()

    def __call__(self, name: str) -> dict[str, Any]:
        """What the recipe defines."""
        self.used.add(name)
        names: dict[str, Any] = {}
        exec(compile(recipes("python")[name], f"{PAGE.name}:{name}", "exec"), names)  # noqa: S102 - the page is ours
        return names
