"""``tarn``: deploy a lake, put files into it, see what became of them, ask it questions.

Everything but ``up``, ``down``, ``env`` and ``demo`` works on an account as well as on a laptop: it uses boto3's
ordinary configuration and finds the lake through its contract.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console

from tarn import deployment, jars, layers, screen
from tarn.contract import ContractError
from tarn.lake import Lake, QueryError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
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
LOCAL_STATE = Path(".tarn/local")
DEMO_STATE = Path(".tarn/demo")


@contextmanager
def clear_errors() -> Iterator[None]:
    """Turn what can be expected to go wrong into one message and exit status 1; a bug keeps its stack trace."""
    try:
        yield
    except (ContractError, QueryError, deployment.DeploymentError, jars.JarError) as error:
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
) -> None:
    """Deploy the lake of an environment by sam deploy: asset bucket, assets, then the root template or one layer."""
    if wrong := [one for one in parameter or () if "=" not in one]:
        _fail(f"--parameter {wrong[0]!r} is not NAME=VALUE")
    overrides = dict(one.split("=", 1) for one in parameter or ())
    with clear_errors():
        if layer is None:
            deployment.deploy(environment, quality=_is_on(quality), overrides=overrides, say=console.out)
        else:
            names = {"team": team, "pipeline": pipeline, "dataset": dataset}
            layers.deploy(environment, layer, names, quality=_is_on(quality), overrides=overrides, say=console.out)


@app.command()
def package(environment: Environment = "local", quality: Quality = "on") -> None:
    """Upload the assets, and print the parameters by which the root template finds them."""
    with clear_errors():
        prepared = deployment.prepare(environment, quality=_is_on(quality), say=errors.out)
        console.out("\n".join(f"{name}={value}" for name, value in prepared.parameters.items()))


@app.command()
def put(
    dataset: Annotated[str, typer.Argument(metavar="TEAM/DATASET")],
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", exists=True, dir_okay=False)],
    environment: Environment = "local",
) -> None:
    """Land files in the raw zone of a dataset."""
    team, _, name = dataset.partition("/")
    if not team or not name or "/" in name:
        _fail(f"{dataset!r} is not TEAM/DATASET, such as air/flights")
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
) -> None:
    """Show batches, queues, and what needs a person."""
    with clear_errors():
        found = Lake(environment).status(exact=exact)
    if as_json:
        console.out(json.dumps(vars(found), default=_plain, indent=2))
    else:
        screen.show_status(console, found)


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


def _is_on(quality: str) -> bool:
    if quality not in ("on", "off"):
        _fail(f"--quality is {quality!r}: it can be on or off")
    return quality == "on"


def _fail(message: str) -> None:
    errors.print(f"tarn: {message}", style="red", soft_wrap=True, markup=False, highlight=False)
    raise typer.Exit(1)


def _plain(value: Any) -> int | float | str:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return str(value)
