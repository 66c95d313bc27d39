"""The application that the verbs are of. A verb is a thin function in the file of its kind, and calls a module of `flows`."""

from __future__ import annotations

import os
from typing import Annotated

import typer

app = typer.Typer(
    name="ponderosa",
    help="Spend compute at inference time to make a language model's answers better; keep every candidate.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def options(debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False) -> None:
    """Options before the command."""
    if debug:
        os.environ["PONDEROSA_DEBUG"] = "1"
