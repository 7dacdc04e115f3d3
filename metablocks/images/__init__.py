"""Pictures in, names of classes out: how publishers prepare pictures, and accuracy over a folder of them."""

from metablocks.images.classes import Guess, top
from metablocks.images.picture import open_picture, prepare
from metablocks.images.recipe import Recipe, recipe_for

__all__ = ["Guess", "Recipe", "open_picture", "prepare", "recipe_for", "top"]
