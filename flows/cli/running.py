"""The verbs that generate: solve, run, sweep, resume, allocate, demo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.app import app
from flows.cli.options import (
    DATABASE,
    BudgetOption,
    CandidatesOption,
    ClusterOption,
    ConfidenceOption,
    ConstraintOption,
    DatabaseOption,
    DetachOption,
    EncoderOption,
    EtaOption,
    FlopsOption,
    GeneratorOption,
    MinPOption,
    MomentumOption,
    PassesOption,
    PenaltyOption,
    PlainOption,
    ProblemsOption,
    RunArgument,
    SecondsOption,
    SeedOption,
    SettingOption,
    ShardOption,
    SmallOption,
    StepTokensOption,
    StopOption,
    StrategyOption,
    TauOption,
    TemperatureOption,
    TokensOption,
    TopKOption,
    TopPOption,
    VerifierOption,
)

if TYPE_CHECKING:
    from search.types import RunSpec


@app.command()
def solve(
    question: Annotated[str, typer.Argument(help="The question, as the generator is to read it.")],
    strategy: StrategyOption = "astar:k=1,reopen=0.1,root=0.9",
    settings: SettingOption = [],  # noqa: B006  typer copies it
    verifier: VerifierOption = "prm",
    generator: GeneratorOption = "bundled",
    encoder: EncoderOption = None,
    budget: BudgetOption = None,
    passes: PassesOption = None,
    candidates: CandidatesOption = None,
    flops: FlopsOption = None,
    seconds: SecondsOption = None,
    temperature: TemperatureOption = 1.0,
    top_k: TopKOption = 0,
    top_p: TopPOption = 1.0,
    min_p: MinPOption = 0.0,
    repetition_penalty: PenaltyOption = 1.0,
    mirostat_tau: TauOption = 0.0,
    mirostat_eta: EtaOption = 0.1,
    confidence: ConfidenceOption = 0,
    momentum: MomentumOption = 0.0,
    small: SmallOption = None,
    constraint: ConstraintOption = "",
    stop: StopOption = [],  # noqa: B006
    tokens: TokensOption = 384,
    step_tokens: StepTokensOption = 64,
    seed: SeedOption = 0,
    tree: Annotated[bool, typer.Option("--tree", help="Show the tree that was searched.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")] = False,
) -> None:
    """Answer one question, and show what it cost and why that answer won."""
    from flows import solve as solving
    from flows.parts import spec
    from search.types import Sampling

    drawing = temperature, top_k, top_p, min_p, repetition_penalty, mirostat_tau, mirostat_eta, confidence, momentum
    sampling = Sampling(*drawing)
    costs = budget, passes, candidates, flops, seconds
    asked = spec(
        "question",
        strategy,
        verifier,
        generator,
        settings,
        *costs,
        sampling,
        seed,
        tokens,
        step_tokens,
        stop,
        encoder,
        small,
        constraint,
    )
    solving.run(question, asked, tree=tree, json=json)


@app.command()
def run(
    problems: ProblemsOption = "word:count=50",
    strategy: StrategyOption = "best-of-n",
    settings: SettingOption = [],  # noqa: B006
    verifier: VerifierOption = "prm",
    generator: GeneratorOption = "bundled",
    encoder: EncoderOption = None,
    budget: BudgetOption = None,
    passes: PassesOption = None,
    candidates: CandidatesOption = None,
    flops: FlopsOption = None,
    seconds: SecondsOption = None,
    temperature: TemperatureOption = 1.0,
    top_k: TopKOption = 0,
    top_p: TopPOption = 1.0,
    min_p: MinPOption = 0.0,
    repetition_penalty: PenaltyOption = 1.0,
    mirostat_tau: TauOption = 0.0,
    mirostat_eta: EtaOption = 0.1,
    confidence: ConfidenceOption = 0,
    momentum: MomentumOption = 0.0,
    small: SmallOption = None,
    constraint: ConstraintOption = "",
    stop: StopOption = [],  # noqa: B006
    tokens: TokensOption = 384,
    step_tokens: StepTokensOption = 64,
    seed: SeedOption = 0,
    name: Annotated[str, typer.Option(help="A name to find the run by.")] = "",
    plain: PlainOption = False,
    detach: DetachOption = False,
    cluster: ClusterOption = "",
    shard: ShardOption = 64,
    database: DatabaseOption = DATABASE,
) -> None:
    """Evaluate one strategy on a problem set. The same command again goes on with what is missing."""
    from flows.parts import spec
    from search.types import Sampling

    drawing = temperature, top_k, top_p, min_p, repetition_penalty, mirostat_tau, mirostat_eta, confidence, momentum
    sampling = Sampling(*drawing)
    costs = budget, passes, candidates, flops, seconds
    models = encoder, small, constraint
    asked = spec(problems, strategy, verifier, generator, settings, *costs, sampling, seed, tokens, step_tokens, stop, *models)
    _evaluate([asked], [name or ",".join([strategy, *settings])], database, plain, detach, cluster, shard)


@app.command()
def sweep(
    strategy: Annotated[list[str], typer.Option(help="NAME or NAME:KEY=VALUE,...; repeat for each.")],
    problems: ProblemsOption = "word:count=50",
    verifier: VerifierOption = "prm",
    generator: GeneratorOption = "bundled",
    encoder: EncoderOption = None,
    budget: Annotated[list[str], typer.Option(help="Tokens one problem may cost; repeat for each.")] = [],  # noqa: B006
    candidates: CandidatesOption = None,
    flops: FlopsOption = None,
    seconds: SecondsOption = None,
    temperature: TemperatureOption = 1.0,
    top_k: TopKOption = 0,
    top_p: TopPOption = 1.0,
    min_p: MinPOption = 0.0,
    repetition_penalty: PenaltyOption = 1.0,
    mirostat_tau: TauOption = 0.0,
    mirostat_eta: EtaOption = 0.1,
    confidence: ConfidenceOption = 0,
    momentum: MomentumOption = 0.0,
    small: SmallOption = None,
    constraint: ConstraintOption = "",
    stop: StopOption = [],  # noqa: B006
    tokens: TokensOption = 384,
    step_tokens: StepTokensOption = 64,
    seed: Annotated[list[int], typer.Option(help="Repeat for each.")] = [0],  # noqa: B006
    plain: PlainOption = False,
    detach: DetachOption = False,
    cluster: ClusterOption = "",
    shard: ShardOption = 64,
    database: DatabaseOption = DATABASE,
) -> None:
    """Evaluate every strategy at every budget and seed on one problem set."""
    from flows.parts import embeds, spec, switches
    from search.types import Sampling

    drawing = temperature, top_k, top_p, min_p, repetition_penalty, mirostat_tau, mirostat_eta, confidence, momentum
    sampling = Sampling(*drawing)
    if encoder is not None and not any(map(embeds, strategy)):
        raise ValueError(f"none of these strategies embeds; leave --encoder {encoder} out")
    if small is not None and not any(map(switches, strategy)):
        raise ValueError(f"none of these strategies switches to a smaller generator; leave --small {small} out")
    bounds: list[str | None] = [*budget] or [None]
    specs, names = [], []
    for one in strategy:
        for bound in bounds:
            for number in seed:
                costs = bound, None, candidates, flops, seconds
                own = encoder if embeds(one) else None, small if switches(one) else None, constraint
                run = spec(problems, one, verifier, generator, (), *costs, sampling, number, tokens, step_tokens, stop, *own)
                specs.append(run)
                many = f" seed {number}" if len(seed) > 1 else ""
                names.append(one + (f" budget {bound}" if bound else "") + many)
    _evaluate(specs, names, database, plain, detach, cluster, shard)


@app.command()
def resume(
    wanted: RunArgument = "latest",
    restart: Annotated[
        bool, typer.Option("--restart", help="Give up what unfinished searches have, and begin them again.")
    ] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Three more tries for problems that failed.")] = False,
    plain: PlainOption = False,
    database: DatabaseOption = DATABASE,
) -> None:
    """Go on with a run that was interrupted: what it has is replayed, and nothing is generated twice.

    Several processes may work on one run; each takes shards of its problems that no other has.
    """
    from flows import launch, tables

    run_id = launch.resume(wanted, database, restart=restart, retry_failed=retry_failed, plain=plain)
    if tables.compare(database, [run_id]):
        raise typer.Exit(1)


@app.command()
def allocate(
    wanted: RunArgument = "latest",
    n: Annotated[float | None, typer.Option("--n", help="Samples, mean over the problems, the pilot's among them.")] = None,
    budget: Annotated[str | None, typer.Option(help="Or tokens, mean over the problems: 2048, 32k.")] = None,
    by: Annotated[str, typer.Option(help="Difficulty by agreement, entropy, verifier or certainty.")] = "agreement",
    bins: Annotated[int, typer.Option(help="Groups of problems that get the same number.")] = 4,
    most: Annotated[int, typer.Option(help="Samples one problem may have.")] = 64,
    select: Annotated[str, typer.Option(help="The selector of the run that follows.")] = "majority",
    name: Annotated[str, typer.Option(help="A name to find the run by.")] = "",
    dry: Annotated[bool, typer.Option("--dry", help="Show the plan only.")] = False,
    plain: PlainOption = False,
    database: DatabaseOption = DATABASE,
) -> None:
    """Give hard problems more samples: plan from a cheap run of best-of-n, without its verdicts, and run the plan."""
    from flows import allocate as allocating
    from flows import tables
    from flows.parts import count

    wish = allocating.Wish(n, None if budget is None else float(count(budget)), by, bins, most)
    ids = allocating.run(database, wanted, wish, select, name, plain, dry)
    if ids and tables.compare(database, ids):
        raise typer.Exit(1)


@app.command()
def demo(
    problems: Annotated[int, typer.Option(help="Held-out problems of each family.")] = 60,
    plain: PlainOption = False,
    database: DatabaseOption = DATABASE,
) -> None:
    """The main job: several strategies on held-out problems with the bundled models, one table."""
    from flows import demo as showing

    showing.run(problems, database, plain)


def _evaluate(
    specs: list[RunSpec], names: list[str], database: str, plain: bool, detach: bool, cluster: str, shard: int
) -> None:
    from flows import launch, tables

    if detach:
        launch.submit(specs, names, database, shard)
        return
    ids = launch.launch(specs, names, database, plain, cluster, shard)
    if tables.compare(database, ids):
        raise typer.Exit(1)
