"""The flags that verbs share, and where the database is unless one says otherwise."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

from flows.cli import completing
from flows.cli.app import Verb, signature_of, signed

FOLDER = ".ponderosa"
DATABASE = os.path.join(FOLDER, "ponderosa.db")

DatabaseOption = Annotated[str, typer.Option("--database", "-d", envvar="PONDEROSA_DATABASE", help="File or URL.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line, and nothing else.")]
PlainOption = Annotated[bool, typer.Option("--plain", help="The same work without Prefect.")]
DetachOption = Annotated[bool, typer.Option("--detach", help="Plan only: `ponderosa worker` does the work.")]
ClusterOption = Annotated[
    str, typer.Option(help="Spread shards over a Dask cluster: local:PROCESSES or an address, HOST:PORT.")
]
ShardOption = Annotated[int, typer.Option("--shard", help="Problems that are leased at a time.", min=1)]
ShareOption = Annotated[bool, typer.Option(help="Take samples that another run has stored, where they are the same.")]
NameOption = Annotated[str, typer.Option(help="A name to find the run by.")]
MOST = 2**63 - 1  # rows: what a database takes for a limit
RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="Id, beginning of an id, name, or 'latest'.", autocompletion=completing.runs)
]
StrategyOption = Annotated[
    str,
    typer.Option(help="NAME or NAME:KEY=VALUE,...; `ponderosa strategies` lists them.", autocompletion=completing.strategies),
]
StrategiesOption = Annotated[
    list[str],
    typer.Option("--strategy", help="NAME or NAME:KEY=VALUE,...; repeat for each.", autocompletion=completing.strategies),
]
BudgetsOption = Annotated[list[str], typer.Option("--budget", help="Tokens one problem may cost; repeat for each.")]
SeedsOption = Annotated[list[int], typer.Option("--seed", help="Repeat for each.")]


def spec_flags(
    file: Annotated[
        str | None,
        typer.Option("--file", "-f", help="A spec file: YAML, TOML or JSON, or '-'; flags win over it."),
    ] = None,
    problems: Annotated[
        str, typer.Option(help="word, countdown, guess or jsonl, with :KEY=VALUE,...", autocompletion=completing.problems)
    ] = "word:count=50",
    strategy: StrategyOption = "best-of-n",
    settings: Annotated[list[str], typer.Option("--set", help="KEY=VALUE for the strategy; may be repeated.")] = [],  # noqa: B006
    verifier: Annotated[
        str,
        typer.Option(
            help="prm, equation, genrm or another (`ponderosa strategies`), with :KEY=VALUE,...",
            autocompletion=completing.verifiers,
        ),
    ] = "prm",
    generator: Annotated[str, typer.Option(help="'bundled', a Hugging Face folder, a hub name, or openai:URL.")] = "bundled",
    encoder: Annotated[
        str | None, typer.Option(help="hidden or sentence-transformers, with :KEY=VALUE,...; for strategies that embed.")
    ] = None,
    budget: Annotated[str | None, typer.Option(help="Tokens one problem may cost: 2048, 32k.")] = None,
    passes: Annotated[int | None, typer.Option(help="Verifier passes one problem may cost.")] = None,
    candidates: Annotated[int | None, typer.Option(help="Candidates one problem may have.")] = None,
    flops: Annotated[float | None, typer.Option(help="FLOPs one problem may cost: 2e12.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Seconds of the models' time one problem may cost.")] = None,
    temperature: Annotated[float, typer.Option(help="0 = greedy.")] = 1.0,
    top_k: Annotated[int, typer.Option(help="Draw among this many tokens; 0 = off.")] = 0,
    top_p: Annotated[float, typer.Option(help="Nucleus; 1 = off.")] = 1.0,
    min_p: Annotated[float, typer.Option(help="Least probability, as a share of the best token's; 0 = off.")] = 0.0,
    repetition_penalty: Annotated[float, typer.Option(help="Makes tokens seen before less probable; 1 = off.")] = 1.0,
    mirostat_tau: Annotated[
        float, typer.Option(help="Surprise to aim at, bits, instead of top-k and the like; 0 = off.")
    ] = 0.0,
    mirostat_eta: Annotated[float, typer.Option(help="Mirostat's learning rate.")] = 0.1,
    confidence: Annotated[
        int, typer.Option(help="Keep each token's confidence over its k likeliest (DeepConf's); 0 = off.")
    ] = 0,
    momentum: Annotated[float, typer.Option(help="Momentum decoding's alpha, against repetitions; 0 = off.")] = 0.0,
    small: Annotated[str | None, typer.Option(help="A smaller generator, for strategies that switch to one.")] = None,
    constraint: Annotated[str, typer.Option(help="A regular expression that each step's text must hold.")] = "",
    stop: Annotated[list[str], typer.Option("--stop", help="A string that ends a solution; may be given again.")] = [],  # noqa: B006
    tokens: Annotated[int, typer.Option(help="Tokens one solution may have.")] = 384,
    step_tokens: Annotated[int, typer.Option(help="Tokens one step may have.")] = 64,
    seed: Annotated[int, typer.Option(help="Seed of the sampling noise.")] = 0,
) -> None:
    """The flags of a run. Their names are the keys of a spec file, and their defaults its defaults."""


_FLAGS = signature_of(spec_flags)


class Asked(dict[str, Any]):
    """The flags of a run that were given, by the command line or the environment; `file` and `settings` apart."""

    file: str | None = None
    settings: tuple[str, ...] = ()


def describes_runs(*left_out: str, **others: tuple[Any, Any]) -> Callable[[Verb], Verb]:
    """Puts the flags of a run before a verb's own; the verb gets them as its first argument, Asked. `others`: (annotation,
    default) of flags that are other ones with this verb."""

    def decorate(function: Verb) -> Verb:
        flags = {name: each for name, each in _FLAGS.items() if name not in left_out}
        for name, (annotation, default) in others.items():
            flags[name] = flags[name].replace(annotation=annotation, default=default)
        own = dict(list(signature_of(function).items())[1:])
        context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)

        @wraps(function)
        def verb(context: typer.Context, **values: Any) -> Any:
            asked = Asked()
            asked.file, asked.settings = values.get("file"), tuple(values.get("settings", ()))
            for name in flags:
                source = context.get_parameter_source(name)
                if name not in ("file", "settings") and source is not None and source.name in ("COMMANDLINE", "ENVIRONMENT"):
                    asked[name] = values[name]
            return function(asked, **{name: values[name] for name in own})

        return signed(verb, {"context": context, **flags, **own})

    return decorate
