"""What goes on until the person who looks has seen enough: the lake's state every two seconds, logs as they come."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from time import sleep

from rich.console import Console
from rich.live import Live

from tarn import screen
from tarn.lake import Status
from tarn.logs import Line

REFRESH_SECONDS = 2.0
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@contextmanager
def until_interrupted() -> Iterator[None]:
    """Take Ctrl-C for what it means here: enough."""
    try:
        yield
    except KeyboardInterrupt:
        return


def status(console: Console, look: Callable[[], Status], refresh_seconds: float = REFRESH_SECONDS) -> None:
    """Show the lake's state, and again every two seconds, until Ctrl-C."""
    with until_interrupted(), Live(screen.status_view(look()), console=console, auto_refresh=False) as live:
        while True:
            sleep(refresh_seconds)
            live.update(screen.status_view(look()), refresh=True)


def lines(console: Console, given: Iterable[Line]) -> None:
    """Print lines as they come, until there are no more or Ctrl-C."""
    with until_interrupted():
        for line in given:
            console.print(screen.log_line(line), soft_wrap=True)


def moment(text: str, now: datetime) -> datetime:
    """The moment that lies ``text`` (``90s``, ``15m``, ``1h``, ``2d``) before ``now``.

    Raises:
        ValueError: it is not a length of time.
    """
    found = re.fullmatch(r"([0-9]{1,6})([smhd])", text)
    if not found:
        raise ValueError(f"{text!r} is not a length of time such as 90s, 15m, 1h or 2d")
    return now - timedelta(**{UNITS[found[2]]: int(found[1])})
