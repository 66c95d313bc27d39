"""The verbs about verifiers."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.cli.app import App, app

verifier = App(help="Check a reward model before a run depends on it.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(verifier, name="verifier")


@verifier.callback()
def group() -> None:
    """Check a reward model before a run depends on it."""


@verifier.command()
def check(
    model: Annotated[str, typer.Argument(help="'bundled', a Hugging Face folder or a hub name.")],
    format: Annotated[str, typer.Option(help="A family by name; else the one that the files tell.", show_default=False)] = "",
    separator: Annotated[str, typer.Option(help="Of trl: newline or blank-line.", show_default=False)] = "",
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    code: Annotated[str, typer.Option(help="'allow': code that comes with the model may run.")] = "never",
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Which family a reward model is of, and whether it is read as its authors read it.

    Exit code 0: it is; 1: a check failed; 65: no family, or several, or it cannot be loaded.
    """
    from flows import verifier as examining

    raise typer.Exit(examining.run(model, format, separator, device, dtype, code, json))
