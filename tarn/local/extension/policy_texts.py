"""A policy's text is read once.

Stock MiniStack 1.5.33 parses every policy of a role, and of what it reaches, at each call: a fifth of the embedded
AWS's time. What is parsed is only ever read, and a policy that changes is another text.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from tarn.local.extension.decisions import EVALUATOR
from tarn.local.extension.patching import original, replace
from tarn.local.settings import Settings

MOST_TEXTS = 1024


def install(_settings: Settings) -> None:
    """Remember what each text says; a document that comes as a dict is read as before."""
    parse = original(EVALUATOR, "parse_policy_document")
    read = lru_cache(MOST_TEXTS)(parse)

    def parsed(document: Any) -> Any:
        return read(document) if isinstance(document, str) else parse(document)

    replace(EVALUATOR, "parse_policy_document", parsed)
