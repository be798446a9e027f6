"""The corpus: a table, one row a case. How its source is made, and what must come out."""

from __future__ import annotations

from collections.abc import Sequence

from tests.media.recipes.broken import BROKEN
from tests.media.recipes.codecs import CODEC
from tests.media.recipes.coding import CODING
from tests.media.recipes.colours import COLOUR
from tests.media.recipes.copying import COPYING
from tests.media.recipes.damaged import DAMAGED
from tests.media.recipes.fields import FIELDS
from tests.media.recipes.geometry import GEOMETRY
from tests.media.recipes.marks import MARKS
from tests.media.recipes.misleading import MISLEADING
from tests.media.recipes.recipe import Recipe
from tests.media.recipes.sound import SOUND
from tests.media.recipes.starts import STARTS
from tests.media.recipes.stills import STILLS
from tests.media.recipes.subtitles import SUBTITLES
from tests.media.recipes.telling import TELLING
from tests.media.recipes.timing import TIME

RECIPES: tuple[Recipe, ...] = (
    *(*GEOMETRY, *TIME, *STARTS, *COLOUR, *CODING, *CODEC, *FIELDS),
    *(*SOUND, *TELLING, *SUBTITLES, *MARKS, *STILLS, *COPYING, *BROKEN, *DAMAGED, *MISLEADING),
)


def chosen(names: Sequence[str]) -> tuple[Recipe, ...]:
    """Return the cases of topics, or whose names begin so; all of them where nothing is asked for.

    Raises:
        KeyError: there is none of such a name.
    """
    wanted: dict[str, Recipe] = {}
    for name in names:
        found = [
            recipe
            for recipe in RECIPES
            if name and (recipe.topic == name or recipe.name.startswith(name))
        ]
        if not found:
            raise KeyError(name)
        wanted |= {recipe.name: recipe for recipe in found}
    return tuple(each for each in RECIPES if each.name in wanted) if names else RECIPES
