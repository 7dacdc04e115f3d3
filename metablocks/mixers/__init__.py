"""Token mixers, one file each; the file name is the mixer's name in a spec.

Found in three places: this folder, the entry-point group `metablocks.mixers`, and folders that the command line
names (`--mixers DIR`). A spec can only name a mixer, never say where its code is.
"""

from __future__ import annotations

from metablocks.mixers._finder import Found, add_folder, find, names, path_of

__all__ = ["Found", "add_folder", "find", "names", "path_of"]
