"""`specs` and `mixers`: what there is to name. Neither imports torch to list."""

from __future__ import annotations

import ast
from typing import Annotated

import typer

from metablocks.cli.common import Folders, Json, load_mixers, print_json, print_table
from metablocks.core.errors import Fault, InputError
from metablocks.core.shipped import shipped_names, shipped_path
from metablocks.core.text import did_you_mean, printable


def specs(as_json: Json = False) -> None:
    """List the shipped specs."""
    rows = {name: _first_comment(name) for name in shipped_names()}
    if as_json:
        print_json(rows)
    else:
        print_table(("spec", "what it is"), list(rows.items()), "ll")


def _first_comment(name: str) -> str:
    path = shipped_path(name)
    assert path is not None
    return path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")


def mixers(
    name: Annotated[str | None, typer.Argument(help="a mixer, to see its settings")] = None,
    folders: Folders = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """List the token mixers, or explain one."""
    from metablocks import mixers as finder

    load_mixers(folders)
    if name is not None:
        _explain(name, as_json)
        return
    rows = {known: _summary(known) for known in finder.names()}
    if as_json:
        print_json(rows)
    else:
        print_table(("mixer", "what it does"), list(rows.items()), "ll")


def _summary(name: str) -> str:
    """The first line of the docstring, read without running the file."""
    from metablocks.mixers import path_of

    path = path_of(name)
    if path is None:
        return "installed by another package"
    try:
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    except (SyntaxError, UnicodeDecodeError, ValueError):
        return "its file is not Python"
    return printable((docstring or "no docstring").partition("\n")[0], limit=100)


def _explain(name: str, as_json: bool) -> None:
    from metablocks import mixers as finder
    from metablocks.spec.words import setting_rows

    found = finder.find(name)
    if found is None:
        known = finder.names()
        hint = did_you_mean(name, known) or f"mixers are {', '.join(known)}"
        raise InputError(Fault(f"no mixer called `{printable(name)}`", help=hint))
    rows = setting_rows(found.settings)
    if as_json:
        settings = [{"key": key, "default": default, "what": what} for key, default, what in rows]
        print_json({"name": name, "settings": settings})
        return
    path = finder.path_of(name)
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) if path else None
    print(f"{name}\n\n{docstring or ''}\n")
    if rows:
        print_table(("key", "default", "what it is"), rows, "lll")
    needs = "every token of its grid" if found.settings.whole_grid else "no particular tokens"
    prefix = "may" if found.settings.takes_prefix else "may not"
    print(f"\nneeds {needs}; prefix tokens {prefix} stand before the patches")
