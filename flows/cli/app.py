"""The application that the verbs are of. A verb is a thin function in the file of its kind, and calls a module of `flows`.

Every flag has a variable, PONDEROSA_ and its name in capitals, and every verb takes --quiet: neither is said verb by verb.
"""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Callable, Mapping
from copy import copy
from functools import wraps
from typing import Annotated, Any, get_args, get_origin

import typer
from typer.core import TyperCommand
from typer.models import OptionInfo

PREFIX = "PONDEROSA_"
QUIET = "PONDEROSA_QUIET"
Verb = Callable[..., Any]

QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on standard error but errors.")]


class _Command(TyperCommand):
    """Says where a value that will not do has come from, where nobody has typed it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            param = getattr(error, "param", None)
            source = ctx.get_parameter_source(param.name) if param is not None else None
            if param is not None and source is not None and source.name == "ENVIRONMENT":
                error.message = f"{getattr(error, 'message', '')} (from the variable {param.envvar})"  # type: ignore[attr-defined]
            raise


class App(typer.Typer):
    """An application, or a group of verbs in it. (`--help` imports no more than this file and those of the verbs.)"""

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Verb], Verb]:  # type: ignore[override]
        register = super().command(name, **{"cls": _Command, **settings})

        def decorate(function: Verb) -> Verb:
            register(_verb(function))
            return function

        return decorate


def signature_of(function: Verb) -> dict[str, inspect.Parameter]:
    """Its parameters, with their annotations evaluated."""
    return dict(inspect.signature(function, eval_str=True).parameters)


def signed(function: Verb, parameters: Mapping[str, inspect.Parameter]) -> Verb:
    """Gives a function the parameters that typer is to read."""
    plain = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters.values()]
    function.__signature__ = inspect.Signature(plain)  # type: ignore[attr-defined]
    function.__annotations__ = {each.name: each.annotation for each in plain}
    return function


def variable(flag: str) -> str:
    """The variable of a flag: PONDEROSA_TOP_K of --top-k."""
    return PREFIX + flag.lstrip("-").upper().replace("-", "_")


def _verb(function: Verb) -> Verb:
    @wraps(function)
    def verb(*args: Any, quiet: bool = False, **values: Any) -> Any:
        before = os.environ.pop(QUIET, None)  # it may say 0
        if quiet:
            os.environ[QUIET] = "1"  # for the processes that a run starts too
            logging.disable(logging.WARNING)
        else:
            from flows.cli import environment

            environment.warn()
        try:
            return function(*args, **values)
        finally:
            if quiet:
                logging.disable(logging.NOTSET)
                del os.environ[QUIET]
            if before is not None:
                os.environ[QUIET] = before

    quiet = inspect.Parameter("quiet", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=QuietOption)
    return signed(verb, {name: _named(each) for name, each in {**signature_of(function), "quiet": quiet}.items()})


def _named(parameter: inspect.Parameter) -> inspect.Parameter:
    """The parameter with its variable, where it is a flag and has none."""
    if get_origin(parameter.annotation) is not Annotated:
        return parameter
    kind, *about = get_args(parameter.annotation)
    return parameter.replace(annotation=Annotated[(kind, *(_with_variable(each, parameter.name) for each in about))])


def _with_variable(about: Any, name: str) -> Any:
    if not isinstance(about, OptionInfo) or about.envvar:
        return about
    # in an annotation the first of the flag's names is what Option takes for its default
    flags = [each for each in (about.default, *(about.param_decls or ())) if isinstance(each, str)]
    given = copy(about)
    given.envvar = variable(max((each.split("/")[0] for each in flags), key=len, default=name))
    given.show_envvar = False  # by a rule, which is said once
    return given


app = App(
    name="ponderosa",
    help="Spend compute at inference time to make a language model's answers better; keep every candidate.",
    epilog="Every flag has a variable: PONDEROSA_ and its name in capitals, PONDEROSA_TOP_K of --top-k. A file .env is read.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def options(
    debug: Annotated[
        bool, typer.Option("--debug", envvar="PONDEROSA_DEBUG", show_envvar=False, help="Show tracebacks.")
    ] = False,
) -> None:
    """Options before the command."""
    os.environ.pop("PONDEROSA_DEBUG", None)  # it may say 0
    if debug:
        os.environ["PONDEROSA_DEBUG"] = "1"
