"""What S3 tells the lake: notifications, read once into small typed events.

Source of the shape: https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus, unquote_plus

from lake import names, queues

CREATED = "ObjectCreated:"
REMOVED = "ObjectRemoved:"
TEST_EVENT = "s3:TestEvent"
FOLDER_SUFFIXES = ("/", "_$folder$")
"""How S3's console and Hadoop name the empty objects by which they show a folder."""
LARGEST_NUMBER = 2**63 - 1
SEQUENCER = re.compile(rf"[0-9A-Fa-f]{{1,{names.SEQUENCER_DIGITS}}}")


class MalformedEventError(Exception):
    """A message of the ingest queue is not an S3 notification; it fails alone and ends in the dead-letter queue."""


@dataclass(frozen=True)
class Created:
    """An object stands in the raw zone. ``key`` is plain, ``sequencer`` padded, ``size`` in bytes."""

    bucket: str
    key: str
    size: int
    etag: str
    version_id: str | None
    sequencer: str
    event_time: str

    @property
    def id(self) -> str:
        """The object catalog's identity."""
        return names.object_id(self.bucket, self.key)

    @property
    def is_folder_marker(self) -> bool:
        """Whether this is an empty object that only shows a folder."""
        return self.size == 0 and self.key.endswith(FOLDER_SUFFIXES)


@dataclass(frozen=True)
class Removed:
    """A version of an object, or its delete marker, was removed; whether the object still lives, S3 alone knows."""

    bucket: str
    key: str
    sequencer: str
    event_time: str

    @property
    def id(self) -> str:
        """The object catalog's identity."""
        return names.object_id(self.bucket, self.key)

    @property
    def may_be_folder_marker(self) -> bool:
        """Whether the name is a folder marker's (a removal does not tell the size)."""
        return self.key.endswith(FOLDER_SUFFIXES)


def parse(body: str) -> list[Created | Removed]:
    """The events of one message; none for S3's test event and for kinds of event that move no data.

    Raises:
        MalformedEventError: the message is no S3 notification.
    """
    try:
        document = queues.read(body)
    except queues.UnreadableMessageError as error:
        raise MalformedEventError(f"the message is no S3 notification: {error}") from error
    if document.get("Event") == TEST_EVENT:
        return []
    records = document.get("Records")
    if not isinstance(records, list):
        raise MalformedEventError("the message has no list of Records: it is not an S3 notification")
    return [event for event in map(_event, records) if event is not None]


def notification(row: Mapping[str, Any], name: str = f"{CREATED}Unrouted") -> dict[str, Any]:
    """A row of the object catalog as the notification of its event ``name``, so that there is one way into the lake.

    Of a removal, ``id``, ``sequencer`` and ``event_time`` are all.
    """
    bucket, key = names.split_object_id(row["id"])
    thing: dict[str, Any] = {"key": quote_plus(key), "sequencer": row["sequencer"]}
    if name.startswith(CREATED):
        thing |= {"size": int(row["size"]), "eTag": row["etag"]}
    if row.get("version_id") is not None:
        thing["versionId"] = row["version_id"]
    record = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "eventName": name,
        "eventTime": row["event_time"],
        "s3": {"bucket": {"name": bucket}, "object": thing},
    }
    return {"Records": [record]}


def _event(record: Any) -> Created | Removed | None:
    try:
        name = record["eventName"].removeprefix("s3:")
        if not name.startswith((CREATED, REMOVED)):
            return None
        thing = record["s3"]["object"]
        where = {
            "bucket": _text(record["s3"]["bucket"]["name"]),
            "key": _key(unquote_plus(_text(thing["key"]))),
            "sequencer": _sequencer(_text(thing["sequencer"])),
            "event_time": _text(record["eventTime"]),
        }
        if name.startswith(REMOVED):
            return Removed(**where)
        version = thing.get("versionId")
        return Created(
            **where,
            size=_size(thing["size"]),
            etag=_text(thing["eTag"]).strip('"'),
            version_id=None if version is None else _text(version),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise MalformedEventError(f"a record is not S3's: {type(error).__name__}: {error}") from error


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError(f"{value!r} stands where S3 puts a text")
    return value


def _key(value: str) -> str:
    if len(value.encode()) > names.LONGEST_KEY_BYTES:
        raise ValueError(f"a key of {len(value.encode())} bytes: S3 has none above {names.LONGEST_KEY_BYTES}")
    return value


def _sequencer(value: str) -> str:
    """Padded. Anything else than S3's hexadecimal digits would stand above every real event of its key for good."""
    if not SEQUENCER.fullmatch(value):
        raise ValueError(f"{value[:100]!r} stands where S3 puts a sequencer")
    return names.padded_sequencer(value)


def _size(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= LARGEST_NUMBER:
        raise TypeError(f"{value!r} stands where S3 puts a size")
    return value
