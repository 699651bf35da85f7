"""Time: UTC, and one way to write it, so that times compare as text."""

from datetime import UTC, datetime


def now() -> datetime:
    """This moment in UTC. Domain functions take time as an argument; only a handler asks for it."""
    return datetime.now(UTC)


def stamp(moment: datetime) -> str:
    """``moment`` as ISO-8601 in UTC with milliseconds: ``2026-11-23T16:44:01.123Z``.

    Raises:
        ValueError: ``moment`` has no time zone, and would be taken for the machine's own.
    """
    if moment.tzinfo is None:
        raise ValueError(f"{moment!r} has no time zone: pass a moment in UTC")
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse(text: str) -> datetime:
    """The moment that ``stamp`` wrote, or that S3 put into a notification (any ISO-8601 with a zone)."""
    return datetime.fromisoformat(text)
