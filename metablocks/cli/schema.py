"""`schema`: the language for editors."""

from __future__ import annotations

from typing import Annotated

import typer

from metablocks.cli.common import Folders, load_mixers, print_json

Json = Annotated[bool, typer.Option("--json", help="the schema is JSON with and without it")]


def schema(folders: Folders = [], as_json: Json = False) -> None:  # noqa: ARG001, B006
    """Print the JSON Schema of the language, for editors that check and complete."""
    load_mixers(folders)
    # here: the settings stand beside their modules, and these bring in torch
    from metablocks.spec.schema import schema as written

    print_json(written())
