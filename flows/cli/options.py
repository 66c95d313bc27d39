"""The flags that verbs share, and where the database is unless one says otherwise."""

from __future__ import annotations

import os
from typing import Annotated

import typer

FOLDER = ".ponderosa"
DATABASE = os.path.join(FOLDER, "ponderosa.db")

DatabaseOption = Annotated[str, typer.Option("--database", "-d", envvar="PONDEROSA_DATABASE", help="File or URL.")]
StrategyOption = Annotated[str, typer.Option(help="NAME or NAME:KEY=VALUE,...; `ponderosa strategies` lists them.")]
SettingOption = Annotated[list[str], typer.Option("--set", help="KEY=VALUE for the strategy; may be repeated.")]
VerifierOption = Annotated[str, typer.Option(help="prm, logprob, self-certainty, equation or ensemble, with :KEY=VALUE,...")]
GeneratorOption = Annotated[str, typer.Option(help="'bundled', a Hugging Face folder or a hub name.")]
EncoderOption = Annotated[
    str | None, typer.Option(help="hidden or sentence-transformers, with :KEY=VALUE,...; for strategies that embed.")
]
BudgetOption = Annotated[str | None, typer.Option(help="Tokens one problem may cost: 2048, 32k.")]
PassesOption = Annotated[int | None, typer.Option(help="Verifier passes one problem may cost.")]
CandidatesOption = Annotated[int | None, typer.Option(help="Candidates one problem may have.")]
FlopsOption = Annotated[float | None, typer.Option(help="FLOPs one problem may cost: 2e12.")]
SecondsOption = Annotated[float | None, typer.Option(help="Seconds of the models' time one problem may cost.")]
ProblemsOption = Annotated[str, typer.Option(help="word, countdown, guess or jsonl, with :KEY=VALUE,...")]
SeedOption = Annotated[int, typer.Option(help="Seed of the sampling noise.")]
TemperatureOption = Annotated[float, typer.Option(help="0 = greedy.")]
TopKOption = Annotated[int, typer.Option(help="Draw among this many tokens; 0 = off.")]
TopPOption = Annotated[float, typer.Option(help="Nucleus; 1 = off.")]
MinPOption = Annotated[float, typer.Option(help="Least probability, as a share of the best token's; 0 = off.")]
PenaltyOption = Annotated[float, typer.Option(help="Makes tokens seen before less probable; 1 = off.")]
TauOption = Annotated[float, typer.Option(help="Surprise to aim at, bits, instead of top-k and the like; 0 = off.")]
EtaOption = Annotated[float, typer.Option(help="Mirostat's learning rate.")]
StopOption = Annotated[list[str], typer.Option("--stop", help="A string that ends a solution; may be given again.")]
ConfidenceOption = Annotated[int, typer.Option(help="Keep each token's confidence over its k likeliest (DeepConf's); 0 = off.")]
MomentumOption = Annotated[float, typer.Option(help="Momentum decoding's alpha, against repetitions; 0 = off.")]
SmallOption = Annotated[str | None, typer.Option(help="A smaller generator, for strategies that switch to one.")]
ConstraintOption = Annotated[str, typer.Option(help="A regular expression that each step's text must hold.")]
TokensOption = Annotated[int, typer.Option(help="Tokens one solution may have.")]
StepTokensOption = Annotated[int, typer.Option(help="Tokens one step may have.")]
PlainOption = Annotated[bool, typer.Option("--plain", help="The same work without Prefect.")]
DetachOption = Annotated[bool, typer.Option("--detach", help="Plan only: `ponderosa worker` does the work.")]
ClusterOption = Annotated[
    str, typer.Option(help="Spread shards over a Dask cluster: local:PROCESSES or an address, HOST:PORT.")
]
ShardOption = Annotated[int, typer.Option("--shard", help="Problems that a worker takes on at a time.", min=1)]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Id, beginning of an id, name, or 'latest'.")]
