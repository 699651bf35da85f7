"""``tarn reconcile``, from reading to repairs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import boto3
from rich.console import Console

from lake import clock
from tarn import reconcile, reconcile_screen
from tarn.contract import DatasetAddress
from tarn.lake import Lake
from tarn.ledger import Ledger
from tarn.reconcile_screen import Tally
from tarn.repairs import Repairer
from tarn.survey import Survey


def run(
    console: Console,
    lake: Lake,
    address: DatasetAddress | None,
    *,
    cut: datetime,
    fix: bool,
    inventory: str | None,
    say: Callable[[str], None],
    session: boto3.Session | None = None,
) -> bool:
    """Compare a lake, or one dataset of it, and repair it if that is asked for; gives whether nothing is left to do.

    Raises:
        InventoryError: the inventory cannot be used.
    """
    with TemporaryDirectory(prefix="tarn-reconcile-") as folder:
        ledger = Ledger(Path(folder))
        used = session or boto3.Session()
        survey = Survey(lake, ledger, Path(folder), address, cut=cut, say=say, session=used, inventory_uri=inventory)
        tally = Tally()
        found = tally.count(reconcile.findings(survey))
        repairer = Repairer(survey, clock.now()) if fix else None
        deque(repairer.repair(found) if repairer else found, maxlen=0)
        ledger.close()
    how = "its catalog rows by key" if address else "its catalog by a scan"
    reconcile_screen.show(console, tally, f"{address or 'the whole lake'}, {how}")
    if repairer and tally.total:
        reconcile_screen.show_repairs(console, repairer.made, repairer.refused)
        return not tally.unrepaired and not repairer.refused
    return not tally.total
