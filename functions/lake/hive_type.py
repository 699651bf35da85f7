"""Reading the types of the Glue Data Catalog, which are Hive's: ``struct<name:string,tags:array<string>>``."""

from __future__ import annotations

import re


def parts_of(text: str) -> list[str]:
    """The parts of a nested type's inside: ``text`` split at the commas that are inside no brackets."""
    parts, depth = [""], 0
    for piece in re.findall(r"[<>(),]|[^<>(),]+", text):
        depth += {"<": 1, "(": 1, ">": -1, ")": -1}.get(piece, 0)
        if piece == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += piece
    return [part.strip() for part in parts]
