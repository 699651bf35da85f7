"""What the soak puts into the raw zone: small objects, most of them once, some overwritten, deleted or unreadable.

Everything follows from the seed. An object's content names its key and its put, so that a published row tells where
it came from, and an ETag which put stands.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import md5
from typing import Any

TEAM = "air"
REPLACING = "readings"
"""The dataset whose published rows go when their object is replaced or deleted; the others keep them."""
DATASETS = ("orders", REPLACING)
LINES = 3
"""Rows of each put."""
WRITERS = 8
UNREADABLE = b"\xff\xd8\xff\xe0 no table at all"
JUDGED = "returns"
"""A third dataset, for the one object that breaks a rule: in a batch of its own, where quality is judged."""
SPOILED_KEY = f"{TEAM}/{JUDGED}/spoiled.csv"


@dataclass(frozen=True)
class Put:
    """One put of an object, or its deletion (``body`` is None)."""

    key: str
    number: int
    body: bytes | None


def amounts(key: str, number: int) -> list[int]:
    """The values of a put's rows."""
    start = int.from_bytes(md5(f"{key} {number}".encode(), usedforsecurity=False).digest()[:3])
    return [start + line for line in range(LINES)]


def body(key: str, number: int, values: list[int] | None = None) -> bytes:
    """A put's content."""
    rows = [f"{key},{number},{line},{value}" for line, value in enumerate(values or amounts(key, number))]
    return "\n".join(["object,put,line,amount", *rows, ""]).encode()


def etag(content: bytes) -> str:
    """What S3 says of a content that was put in one piece."""
    return md5(content, usedforsecurity=False).hexdigest()


def history(number: int, chance: random.Random) -> list[Put]:
    """What becomes of the object ``number``: its puts and deletions, in order."""
    dataset = DATASETS[number % len(DATASETS)]
    name = f"{number:06d}" if number % 10 else f"{number:06d} 100% ü+{number}"
    key = f"{TEAM}/{dataset}/{number % 97:02d}/{name}.csv"
    kind = chance.choices(("once", "twice", "deleted", "again", "unreadable"), (86, 6, 3, 3, 2))[0]
    if kind == "unreadable":
        return [Put(key, 1, UNREADABLE + key.encode())]
    first = Put(key, 1, body(key, 1))
    gone, second = Put(key, 2, None), Put(key, 2, body(key, 2))
    return {"once": [first], "twice": [first, second], "deleted": [first, gone], "again": [first, gone, second]}[kind]


@dataclass
class Load:
    """Puts ``objects`` objects; ``puts`` is what was put under each key, by its ETag, and ``last`` each key's last put.

    ``done`` counts the objects that were put; ``error`` says why there are fewer.
    """

    s3: Any
    bucket: str
    objects: int
    seed: int
    may_go_on: Callable[[], bool]
    puts: dict[str, dict[str, int]] = field(default_factory=dict)
    last: dict[str, Put] = field(default_factory=dict)
    unreadable: set[str] = field(default_factory=set)
    done: int = 0
    error: str = ""
    _stopped: threading.Event = field(default_factory=threading.Event)
    _writers: list[threading.Thread] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> None:
        """Begin to put everything, each key's own history in order; wait while the lake is behind."""
        self._writers = [threading.Thread(target=self._write, args=(one,), daemon=True) for one in range(WRITERS)]
        for writer in self._writers:
            writer.start()

    def is_putting(self) -> bool:
        """Whether more is to come."""
        return any(writer.is_alive() for writer in self._writers)

    def stop(self) -> None:
        """Put no more, and wait for what is being put."""
        self._stopped.set()
        self.wait()

    def wait(self) -> None:
        """Wait for the writers' end."""
        for writer in self._writers:
            writer.join()

    def put(self, one: Put) -> None:
        """Put or delete, and remember it."""
        with self._lock:
            self.last[one.key] = one
        if one.body is None:
            self.s3.delete_object(Bucket=self.bucket, Key=one.key)
            return
        with self._lock:
            self.puts.setdefault(one.key, {})[etag(one.body)] = one.number
            if one.body.startswith(UNREADABLE):
                self.unreadable.add(one.key)
        self.s3.put_object(Bucket=self.bucket, Key=one.key, Body=one.body)

    def _write(self, writer: int) -> None:
        try:
            self._put_all(writer)
        except Exception as error:  # noqa: BLE001 - whatever it is, the verdict says it
            self.error = self.error or f"{type(error).__name__}: {error}"
            self._stopped.set()

    def _put_all(self, writer: int) -> None:
        chance = random.Random(f"{self.seed} {writer}")
        later: list[tuple[int, Put]] = []
        for number in range(writer, self.objects, WRITERS):
            while not (self._stopped.is_set() or self.may_go_on()):
                time.sleep(0.2)
            if self._stopped.is_set():
                return
            for one in self._due(number, history(number, chance), chance, later):
                self.put(one)
            with self._lock:
                self.done += 1
        for _, one in later:
            self.put(one)

    @staticmethod
    def _due(number: int, puts: list[Put], chance: random.Random, later: list[tuple[int, Put]]) -> Iterator[Put]:
        """What is put now: half of all changes follow at once, the others some hundred objects later, in order."""
        yield puts[0]
        if chance.random() < 0.5:
            yield from puts[1:]
        else:
            later.extend((number + 40 * WRITERS, one) for one in puts[1:])
        while later and later[0][0] <= number:
            yield later.pop(0)[1]
