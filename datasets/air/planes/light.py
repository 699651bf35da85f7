"""Light transform of the aircraft: makers that the file spells in several ways get one name."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

MAKERS = {
    "AIRBUS INDUSTRIE": "AIRBUS",
    "BOMBARDIER INC": "BOMBARDIER",
    "MCDONNELL DOUGLAS AIRCRAFT CO": "MCDONNELL DOUGLAS",
    "MCDONNELL DOUGLAS CORPORATION": "MCDONNELL DOUGLAS",
}
"""The registry's spellings of one maker, as they occur in the file."""


def transform(path: Path) -> Iterator[Mapping[str, object]]:
    """One row an aircraft, in the columns that the registration declares."""
    with path.open(encoding="utf-8", newline="") as file:
        for plane in csv.DictReader(file):
            maker = plane["manufacturer"].strip().upper()
            yield {
                "tailnum": plane["tailnum"].strip().upper(),
                "built": number(plane["year"]),
                "kind": plane["type"].strip().lower(),
                "manufacturer": MAKERS.get(maker, maker),
                "model": plane["model"].strip(),
                "engines": number(plane["engines"]),
                "engine": plane["engine"].strip().lower(),
                "seats": number(plane["seats"]),
                "speed_mph": number(plane["speed"]),
            }


def number(text: str) -> int | None:
    """A whole number; the file writes NA where there is none."""
    return None if text in ("", "NA") else int(text)
