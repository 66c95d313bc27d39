"""The command line. Data go to standard output, progress and errors to standard error.

Exit codes: 0 done, 1 some problems failed or an audit found something, 2 usage, 65 bad data (a file, a model, a database,
a journal that is another search's), 69 the sandbox that is needed cannot be made, 74 cannot be written (a full disk), 75 try
again later (a server that is away, a shard that another process has), 130 interrupted, 143 terminated.
Nothing heavy is imported before a command needs it, so that --help answers at once.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from flows import verifier as verifying

if TYPE_CHECKING:
    from search.types import RunSpec
    from store.database import Database

app = typer.Typer(
    name="ponderosa",
    help="Spend compute at inference time to make a language model's answers better; keep every candidate.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

app.add_typer(verifying.app, name="verifier")

FOLDER = ".ponderosa"
DATABASE = os.path.join(FOLDER, "ponderosa.db")

DatabaseOption = Annotated[str, typer.Option("--database", "-d", envvar="PONDEROSA_DATABASE", help="File or URL.")]
StrategyOption = Annotated[str, typer.Option(help="NAME or NAME:KEY=VALUE,...; `ponderosa strategies` lists them.")]
SettingOption = Annotated[list[str], typer.Option("--set", help="KEY=VALUE for the strategy; may be repeated.")]
VerifierOption = Annotated[str, typer.Option(help="prm, logprob, self-certainty, equation or ensemble, with :KEY=VALUE,...")]
GeneratorOption = Annotated[str, typer.Option(help="'bundled', a Hugging Face folder, a hub name, or openai:URL.")]
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
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Id, beginning of an id, name, or 'latest'.")]


@app.callback()
def options(debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False) -> None:
    """Options before the command."""
    if debug:
        os.environ["PONDEROSA_DEBUG"] = "1"


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
    _evaluate([asked], [name or ",".join([strategy, *settings])], database, plain)


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
    _evaluate(specs, names, database, plain)


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


@app.command("import")
def import_(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Files, or a folder of them.")],
    format: Annotated[
        str, typer.Option(help="ponderosa, search-and-learn, rebase, openr, monkeys or lm-eval.", show_default=False)
    ],
    name: Annotated[str, typer.Option(help="A name to find the run by.")] = "",
    grade: Annotated[bool, typer.Option(help="Grade what was chosen, and compare the file's verdicts.")] = True,
    join: Annotated[str, typer.Option(help="How steps' scores become one: last, min, prod, mean; else the format's.")] = "",
    style: Annotated[str, typer.Option(help="Of the answers: math, generic, gsm8k, aime, word, guess, countdown.")] = "math",
    tokenizer: Annotated[
        str, typer.Option(help="Count the tokens of texts without a count: 'bundled', or a folder with a tokenizer.json.")
    ] = "",
    database: DatabaseOption = DATABASE,
) -> None:
    """Bring in candidates that were written elsewhere, as a run. The same files again change nothing."""
    from flows import imports, tables

    if os.path.dirname(database) == FOLDER:
        os.makedirs(FOLDER, exist_ok=True)
    run_id, lines = imports.run(database, files, format, name, grade, join, style, tokenizer)
    for line in lines:
        typer.echo(line)
    typer.echo(f"\nrun       {run_id}")
    tables.hints(run_id, database)


@app.command()
def audit(
    wanted: Annotated[
        str | None, typer.Argument(metavar="RUN", help="Id, name or 'latest'; all runs where it is left out.")
    ] = None,
    replay: Annotated[
        str, typer.Option(help="Searches of each run to replay from their journals: a number, or 'all'.")
    ] = "200",
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    database: DatabaseOption = DATABASE,
) -> None:
    """Check that nothing is lost and nothing is counted twice. Exit code 1 where something is wrong."""
    from flows import audit as auditing

    if replay != "all" and not replay.isdigit():
        raise ValueError(f"--replay must be a number or 'all', not '{replay}'")
    with _stored(database) as opened:
        raise typer.Exit(auditing.run(opened, wanted, None if replay == "all" else int(replay), json))


@app.command()
def doctor(
    json: Annotated[bool, typer.Option("--json", help="One JSON list instead of lines.")] = False,
    database: DatabaseOption = DATABASE,
) -> None:
    """What could keep it from working here: versions, database, disk, sandbox, devices, Prefect, models."""
    from flows import doctor as examining

    raise typer.Exit(examining.run(database, json))


@app.command()
def demo(
    problems: Annotated[int, typer.Option(help="Held-out problems of each family.")] = 60,
    plain: PlainOption = False,
    database: DatabaseOption = DATABASE,
) -> None:
    """The main job: several strategies on held-out problems with the bundled models, one table."""
    from flows import demo as showing

    showing.run(problems, database, plain)


@app.command()
def show(
    wanted: RunArgument = "latest",
    problem: Annotated[str | None, typer.Option(help="Show this problem's search tree.")] = None,
    database: DatabaseOption = DATABASE,
) -> None:
    """A run: what it was, what came out, what it cost, and what other selectors would have chosen."""
    from flows import tables

    with _stored(database) as opened:
        tables.show_run(opened, wanted, problem)


@app.command()
def runs(database: DatabaseOption = DATABASE) -> None:
    """All runs, the newest first."""
    from flows import tables

    with _stored(database) as opened:
        tables.list_all(opened)


@app.command()
def candidates(
    wanted: RunArgument = "latest",
    problem: Annotated[str | None, typer.Option(help="Only this problem's.")] = None,
    state: Annotated[str | None, typer.Option(help="Only those live, pruned, merged, finished, cancelled or failed.")] = None,
    limit: Annotated[int, typer.Option(help="Rows at most.", min=1)] = 50,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    database: DatabaseOption = DATABASE,
) -> None:
    """The candidates of a run, pruned ones too."""
    from flows import tables

    with _stored(database) as opened:
        tables.list_candidates(opened, wanted, problem, state, limit, json)


@app.command()
def reselect(
    wanted: RunArgument = "latest",
    selector: Annotated[list[str], typer.Option(help="NAME or NAME:KEY=VALUE,...; repeat. All that the data allow.")] = [],  # noqa: B006
    join: Annotated[str | None, typer.Option(help="last, min, prod or mean: read the scores of steps so.")] = None,
    n: Annotated[str | None, typer.Option("--n", help="Sizes of subsets: 1,2,4 or 'all'. Powers of two.")] = None,
    budget: Annotated[list[str], typer.Option(help="Tokens: the first solutions that fit; repeat for each.")] = [],  # noqa: B006
    resamples: Annotated[int, typer.Option(help="Random subsets, where all are too many.")] = 100,
    seed: Annotated[int, typer.Option(help="Seed of the subsets and of the intervals.")] = 0,
    verifier: Annotated[str | None, typer.Option(help="Whose scores; or a signal: entropy, confidence:group=tail.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    database: DatabaseOption = DATABASE,
) -> None:
    """What any selector would have chosen from fewer of a run's candidates, with no generation."""
    from flows import reselect as reselecting

    with _stored(database) as opened:
        reselecting.run(opened, wanted, selector, join, n, budget, resamples, seed, verifier, json)


@app.command()
def compare(
    wanted: Annotated[list[str], typer.Argument(metavar="RUN RUN...", help="Runs; RUN+RUN are seeds of one, averaged.")],
    cost: Annotated[str, typer.Option(help="What equal cost is in: tokens, sequential, passes, flops, seconds.")] = "tokens",
    intersect: Annotated[bool, typer.Option("--intersect", help="Compare over the problems that all have.")] = False,
    resamples: Annotated[int, typer.Option(help="Of the bootstrap over problems.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap and of the subsets.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    database: DatabaseOption = DATABASE,
) -> None:
    """Runs over the same problems: paired differences with intervals and tests, cost ratios, and accuracy at equal cost."""
    from flows import compare as comparing

    with _stored(database) as opened:
        comparing.run(opened, wanted, cost, intersect, resamples, seed, json)


@app.command()
def models() -> None:
    """The bundled models and their measured figures."""
    from flows import tables

    tables.list_models()


@app.command()
def strategies() -> None:
    """Strategies, selectors and verifiers with their parameters."""
    from flows import tables

    tables.list_strategies()


# ------------------------------------------------------------------------------------------------------------ internals


@contextmanager
def _stored(database: str) -> Iterator[Database]:
    """An existing database; a file that is not there has no runs to show."""
    from sqlalchemy.exc import DBAPIError

    from store.database import explained, open_database

    with open_database(database, create=False) as opened:
        try:
            yield opened
        except DBAPIError as error:
            raise explained(error, opened.shown, "read") from error


def _evaluate(specs: list[RunSpec], names: list[str], database: str, plain: bool) -> None:
    from flows import launch, tables

    ids = launch.launch(specs, names, database, plain)
    if tables.compare(database, ids):
        raise typer.Exit(1)


class _Stopped(BaseException):
    """Ctrl-C or SIGTERM: what was answered is written, and the lease is given back. No KeyboardInterrupt, which the libraries
    between here and the work take for theirs."""


def _stop(signum: int, frame: object) -> None:
    signal.signal(signum, signal.SIG_DFL)  # a second one ends the process at once
    raise _Stopped(signum)


def _say_stopped(signum: int) -> None:
    how = "interrupted" if signum == signal.SIGINT else "terminated"
    sys.stderr.write(f"ponderosa: {how}; the same command again, or `ponderosa resume`, goes on from here\n")
    raise SystemExit(128 + signum)


def _explained(error: BaseException) -> BaseException:
    """A database driver's error in the store's words."""
    if not type(error).__module__.startswith("sqlalchemy."):
        return error
    from sqlalchemy.exc import DBAPIError

    from store.database import explained

    return explained(error, "in use", "use") if isinstance(error, DBAPIError) else error


def main() -> None:
    """The entry point: every error that is the user's to mend is one line and an exit code."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # its warnings are not the user's to mend
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, _stop)
    try:
        app()
    except _Stopped as stop:
        _say_stopped(int(stop.args[0]))
    except BaseException as error:
        if type(error).__name__ == "TerminationSignal":  # what Prefect makes of SIGTERM within a flow
            _say_stopped(signal.SIGTERM)
        error = _explained(error)
        exits = getattr(error, "exit_code", 2 if isinstance(error, ValueError) else None)
        if os.environ.get("PONDEROSA_DEBUG") or exits is None:
            raise error
        sys.stderr.write(f"ponderosa: {' '.join(str(error).split())}\n")
        raise SystemExit(exits) from None


if __name__ == "__main__":
    main()
