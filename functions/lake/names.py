"""Names: the identities of objects, and the keys under which the lake keeps things.

State is never read by parsing a name, with one exception: where a raw object landed
(``<team>/<dataset>/...``) is its producer's only way to say whose it is.
"""

from dataclasses import dataclass
from hashlib import sha256

ATTENTION_SHARDS = 16
SEQUENCER_DIGITS = 32
LONGEST_KEY_BYTES = 1024
"""S3's limit for a key in UTF-8: https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html"""


@dataclass(frozen=True)
class Location:
    """Whose a key is: the first two segments of ``<team>/<dataset>/<rest>``."""

    team: str
    dataset: str


def object_id(bucket: str, key: str) -> str:
    """The object catalog's identity of an object: its ``s3://`` URI, the key in plain letters."""
    return f"s3://{bucket}/{key}"


def split_object_id(identity: str) -> tuple[str, str]:
    """Bucket and key of an ``s3://bucket/key`` identity; the key may hold any character."""
    bucket, _, key = identity.removeprefix("s3://").partition("/")
    return bucket, key


def locate(key: str) -> Location | None:
    """The team and dataset that a raw key names; None where it has no two leading segments and a rest."""
    team, _, rest = key.partition("/")
    dataset, _, name = rest.partition("/")
    return Location(team, dataset) if team and dataset and name else None


def padded_sequencer(sequencer: str) -> str:
    """S3's sequencer as 32 lower-case hex characters: DynamoDB compares strings bytewise.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
    (compare two sequencers of one key as hexadecimal, the shorter padded).
    """
    return sequencer.lower().rjust(SEQUENCER_DIGITS, "0")


def stage_key(raw_key: str, sequencer: str) -> str:
    """The immutable stage key of one version of a raw object: the same event writes the same key.

    A raw key so long that its stage key would be longer than S3 allows is shortened to its hash.
    """
    key = f"{raw_key}~{sequencer}.parquet"
    if len(key.encode()) <= LONGEST_KEY_BYTES:
        return key
    team, dataset, _ = raw_key.split("/", 2)
    return f"{team}/{dataset}/{sha256(raw_key.encode()).hexdigest()}~{sequencer}.parquet"


def batch_prefix(team: str, dataset: str, batch_id: str) -> str:
    """Where a batch keeps its manifest and outcomes, in the stage bucket. Dataset names cannot begin with ``_``."""
    return f"{team}/_batches/{dataset}/{batch_id}/"


def manifest_key(team: str, dataset: str, batch_id: str) -> str:
    """Key of a batch's manifest in the stage bucket."""
    return f"{batch_prefix(team, dataset, batch_id)}manifest.json"


def attempt_manifest_key(team: str, dataset: str, batch_id: str, attempt: int, digest: str) -> str:
    """Key of the manifest of a later attempt; ``digest`` is of its text, so that what was committed stays as it is."""
    return f"{batch_prefix(team, dataset, batch_id)}manifest-{attempt}-{digest}.json"


def attempt_prefix(team: str, dataset: str, batch_id: str, attempt: int) -> str:
    """Where one attempt's jobs leave their outcome files, in the stage bucket."""
    return f"{batch_prefix(team, dataset, batch_id)}{attempt}/"


def pending_prefix(team: str, batch_id: str, attempt: int) -> str:
    """Where one attempt writes what Deequ audits, in the analytics bucket, outside every table's location."""
    return f"{team}/_pending/{batch_id}/{attempt}/"


def table_prefix(team: str, dataset: str) -> str:
    """Location of a dataset's published table in the analytics bucket."""
    return f"{team}/{dataset}/"


def execution_name(batch_id: str, attempt: int) -> str:
    """Name of the execution that runs an attempt of a batch (at most 80 characters, closed to reuse for 90 days)."""
    return f"{batch_id}-{attempt}"


def owner_key(team: str, dataset: str) -> str:
    """The batches table's hash key, and the message group of a dataset."""
    return f"{team}#{dataset}"


def attention_key(team: str, dataset: str, identity: str) -> str:
    """Hash key of the sparse ``attention`` index, spread over sixteen shards by the identity's hash."""
    return attention_shard(team, dataset, int(sha256(identity.encode()).hexdigest(), 16) % ATTENTION_SHARDS)


def attention_shard(team: str, dataset: str, shard: int) -> str:
    """Hash key of one shard of the ``attention`` index; a dataset has ``ATTENTION_SHARDS``, counted from 0."""
    return f"{team}#{dataset}#{shard}"
