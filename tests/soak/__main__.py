"""Thousands of small objects through a lake under faults, and the end state against what S3 holds: ``make soak``.

    python -m tests.soak 100000 --seed 3

The last line is ``objects N, faults F, lost 0, twice 0``; the exit status is 0 only if it says so, all was put, every
mode of fault has struck, F is at least a tenth of N, queues are empty, the only dead letters are the two messages that
nobody can read, and the catalog agrees. With ``--faults off`` the same load goes through a lake in peace.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionError, HTTPClientError  # noqa: A004

from tarn.local import emulator, faults
from tests.soak import lake as soak_lake
from tests.soak import mutants
from tests.soak.end_state import MOST_SHOWN, Verdict, compare
from tests.soak.load import DATASETS, JUDGED, SPOILED_KEY, Load, Put, body
from tests.soak.operator import POISONED, Operator, is_poison, told

MOST_SMALL = 2000
"""Up to here batches are small and faults are frequent, so that each mode strikes among few opportunities."""
SMALL = soak_lake.Size(least_items=100, most_items=100, run_seconds=60, max_wait_minutes=2)
LARGE = soak_lake.Size(least_items=2500, most_items=5000, run_seconds=200, max_wait_minutes=8)
"""A claim that takes minutes would meet a fault nearly each time, and then its messages hide for ``run_seconds``."""
MOST_BEHIND = 1500
"""Messages that may wait in the two queues of the first hop before the next object is put."""
MOST_BATCHES_BEHIND = 8
"""Full batches that may wait for the second hop: the first hop goes on while a claim that died holds some."""
ASKED_SECONDS = 3
ROUND_SECONDS = 10
CALM_ROUNDS = 2
MOST_FAILED_ROUNDS = 10
PASSING = (ClientError, ConnectionError, HTTPClientError)
"""What a round may fail with: a refusal that outlasts the retries, no connection, no answer in time."""
EMULATOR = {"TARN_AUTOSAVE_SECONDS": "86400", "SFN_WAIT_SCALE": "0.05"}
"""Its waits (of retries in state machines) are a twentieth of AWS's."""
PATIENCE_SECONDS = 600
"""Without any change of what is unsettled, the soak gives up and reports what it sees."""
RATES = {
    True: "duplicate=0.06 reorder=0.06 delay=0.02 expire=0.02 throttle=0.1 deny_key=0.04 kill_before=0.03 "
    "kill_after=0.03 kill_idle=0.1",
    False: "duplicate=0.05 reorder=0.05 delay=0.01 expire=0.01 throttle=0.004 deny_key=0.002 kill_before=0.001 "
    "kill_after=0.001 kill_idle=0.003",
}
BAD_ENDS = {True: 0.08, False: 0.02}
"""Of each of the five bad ends of a job's run."""


def plan_of(objects: int, seed: int) -> faults.Plan:
    """Rates by the number of opportunities: runs of jobs are few at any size, and each of their ends must come."""
    is_small = objects <= MOST_SMALL
    ends = " ".join(f"{mode}={BAD_ENDS[is_small]}" for mode in faults.MODES if mode.startswith("glue_"))
    return faults.Plan.parse(f"seed={seed} {RATES[is_small]} {ends}")


def main() -> int:
    """One soak; 0 when nothing was lost and nothing came twice."""
    options = _options()
    plan = plan_of(options.objects, options.seed) if options.faults == "on" else faults.Plan(options.seed, {})
    state = Path(options.state or tempfile.mkdtemp(prefix="tarn-soak-"))
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {text}", flush=True)

    say(f"state folder {state}")
    is_good = False
    emulator.start(state, options={faults.VARIABLE: plan.text(), **EMULATOR})
    try:
        emulator.use(state)
        is_good = _soak(options, plan, state, say)
    finally:
        is_done_with = is_good or options.mutant
        emulator.stop(state, purge=bool(is_done_with) and not options.state)
        if not is_done_with:
            say(f"what is wrong can be looked at: {state}")
    return 0 if is_good else 1


def _soak(options: argparse.Namespace, plan: faults.Plan, state: Path, say: Callable[[str], None]) -> bool:
    is_small = options.objects <= MOST_SMALL
    is_judged = options.quality == "on" if options.quality else is_small
    size = SMALL if is_small else LARGE
    session = _patient_session()
    deployed = soak_lake.deploy(is_judged, size, session, lambda text: None)
    if options.mutant:
        mutants.apply(options.mutant)
        say(f"the lake is broken on purpose: {options.mutant}")
    operator = Operator(deployed, state, session)
    load = _load(operator, options.objects, options.seed, MOST_BATCHES_BEHIND * size.least_items, Tolerance(say))
    say(f"deployed; {options.objects} objects, batches of {size.least_items}, quality {'on' if is_judged else 'off'}")
    say(plan.text())
    first = time.monotonic()
    with faults.switched_on(state):
        try:
            _put_under_faults(load, operator, is_judged, say)
        finally:
            load.stop()
    spent = time.monotonic() - first
    batches = operator.batches()
    verdict = compare(deployed, load, {str(row["batch_id"]): str(row["state"]) for row in batches})
    return _report(load, plan, verdict, faults.counts(state), operator.unrest(), operator, told(batches), spent)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__.splitlines()[0])
    parser.add_argument("objects", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quality", choices=("on", "off"), help=f"on up to {MOST_SMALL:,} objects, else off")
    parser.add_argument("--faults", choices=("on", "off"), default="on", help="off: the same load in peace, to compare")
    parser.add_argument("--mutant", choices=mutants.MUTANTS)
    parser.add_argument("--state", help="a state folder to keep; else one that is removed at the end if all is well")
    return parser.parse_args()


class Tolerance:
    """Lets a round fail by what a busy emulator does, and raises when too many in a row did."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self._failed = say, 0

    @contextmanager
    def round(self) -> Iterator[None]:
        """One round."""
        try:
            yield
        except PASSING as error:
            self._failed += 1
            self._say(f"round failed, {self._failed} in a row: {type(error).__name__}: {error}")
            if self._failed == MOST_FAILED_ROUNDS:
                raise
        else:
            self._failed = 0


def _patient_session() -> boto3.Session:
    """Of clients that outlast a busy emulator; it is the default session, too."""
    core = botocore.session.get_session()
    core.set_default_client_config(
        Config(read_timeout=300, retries={"total_max_attempts": 10, "mode": "standard"}, max_pool_connections=20)
    )
    boto3.DEFAULT_SESSION = session = boto3.Session(botocore_session=core)
    return session


def _load(operator: Operator, objects: int, seed: int, most_staged: int, tolerance: Tolerance) -> Load:
    """A load that waits while a hop is behind, of which one writer asks every few seconds."""
    lock = threading.Lock()
    is_behind, asked = False, 0.0

    def may_go_on() -> bool:
        nonlocal is_behind, asked
        with lock:
            if time.monotonic() - asked > ASKED_SECONDS:
                with tolerance.round():
                    is_behind = operator.first_hop() >= MOST_BEHIND or operator.staged() >= most_staged
                asked = time.monotonic()
            return not is_behind

    bucket = operator.lake.contract.foundations("raw-bucket/name")
    return Load(operator.session.client("s3"), bucket, objects, seed, may_go_on)


def _put_under_faults(load: Load, operator: Operator, is_judged: bool, say: Callable[[str], None]) -> None:
    """Put everything while an operator looks after the lake, until nothing moves any more."""
    if is_judged:  # one object that breaks a rule: nothing of it may be published, whatever fails
        load.put(Put(SPOILED_KEY, 1, body(SPOILED_KEY, 1, [-5, -6, -7])))
    operator.poison()
    load.start()
    tolerance = Tolerance(say)
    calm, last, since = 0, "", time.monotonic()
    while calm < CALM_ROUNDS:
        unrest = None  # a round that failed tells nothing
        with tolerance.round():
            unrest = _look_after(load, operator, is_judged)
            say(f"{load.done} put; unsettled {unrest}; batches {told(operator.batches())}")
        if load.error:
            return
        calm = calm + 1 if unrest == {} and not load.is_putting() else 0
        if (now := f"{load.done} {unrest}") != last:
            last, since = now, time.monotonic()
        elif time.monotonic() - since > PATIENCE_SECONDS:
            say("nothing changes any more")
            return
        time.sleep(ROUND_SECONDS)


def _look_after(load: Load, operator: Operator, is_judged: bool) -> dict[str, int]:
    """One round; gives what is not settled yet."""
    operator.look_after()
    if not load.is_putting() and not operator.first_hop():
        for dataset in (*DATASETS, *((JUDGED,) if is_judged else ())):
            soak_lake.wake(operator.lake, dataset)
    return operator.unrest()


def _report(
    load: Load,
    plan: faults.Plan,
    verdict: Verdict,
    struck: dict[str, int],
    unrest: dict[str, int],
    operator: Operator,
    settled: str,
    spent: float,
) -> bool:
    total = sum(struck.get(mode, 0) for mode in faults.MODES)
    silent = [mode for mode in plan.rates if not struck.get(mode)]
    print("faults: " + ", ".join(f"{mode} {struck.get(mode, 0)}" for mode in faults.MODES))
    print(f"by hand: {dict(operator.did)}; batches: {settled}")
    print(
        f"published: {verdict.rows} rows of {verdict.expected_rows}, checksum {verdict.checksum} of "
        f"{verdict.expected_checksum}; {verdict.stale} older versions published before they were replaced (STALE)"
    )
    for line in verdict.wrong[:MOST_SHOWN]:
        print(f"WRONG {line}")
    if len(verdict.wrong) > MOST_SHOWN:
        print(f"WRONG ... {len(verdict.wrong)} in all")
    left = operator.poisoned()
    is_poison_kept = left.keys() == set(POISONED) and all(map(is_poison, left.values()))
    if not is_poison_kept:
        print(f"WRONG dead letters, of which one in each of {', '.join(POISONED)} is unreadable: {left}")
    if unrest:
        print(f"WRONG not settled: {unrest}")
    if silent:
        print(f"WRONG never struck: {', '.join(silent)}")
    is_rare = bool(plan.rates) and total < load.objects / 10
    if is_rare:
        print(f"WRONG {total} faults are fewer than a tenth of the objects")
    print(f"{spent:.0f} s, {load.done / spent:.1f} objects/s")
    print(f"objects {load.done}, faults {total}, lost {len(verdict.lost)}, twice {len(verdict.twice)}", flush=True)
    return verdict.is_good and not unrest and not silent and not is_rare and is_poison_kept


if __name__ == "__main__":
    sys.exit(main())
