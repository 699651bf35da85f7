"""``tarn``: deploy a lake, put files into it, see what became of them, ask it questions.

Everything but ``up``, ``down``, ``env`` and ``demo`` works on an account as well as on a laptop: it uses boto3's
ordinary configuration and finds the lake through its contract.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console

from tarn import again, deployment, jars, layers, preconditions, removal, screen, templates, watching
from tarn.contract import ContractError
from tarn.held import HeldError
from tarn.inventory import InventoryError
from tarn.lake import Lake, QueryError
from tarn.logs import Reader

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
new = typer.Typer(no_args_is_help=True, help="Begin something of your own.")
app.add_typer(new, name="new")
console = Console()
errors = Console(stderr=True)

Environment = Annotated[
    str,
    typer.Option(
        "--environment", "-e", envvar="TARN_ENVIRONMENT", help="The lake's environment: local, dev, test, prod."
    ),
]
State = Annotated[Path, typer.Option("--state", help="The folder that holds a local lake.", envvar="TARN_STATE")]
Quality = Annotated[
    str, typer.Option("--quality", help="on, or off to run without Deequ (published data is then not judged).")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
AllowDirty = Annotated[bool, typer.Option("--allow-dirty", help="Deploy prod from a tree that no commit has.")]
Approved = Annotated[bool, typer.Option("--approved", help="A person approves this deployment of prod.")]
AllowLoss = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-loss", metavar="PATH", help="What may lose its data, as tarn diff names it; may be repeated."
    ),
]
Route = Annotated[
    str, typer.Option("--route", envvar="TARN_ROUTE", help="sam, or cloudformation: the AWS CLI, from the same files.")
]
Datasets = Annotated[Path, typer.Option("--datasets", help="The folder of the datasets.")]
DATASETS = templates.ROOT / "datasets"
EXPECTED = (
    ContractError,
    HeldError,
    QueryError,
    InventoryError,
    deployment.DeploymentError,
    preconditions.PreconditionError,
    jars.JarError,
    removal.RemovalError,
    again.RefusedError,
)
LOCAL_STATE = Path(".tarn/local")
DEMO_STATE = Path(".tarn/demo")


@contextmanager
def clear_errors() -> Iterator[None]:
    """Turn what can be expected to go wrong into one message and exit status 1; a bug keeps its stack trace."""
    try:
        yield
    except EXPECTED as error:
        _fail(str(error))
    except BotoCoreError as error:
        remedy = 'For a lake on this machine: eval "$(tarn env)"; for an account: AWS_PROFILE and AWS_DEFAULT_REGION'
        _fail(f"{error} {remedy}")
    except ClientError as error:
        _fail(f"AWS refused {error.operation_name}: {error.response['Error'].get('Message', error)}")


@app.command()
def deploy(
    *,
    environment: Environment = "local",
    quality: Quality = "on",
    layer: Annotated[
        str | None, typer.Option(help="One layer, as a stack of its own: foundations, team, pipeline, dataset.")
    ] = None,
    team: Annotated[str | None, typer.Option(help="Of the layer.")] = None,
    pipeline: Annotated[str | None, typer.Option(help="Of the layer.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Of the layer: a folder of datasets/.")] = None,
    parameter: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Wins over samconfig.toml; may be repeated.")
    ] = None,
    route: Route = deployment.SAM,
    allow_dirty: AllowDirty = False,
    approved: Approved = False,
    allow_loss: AllowLoss = None,
) -> None:
    """Deploy the lake of an environment by sam deploy: asset bucket, assets, then the root template or one layer."""
    overrides = _overrides(parameter)
    with clear_errors():
        if layer is None:
            deployment.deploy(
                environment,
                quality=_is_on(quality),
                overrides=overrides,
                route=route,
                allow_dirty=allow_dirty,
                approved=approved,
                allow_loss=allow_loss or (),
                say=console.out,
            )
        else:
            names = {"team": team, "pipeline": pipeline, "dataset": dataset}
            layers.deploy(
                *(environment, layer, names),
                quality=_is_on(quality),
                overrides=overrides,
                route=route,
                allow_dirty=allow_dirty,
                approved=approved,
                allow_loss=allow_loss or (),
                say=console.out,
            )


@app.command()
def remove(
    *,
    environment: Environment = "local",
    layer: Annotated[
        str | None, typer.Option(help="One layer: foundations, team, pipeline, dataset. Without it, the whole lake.")
    ] = None,
    team: Annotated[str | None, typer.Option(help="Of the layer.")] = None,
    pipeline: Annotated[str | None, typer.Option(help="Of the layer.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Of the layer.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete a stack, unless something stands on it or is under way in it; data and keys stay."""
    with clear_errors():
        found = removal.find(environment, layer, {"team": team, "pipeline": pipeline, "dataset": dataset})
        if not yes:
            typer.confirm(f"Delete the stack {found.stack}?", abort=True)
        left = removal.remove(found, say=console.out)
    console.out(f"{found.stack} is removed. " + ("Left behind:" if left else "Nothing is left behind."))
    for one in left:
        console.out(f"  {one}")


@app.command()
def diff(
    environment: Annotated[str, typer.Argument(metavar="ENV", help="The lake's environment: local, dev, test, prod.")],
    *,
    quality: Quality = "on",
    layer: Annotated[str | None, typer.Option(help="One layer; without it, the whole lake.")] = None,
    team: Annotated[str | None, typer.Option(help="Of the layer.")] = None,
    pipeline: Annotated[str | None, typer.Option(help="Of the layer.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Of the layer.")] = None,
    parameter: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Wins over samconfig.toml; may be repeated.")
    ] = None,
    route: Route = deployment.SAM,
    markdown: Annotated[bool, typer.Option("--markdown", help="For the person who approves.")] = False,
) -> None:
    """Say what a deployment would change in the lake that stands: what loses data first. Changes nothing."""
    overrides = _overrides(parameter)
    with clear_errors():
        if layer is None:
            found = deployment.diff(
                environment, quality=_is_on(quality), overrides=overrides, route=route, say=errors.out
            )
        else:
            names = {"team": team, "pipeline": pipeline, "dataset": dataset}
            found = layers.diff(
                *(environment, layer, names),
                quality=_is_on(quality),
                overrides=overrides,
                route=route,
                say=errors.out,
            )
    console.out(found.markdown() if markdown else found.text())


@app.command()
def bootstrap(
    *,
    part: Annotated[str, typer.Argument(help="pipeline, target, github or drift.")] = "pipeline",
    environment: Annotated[
        str, typer.Option("--environment", "-e", help="Of the pipeline: the last one that a push reaches.")
    ],
    source: Annotated[str | None, typer.Option(help="Of the pipeline: codecommit or connection.")] = None,
    team: Annotated[str | None, typer.Option(help="Whose delivery; without it, that of the whole lake.")] = None,
    parameter: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Of the part's template; may be repeated.")
    ] = None,
) -> None:
    """Make the delivery pipeline, its roles in another account, GitHub's role, or the watch for drift (cicd/)."""
    from tarn.bootstrap import bootstrap as make

    with clear_errors():
        make(part, environment, source=source, team=team, overrides=_overrides(parameter), say=console.out)


@app.command()
def package(
    environment: Environment = "local",
    quality: Quality = "on",
    *,
    allow_dirty: AllowDirty = False,
    approved: Approved = False,
) -> None:
    """Upload the assets, and print the parameters by which the root template finds them."""
    with clear_errors():
        given = deployment.may_begin(environment, allow_dirty=allow_dirty, approved=approved)
        prepared = deployment.prepare(environment, quality=_is_on(quality), say=errors.out)
        parameters = deployment.complete("template.yaml", {**given, **prepared.parameters})
        console.out("\n".join(f"{name}={value}" for name, value in parameters.items()))


@app.command()
def put(
    dataset: Annotated[str, typer.Argument(metavar="TEAM/DATASET")],
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", exists=True, dir_okay=False)],
    environment: Environment = "local",
) -> None:
    """Land files in the raw zone of a dataset."""
    team, name = _team_and_dataset(dataset)
    with clear_errors():
        lake = Lake(environment)
        for file in files:
            console.out(lake.put(team, name, file))


@app.command()
def status(
    environment: Environment = "local",
    exact: Annotated[
        bool, typer.Option("--exact", help="Count objects by state: reads the whole object catalog.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Again every two seconds, until Ctrl-C.")] = False,
) -> None:
    """Show batches, queues, stale datasets, and what needs a person."""
    if watch:
        with clear_errors():
            watching.status(console, lambda: Lake(environment).status(exact=exact))
        return
    with clear_errors():
        found = Lake(environment).status(exact=exact)
    if as_json:
        console.out(json.dumps(vars(found), default=_plain, indent=2))
    else:
        screen.show_status(console, found)


@app.command()
def logs(
    dataset: Annotated[str, typer.Argument(metavar="TEAM/DATASET")],
    *,
    environment: Environment = "local",
    batch: Annotated[str | None, typer.Option(metavar="ID", help="Only what concerns this batch.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="1h", help="How far back: 90s, 15m, 1h, 2d; or from the batch's begin.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with what comes, until Ctrl-C.")] = False,
) -> None:
    """Show what functions, machines and jobs wrote about a dataset, in its order."""
    team, name = _team_and_dataset(dataset)
    now = datetime.now().astimezone()
    with clear_errors():
        lake = Lake(environment)
        reader = Reader(lake, lake.contract.address(team, name), batch)
        try:
            begin = watching.moment(since, now) if since else reader.begin(now)
        except ValueError as error:
            _fail(f"--since {error}")
        watching.lines(console, reader.follow(begin) if follow else reader.lines(begin))


@app.command()
def redrive(
    queue: Annotated[
        str | None, typer.Argument(metavar="QUEUE", help="A dead-letter queue as tarn status calls it.")
    ] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Every dead-letter queue of the lake.")] = False,
    dry_run: DryRun = False,
    rate: Annotated[
        int | None, typer.Option(min=1, max=500, help="Messages in a second; SQS's own pace without it.")
    ] = None,
    environment: Environment = "local",
) -> None:
    """Move dead letters back to the queues that they came from, by SQS's own move; or say what they are."""
    from tarn import operating

    if (queue is None) is not every:
        _fail("name one dead-letter queue, or --all")
    with clear_errors():
        passed = operating.redrive(console, Lake(environment), queue, rate=rate, is_dry=dry_run)
    raise typer.Exit(0 if passed else 1)


@app.command()
def release(
    target: Annotated[str, typer.Argument(metavar="TEAM/DATASET|s3://...")],
    *,
    dry_run: DryRun = False,
    environment: Environment = "local",
) -> None:
    """Send quarantined and too large objects through their pipeline again, once their cause is gone."""
    from tarn import operating

    with clear_errors():
        passed = operating.release(console, Lake(environment), target, is_dry=dry_run)
    raise typer.Exit(0 if passed else 1)


@app.command()
def discard(
    objects: Annotated[list[str], typer.Argument(metavar="s3://...")],
    *,
    reason: Annotated[str | None, typer.Option(help="Why; without it, why it was held.")] = None,
    dry_run: DryRun = False,
    environment: Environment = "local",
) -> None:
    """Accept that held objects go no further: they need nobody any more, and stay in the raw zone."""
    from tarn import operating

    with clear_errors():
        passed = operating.discard(console, Lake(environment), objects, reason, is_dry=dry_run)
    raise typer.Exit(0 if passed else 1)


@app.command()
def query(
    sql: str,
    environment: Environment = "local",
    team: Annotated[
        str | None, typer.Option(help="Whose workgroup and database; needed where there are several.")
    ] = None,
) -> None:
    """Ask Athena about published tables."""
    with clear_errors():
        console.print(screen.answer_table(Lake(environment).query(sql, team)))


@app.command()
def retry(
    batch: Annotated[str, typer.Argument(metavar="BATCH", help="Its id, as tarn status shows it.")],
    environment: Environment = "local",
    dry_run: DryRun = False,
) -> None:
    """Run a batch that failed again: a new attempt, by the registration as it is now."""
    with clear_errors():
        done = again.Again(Lake(environment)).retry(batch, datetime.now(UTC), dry_run=dry_run)
    screen.show_retried(console, done, dry_run=dry_run)


@app.command()
def replay(
    dataset: Annotated[str, typer.Argument(metavar="TEAM/DATASET")],
    *,
    environment: Environment = "local",
    since: Annotated[
        str | None, typer.Option(help="What landed since: 90s, 15m, 1h, 2d ago; or a date or time.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="What landed before.")] = None,
    prefix: Annotated[str, typer.Option(help="What lies below it in the dataset's folder of the raw zone.")] = "",
    source: Annotated[
        str, typer.Option("--from", help="stage, or raw to transform the raw files again, too.")
    ] = "stage",
    dry_run: DryRun = False,
) -> None:
    """Run the batches that hold some objects again; their published rows are replaced, not doubled."""
    team, name = _team_and_dataset(dataset)
    if source not in ("raw", "stage"):
        _fail(f"--from is {source!r}: it can be raw or stage")
    now = datetime.now(UTC)
    selection = again.Selection(prefix, _moment("--since", since, now), _moment("--until", until, now))
    with clear_errors(), screen.progress(console) as advance:
        lake = Lake(environment)
        done = again.Again(lake).replay(
            *(lake.contract.address(team, name), selection, now),
            from_raw=source == "raw",
            dry_run=dry_run,
            advance=advance,
        )
    screen.show_replayed(console, done, dry_run=dry_run)
    raise typer.Exit(1 if done.failed else 0)


@app.command()
def reconcile(
    dataset: Annotated[str | None, typer.Argument(metavar="[TEAM/DATASET]")] = None,
    *,
    environment: Environment = "local",
    fix: Annotated[bool, typer.Option("--fix", help="Repair what can be repaired without a person.")] = False,
    dry_run: DryRun = False,
    inventory: Annotated[
        str | None,
        typer.Option(
            metavar="S3-URI", help="The manifest.json of an S3 Inventory of the raw zone, instead of a listing."
        ),
    ] = None,
    after: Annotated[str, typer.Option(metavar="1h", help="What is younger is on its way, and not judged.")] = "1h",
) -> None:
    """Compare S3 with the object catalog, batches and published tables: missing, extra, stale, stuck.

    Of one dataset the catalog is read by key; of a whole lake, by a scan. The exit status is 1 when something is left.
    """
    from tarn import reconcile_run

    now = datetime.now().astimezone()
    with clear_errors(), console.status("reading") as progress:
        lake = Lake(environment)
        address = lake.contract.address(*_team_and_dataset(dataset)) if dataset else None
        try:
            cut = watching.moment(after, now)
        except ValueError as error:
            _fail(f"--after {error}")
        clean = reconcile_run.run(
            console, lake, address, cut=cut, fix=fix and not dry_run, inventory=inventory, say=progress.update
        )
    raise typer.Exit(0 if clean else 1)


@app.command()
def explain(
    identity: Annotated[str, typer.Argument(metavar="s3://BUCKET/KEY", help="Raw, staged or published.")],
    environment: Environment = "local",
) -> None:
    """Show the whole life of an object: when, which function, which execution, which batch, and why it stopped."""
    from tarn import explain as explaining

    with clear_errors():
        explaining.show(console, explaining.explain(Lake(environment), identity))


@new.command(name="dataset")
def new_dataset(
    name: Annotated[str, typer.Argument(metavar="TEAM/NAME")],
    sample: Annotated[Path, typer.Option("--from", metavar="FILE", help="One of its files: CSV, JSON or Parquet.")],
    *,
    pipeline: Annotated[str, typer.Option(help="The team's pipeline that it goes through.")] = "main",
    python: Annotated[bool, typer.Option("--python", help="Begin with light.py instead of light.sql.")] = False,
    engine: Annotated[
        str, typer.Option(help="Of the heavy transform: glue, fargate, emr-serverless, emr-step, sagemaker.")
    ] = "glue",
    quality: Quality = "on",
    datasets: Datasets = DATASETS,
) -> None:
    """Make a dataset's folder from a sample: registration, transform, rules that Deequ suggests, and a test."""
    from tarn import check_report
    from tarn import new_dataset as making

    with clear_errors(), _dataset_errors(), console.status("reading") as progress:
        found = list(jars.fetch().values()) if _is_on(quality) else None
        created = making.create(
            *(name, sample),
            pipeline=pipeline,
            python=python,
            engine=engine,
            jars=found,
            datasets=datasets,
            say=progress.update,
        )
    check_report.show_created(console, name, created)


@app.command()
def check(
    name: Annotated[str, typer.Argument(metavar="TEAM/NAME")],
    files: Annotated[list[Path] | None, typer.Argument(metavar="[FILE...]")] = None,
    *,
    spark: Annotated[
        bool, typer.Option("--spark/--no-spark", help="Whether Spark transforms and Deequ judges, too.")
    ] = True,
    quality: Quality = "on",
    datasets: Datasets = DATASETS,
) -> None:
    """Run a dataset's transforms and rules on its samples, here and now: nothing is deployed."""
    from tarn import check_run

    with _dataset_errors():
        passed = check_run.run(console, name, files or [], with_spark=spark, quality=_is_on(quality), datasets=datasets)
    raise typer.Exit(0 if passed else 1)


@app.command()
def up(state: State = LOCAL_STATE) -> None:
    """Start the embedded AWS on this machine (loopback only, IAM enforced, TLS)."""
    from tarn.local import emulator

    with _local_errors():
        started = emulator.start(state)
    console.print(
        f'The embedded AWS is at {started.endpoint_url}. Next: eval "$(tarn env)" && tarn deploy', soft_wrap=True
    )


@app.command()
def env(state: State = LOCAL_STATE) -> None:
    """Print the variables by which any AWS client finds the local lake: eval "$(tarn env)"."""
    from tarn.local import emulator

    with _local_errors():
        variables = emulator.client_environment(state)
    for name, value in {**variables, "TARN_ENVIRONMENT": "local"}.items():
        console.out(f"export {name}={value}")


@app.command()
def down(
    state: State = LOCAL_STATE,
    purge: Annotated[bool, typer.Option("--purge", help="Also remove everything the lake holds.")] = False,
) -> None:
    """Stop the embedded AWS; the lake's contents stay unless purged."""
    from tarn.local import emulator

    with _local_errors():
        emulator.stop(state, purge=purge)


@app.command()
def demo(
    quality: Quality = "on",
    state: State = DEMO_STATE,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the lake up afterwards, to look around.")] = False,
) -> None:
    """Run the whole lake on this machine: real files in, a verdict and a published table out."""
    from tarn.local import demo as scenario

    with _local_errors(), clear_errors():
        passed = scenario.run(console, state, quality=_is_on(quality), keep=keep)
    raise typer.Exit(0 if passed else 1)


@contextmanager
def _local_errors() -> Iterator[None]:
    from tarn.local.demo import DemoError
    from tarn.local.emulator import EmulatorError

    try:
        yield
    except (EmulatorError, DemoError) as error:
        _fail(str(error))


def _team_and_dataset(given: str) -> tuple[str, str]:
    team, _, name = given.partition("/")
    if not team or not name or "/" in name:
        _fail(f"{given!r} is not TEAM/DATASET, such as air/flights")
    return team, name


def _moment(option: str, text: str | None, now: datetime) -> datetime | None:
    """A moment as a length of time before now, or as ISO writes it, in UTC where it names no zone."""
    if text is None:
        return None
    try:
        return watching.moment(text, now)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            _fail(f"{option} {text!r} is neither a length of time such as 2d nor a time such as 2026-11-23T12:00")
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@contextmanager
def _dataset_errors() -> Iterator[None]:
    from lake.registration import RegistrationError
    from tarn.check import CheckError
    from tarn.new_dataset import NewDatasetError
    from tarn.registered import FolderError
    from tarn.sample import SampleError
    from tarn.spark import SparkError

    try:
        yield
    except RegistrationError as error:
        _fail(error.whole)
    except (CheckError, NewDatasetError, FolderError, SampleError, SparkError) as error:
        _fail(str(error))


def _overrides(parameter: list[str] | None) -> dict[str, str]:
    if wrong := [one for one in parameter or () if "=" not in one]:
        _fail(f"--parameter {wrong[0]!r} is not NAME=VALUE")
    return dict(one.split("=", 1) for one in parameter or ())


def _is_on(quality: str) -> bool:
    if quality not in ("on", "off"):
        _fail(f"--quality is {quality!r}: it can be on or off")
    return quality == "on"


def _fail(message: str) -> NoReturn:
    errors.print(f"tarn: {message}", style="red", soft_wrap=True, markup=False, highlight=False)
    raise typer.Exit(1)


def _plain(value: Any) -> int | float | str:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return str(value)
