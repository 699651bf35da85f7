"""The demo: every step of the way of a file, on this machine, checked against the source at the end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
from rich.console import Console
from rich.text import Text

from tarn import deployment, screen
from tarn.lake import Answer, Lake, QueryError
from tarn.local import emulator
from tarn.templates import ROOT

AIR = ROOT / "datasets" / "air"
FLIGHTS = AIR / "flights" / "samples"
SPOILED = AIR / "flights" / "samples-spoiled" / "2013-02-01.csv"
WEATHER = ROOT / "datasets" / "sky" / "weather" / "samples"
ODD_NAME = "2013-01-31 (1+1=2) 100% Größe, ñandú.csv"
FIRST = ("flights", "airports", "planes", "weather")
OTHERS = ("airports", "planes", "weather", "airlines")
PATIENCE_SECONDS = 600
"""Bound of each wait: several ticks of a minute and two Spark jobs, on a slow machine."""
JPEG = (
    bytes.fromhex("ffd8ffe000104a46494600010100000100010000ffdb004300") + bytes(range(256)) * 8 + bytes.fromhex("ffd9")
)

QUESTION = """
SELECT count(*) AS flights, sum(distance) AS miles, sum(dep_delay) AS minutes_late,
       count(CASE WHEN cancelled THEN 1 END) AS cancelled
FROM flights"""
SOURCE_QUESTION = f"""
SELECT count(*), sum(distance), sum(dep_delay), count(*) - count(dep_time)
FROM read_csv('{FLIGHTS}/*.csv', nullstr = 'NA')"""  # noqa: S608 (our own path)


WEATHER_QUESTION = """
SELECT airport, count(*) AS hours, min(temperature_f) AS coldest, max(wind_gust_mph) AS gust
FROM weather_view GROUP BY airport ORDER BY airport"""
WEATHER_SOURCE_QUESTION = f"""
SELECT origin, count(*), min(air.temp_f), max(wind.gust_mph)
FROM read_json('{WEATHER}/*') GROUP BY origin ORDER BY origin"""  # noqa: S608 (our own path)


class DemoError(Exception):
    """The lake did not come to where it should, in time; the message says what it waited for and what it saw."""


@dataclass
class Run:
    """One run of the demo: the lake, and what was compared."""

    console: Console
    lake: Lake
    checks: list[tuple[str, str, str]] = field(default_factory=list)

    def expect(self, what: str, expected: object, actual: object) -> None:
        """Note a comparison for the last screen."""
        self.checks.append((what, str(expected), str(actual)))

    @property
    def passed(self) -> bool:
        """Whether everything was as expected."""
        return all(expected == actual for _, expected, actual in self.checks)


def run(console: Console, state: Path, *, quality: bool, keep: bool) -> bool:
    """Start, deploy, put, watch, ask; gives whether everything was as it should be.

    Raises:
        DemoError, EmulatorError, DeploymentError, JarError: with what stood in the way.
    """
    began = time.monotonic()
    emulator.stop(state, purge=True)
    if not quality:
        console.print("Quality is off: what is published in this run was NOT judged.", style="bold yellow")
    with step(console, "start the embedded AWS (loopback, TLS, IAM enforced)"):
        emulator.start(state)
    emulator.use(state)
    try:
        with step(console, "deploy foundations, two teams with their pipelines, four datasets") as say:
            deployment.deploy("local", quality=quality, overrides={"AirAirlinesAssetPrefix": ""}, say=say)
        demo = Run(console, Lake("local"))
        _play(demo, state / "files", quality=quality)
        _show(demo, quality=quality)
    finally:
        if not keep:
            emulator.stop(state)
    console.print(f"\n{'Passed' if demo.passed else 'FAILED'} in {time.monotonic() - began:.0f} s.", style="bold")
    if keep:
        console.print(
            f'The lake is still up: eval "$(tarn env --state {state})" && tarn status; tarn down --state {state}'
        )
    return demo.passed


def _play(demo: Run, folder: Path, *, quality: bool) -> None:
    lake, console = demo.lake, demo.console
    with step(console, "put flights, airports, aircraft, the weather, and four files that are trouble"):
        days = sorted(FLIGHTS.glob("*.csv"))
        good = [lake.put("air", "flights", day) for day in days[:-1]]
        odd = lake.put("air", "flights", days[-1], ODD_NAME)
        others = [
            lake.put("air", "airports", AIR / "airports" / "samples" / "airports.csv"),
            lake.put("air", "planes", AIR / "planes" / "samples" / "planes.csv"),
            *(lake.put("sky", "weather", file) for file in sorted(WEATHER.iterdir())),
        ]
        jpeg = lake.put("air", "flights", _file(folder, "picture.csv", JPEG))
        empty = lake.put("air", "flights", _file(folder, "empty.csv", b""))
        unknown = lake.put("air", "airlines", AIR / "airlines" / "samples" / "airlines.csv")
    with step(console, "first hop: each object is catalogued, routed and made typed Parquet") as say:
        wanted = dict.fromkeys((*good, odd, *others), "STAGED") | {
            jpeg: "QUARANTINED",
            empty: "QUARANTINED",
            unknown: "UNROUTED",
        }
        _wait(lambda: _states(lake, wanted), wanted, say)
    demo.expect("the object with an odd key", "STAGED", _state(lake, odd))
    demo.expect("the .csv that is a JPEG", "QUARANTINED", _state(lake, jpeg))
    demo.expect("the empty file's reason", "empty", (lake.object_row(empty) or {}).get("reason"))
    demo.expect("the file of an unregistered dataset", "UNROUTED", _state(lake, unknown))
    with step(console, "the rule fires by itself (every minute here): objects become batches") as say:
        _wait(
            lambda: {name: bool(_batches(lake, name)) for name in FIRST},
            dict.fromkeys(FIRST, True),
            say,
        )
    spoiled = lake.put("air", "flights", SPOILED)
    with step(console, "deploy again with one more dataset, while batches are under way") as say:
        deployment.deploy("local", quality=quality, say=say)
    lake = demo.lake = Lake("local")
    last = {
        "flights": "PUBLISHED",
        "spoiled flights": "FAILED_QUALITY" if quality else "PUBLISHED",
    } | dict.fromkeys(OTHERS, "PUBLISHED")
    judged = "Deequ judges, what passes is published" if quality else "nothing is judged, all is published"
    with step(console, f"second hop: Spark transforms, {judged}") as say:
        _wait(lambda: _outcomes(lake, spoiled), last, say)
    for name, outcome in _outcomes(lake, spoiled).items():
        demo.expect(f"batch of {name}", last[name], outcome)
    demo.expect("the object that waited for its dataset", "STAGED", _state(lake, unknown))


def _show(demo: Run, *, quality: bool) -> None:
    lake, console = demo.lake, demo.console
    status = lake.status(exact=True)
    console.rule("The lake")
    screen.show_status(console, status)
    for batch in sorted(status.batches, key=lambda row: str(row["created_at"])):
        if batch.get("quality", {}).get("rules"):
            console.print(screen.verdict_table(batch))
    if not quality:
        console.print("Quality was not judged in this run (QUALITY=off).", style="bold yellow")
    console.rule("The questions")
    source = duckdb.execute(SOURCE_QUESTION).fetchall()[0]
    answer = _ask(demo, QUESTION, "air")
    if quality:
        demo.expect("flights, miles, minutes late, cancelled", _figures(source), _figures(answer.rows[0]))
        demo.expect("flights published", "27004", answer.rows[0][0])
    answer = _ask(demo, WEATHER_QUESTION, "sky")
    hours = duckdb.execute(WEATHER_SOURCE_QUESTION).fetchall()
    demo.expect("coldest hour and strongest gust by airport", _cells(hours), _cells(answer.rows))
    demo.expect(
        "published output objects in the catalog",
        True,
        any("analytics PUBLISHED" in states for states in status.objects.values()),
    )
    demo.expect("messages left in queues", 0, sum(sum(depth.values()) for depth in status.queues.values()))
    console.rule("Expected and found")
    table = screen.table("", "what", "expected", "found", "")
    for what, expected, actual in demo.checks:
        table.add_row(
            what, expected, actual, Text("ok", "green") if expected == actual else Text("DIFFERS", "bold red")
        )
    console.print(table)


def _ask(demo: Run, question: str, team: str) -> Answer:
    demo.console.print(question.strip(), style="cyan", highlight=False)
    try:
        answer = demo.lake.query(question, team)
    except QueryError as error:
        answer = Answer(["error"], [[str(error)]])
    demo.console.print(screen.answer_table(answer))
    return answer


def _cells(rows: Any) -> str:
    return "; ".join(", ".join(map(str, row)) for row in rows)


def _figures(row: Any) -> str:
    return ", ".join(f"{int(float(value)):,}" for value in row)


def _file(folder: Path, name: str, content: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return folder / name


def _state(lake: Lake, identity: str) -> str:
    return str((lake.object_row(identity) or {}).get("state", "not there yet"))


def _states(lake: Lake, identities: Any) -> dict[str, str]:
    return {one: _state(lake, one) for one in identities}


def _batches(lake: Lake, dataset: str) -> list[dict[str, Any]]:
    return [
        row for row in lake.status().batches if row["dataset"] == dataset and row["state"] not in ("OPEN", "ABANDONED")
    ]


def _outcomes(lake: Lake, spoiled: str) -> dict[str, str]:
    """The state of each batch by what is in it: the spoiled file's batch is the last of the flights."""
    flights = sorted(_batches(lake, "flights"), key=lambda row: str(row["batch_id"]))
    outcomes = {
        "flights": str(flights[0]["state"]),
        "spoiled flights": str(flights[1]["state"]) if len(flights) > 1 else "waits",
    }
    for dataset in OTHERS:
        found = _batches(lake, dataset)
        outcomes[dataset] = str(found[0]["state"]) if found else "waits"
    return outcomes


def _wait(look: Callable[[], dict[str, Any]], wanted: dict[str, Any], say: Callable[[str], None]) -> None:
    """Look until what is seen is what is wanted, or nothing can change any more, or patience ends."""
    until = time.monotonic() + PATIENCE_SECONDS
    final = {"PUBLISHED", "FAILED", "FAILED_QUALITY"}
    while (seen := look()) != wanted:
        say(", ".join(f"{count} {state}" for state, count in Counter(map(str, seen.values())).items()))
        if set(seen.values()) <= final:
            return
        if time.monotonic() > until:
            differing = {
                name: f"{state} instead of {wanted[name]}" for name, state in seen.items() if state != wanted[name]
            }
            raise DemoError(f"after {PATIENCE_SECONDS} s: {differing}")
        time.sleep(1)


@contextmanager
def step(console: Console, what: str) -> Iterator[Callable[[str], None]]:
    """A line with a spinner that becomes a line with a time."""
    began = time.monotonic()
    with console.status(what) as status:
        yield lambda text: status.update(f"{what}: {Text(text[:100]).plain}")
    console.print(f"[green]✓[/green] {what} [dim]({time.monotonic() - began:.0f} s)[/dim]", highlight=False)
