"""Thousands of small objects through a lake under faults, and the end state against what S3 holds: ``make soak``.

    python -m tests.soak 100000 --seed 3

The last line is ``objects N, faults F, lost 0, twice 0``; the exit status is 0 only if it says so, every mode of fault
has struck, F is at least a tenth of N, queues and dead letters are empty and the catalog agrees.
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
from botocore.config import Config

from tarn.local import emulator, faults
from tests.soak import lake as soak_lake
from tests.soak import mutants
from tests.soak.end_state import MOST_SHOWN, Verdict, compare
from tests.soak.load import DATASETS, JUDGED, SPOILED_KEY, Load, Put, body
from tests.soak.operator import Operator, told

MOST_SMALL = 2000
"""Up to here batches are small and faults are frequent, so that each mode strikes among few opportunities."""
SMALL = soak_lake.Size(most_items=100, run_seconds=60, max_wait_minutes=2)
LARGE = soak_lake.Size(most_items=1000, run_seconds=300, max_wait_minutes=10)
MOST_BEHIND = 1500
"""Messages that may wait in the two queues of the first hop before the next object is put."""
ROUND_SECONDS = 10
CALM_ROUNDS = 2
PATIENCE_SECONDS = 600
"""Without any change of what is unsettled, the soak gives up and reports what it sees."""
RATES = {
    True: "duplicate=0.06 reorder=0.06 delay=0.02 expire=0.02 throttle=0.1 deny_key=0.04 kill_before=0.03 "
    "kill_after=0.03 kill_idle=0.1",
    False: "duplicate=0.05 reorder=0.05 delay=0.01 expire=0.01 throttle=0.1 deny_key=0.03 kill_before=0.005 "
    "kill_after=0.005 kill_idle=0.02",
}


def plan_of(objects: int, seed: int) -> faults.Plan:
    """Rates by the number of opportunities: runs of jobs are few, and each of their ends must come."""
    runs = min(0.08, max(0.02, 800 / objects))
    ends = " ".join(f"{mode}={runs}" for mode in faults.MODES if mode.startswith("glue_"))
    return faults.Plan.parse(f"seed={seed} {RATES[objects <= MOST_SMALL]} {ends}")


def main() -> int:
    """One soak; 0 when nothing was lost and nothing came twice."""
    options = _options()
    is_small = options.objects <= MOST_SMALL
    is_judged = options.quality == "on" if options.quality else is_small
    plan = plan_of(options.objects, options.seed)
    size = SMALL if is_small else LARGE
    state = Path(options.state or tempfile.mkdtemp(prefix="tarn-soak-"))
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {text}", flush=True)

    say(f"state folder {state}")
    with _emulator(state, plan):
        deployed = soak_lake.deploy(is_judged, size, lambda text: None)
        if options.mutant:
            mutants.apply(options.mutant)
            say(f"the lake is broken on purpose: {options.mutant}")
        operator = Operator(deployed, state)
        load = _load(operator, options.objects, options.seed)
        say(
            f"deployed; {options.objects} objects, batches of {size.most_items}, quality {'on' if is_judged else 'off'}"
        )
        say(plan.text())
        first = time.monotonic()
        with faults.switched_on(state):
            _put_under_faults(load, operator, is_judged, say)
        spent = time.monotonic() - first
        verdict = compare(deployed, load)
        struck = faults.counts(state)
        unrest, settled = operator.unrest(), told(operator.batches())
    return _report(options.objects, plan, verdict, struck, unrest, operator, settled, spent)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__.splitlines()[0])
    parser.add_argument("objects", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quality", choices=("on", "off"), help=f"on up to {MOST_SMALL:,} objects, else off")
    parser.add_argument("--mutant", choices=mutants.MUTANTS)
    parser.add_argument("--state", help="a state folder to keep; else one that is removed at the end")
    return parser.parse_args()


@contextmanager
def _emulator(state: Path, plan: faults.Plan) -> Iterator[None]:
    """An embedded AWS with these faults; its waits (of retries in state machines) are a twentieth of AWS's."""
    emulator.start(
        state, options={faults.VARIABLE: plan.text(), "TARN_AUTOSAVE_SECONDS": "86400", "SFN_WAIT_SCALE": "0.05"}
    )
    try:
        emulator.use(state)
        yield
    finally:
        emulator.stop(state, purge=True)


def _load(operator: Operator, objects: int, seed: int) -> Load:
    bucket = operator.lake.contract.foundations("raw-bucket/name")
    behind = {"first hop": 0}

    def look() -> None:
        while True:
            behind["first hop"] = operator.first_hop()
            time.sleep(1)

    threading.Thread(target=look, daemon=True).start()
    s3 = boto3.client("s3", config=Config(retries={"total_max_attempts": 10, "mode": "standard"}))
    return Load(s3, bucket, objects, seed, lambda: behind["first hop"] < MOST_BEHIND)


def _put_under_faults(load: Load, operator: Operator, is_judged: bool, say: Callable[[str], None]) -> None:
    """Put everything while an operator looks after the lake, until nothing moves any more."""
    if is_judged:  # one object that breaks a rule: nothing of it may be published, whatever fails
        load.put(Put(SPOILED_KEY, 1, body(SPOILED_KEY, 1, [-5, -6, -7])))
    writing = threading.Thread(target=load.run)
    writing.start()
    calm, last, since = 0, "", time.monotonic()
    while calm < CALM_ROUNDS:
        operator.look_after()
        if not writing.is_alive() and not operator.first_hop():
            for dataset in (*DATASETS, *((JUDGED,) if is_judged else ())):
                soak_lake.wake(operator.lake, dataset)
        unrest = operator.unrest()
        say(f"{load.done} put; unsettled {unrest}; batches {told(operator.batches())}")
        calm = 0 if writing.is_alive() or unrest else calm + 1
        if (now := f"{load.done} {unrest}") != last:
            last, since = now, time.monotonic()
        elif time.monotonic() - since > PATIENCE_SECONDS:
            say("nothing changes any more")
            return
        time.sleep(ROUND_SECONDS)


def _report(
    objects: int,
    plan: faults.Plan,
    verdict: Verdict,
    struck: dict[str, int],
    unrest: dict[str, int],
    operator: Operator,
    settled: str,
    spent: float,
) -> int:
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
    if unrest:
        print(f"WRONG not settled: {unrest}")
    if silent:
        print(f"WRONG never struck: {', '.join(silent)}")
    if total < objects / 10:
        print(f"WRONG {total} faults are fewer than a tenth of the objects")
    print(f"{spent:.0f} s, {objects / spent:.1f} objects/s")
    print(f"objects {objects}, faults {total}, lost {len(verdict.lost)}, twice {len(verdict.twice)}")
    return 0 if verdict.is_good and not unrest and not silent and total >= objects / 10 else 1


if __name__ == "__main__":
    sys.exit(main())
