"""What CloudFormation hands to the registrar, checked: a dataset's registration, a pipeline's row.

Property names are PascalCase, rows are snake_case. CloudFormation sends every value as text, which is read as the
field's own type; a list or a map may also come as JSON text, so that it passes through a template's parameter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_pascal

from lake import engines
from lake.engines import GLUE, Engine
from lake.file_schema import UnknownTypeError, kind_of, source_name

LONGEST_MESSAGE = 1000
NOT_OURS = frozenset({"ServiceToken", "ServiceTimeout"})
"""Properties of every custom resource: https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref-requests.html"""

NAME_RULE = "a lower-case letter, then lower-case letters, digits, hyphens and underscores, at most 40 in all"
FILE_RULE = "a file name of letters, digits, dots, hyphens and underscores, in the asset prefix"


class RegistrationError(Exception):
    """What was to be registered is refused, a line for each finding.

    The message has at most 1000 characters, as CloudFormation's ``Reason``; ``whole`` is for the log.
    """

    def __init__(self, lines: list[str]) -> None:
        self.whole = "\n".join(lines)
        super().__init__(self.whole if len(self.whole) <= LONGEST_MESSAGE else f"{self.whole[: LONGEST_MESSAGE - 1]}…")


def _matching(pattern: str, rule: str) -> AfterValidator:
    """A check that says its rule in words."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"must be {rule}")
        return value

    return AfterValidator(check)


def _from_json(value: Any) -> Any:
    """A list or map that came as JSON text."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        return []
    try:
        return json.loads(value)
    except json.JSONDecodeError as error:
        raise ValueError(f"must be a list or a map, or JSON text of one ({error})") from error


def _names_from_text(value: Any) -> Any:
    """A list of names that came as JSON text or with commas, as a CommaDelimitedList is joined."""
    if isinstance(value, str) and not value.lstrip().startswith("["):
        value = value.split(",")
    listed = _from_json(value)
    return [name.strip() for name in listed if name.strip()] if isinstance(listed, list) else listed


def _columns_from_text(value: Any) -> Any:
    """Columns given as ``name:type`` or ``name:type:required``, as a list or as one text with commas.

    A comma inside of brackets belongs to a type, ``decimal(10,2)``, also where CloudFormation has cut at it.
    """
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        value = ",".join(value)
    if not isinstance(value, str) or value.lstrip().startswith("["):
        return _from_json(value)
    return [_column_from_text(one.strip()) for one in re.split(r",(?![^(]*\))", value) if one.strip()]


def _column_from_text(text: str) -> dict[str, Any]:
    name, *rest = text.rsplit(":", 2) if text.endswith(":required") else text.rsplit(":", 1)
    if not rest:
        raise ValueError(f"column {text!r} must be name:type or name:type:required")
    return {"Name": name.strip(), "Type": rest[0].strip(), "Required": len(rest) > 1}


def _known_type(value: str) -> str:
    try:
        kind_of(value)
    except UnknownTypeError as error:
        raise ValueError(str(error)) from error
    return value.strip().lower()


def _none_when_empty(value: Any) -> Any:
    return None if value == "" else value


Name = Annotated[str, _matching(r"[a-z][a-z0-9_-]{0,39}", NAME_RULE)]
FileName = Annotated[str, _matching(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", FILE_RULE)]
DatasetName = Annotated[
    str, _matching(r"[a-z][a-z0-9_-]{0,39}/[a-z][a-z0-9_-]{0,39}", "TEAM/DATASET, each of them a name of the lake")
]
OptionalFileName = Annotated[FileName | None, BeforeValidator(_none_when_empty)]
GlueName = Annotated[str, _matching(r"[a-z0-9_]{1,255}", "lower-case letters, digits and underscores (Athena's rule)")]
QueueUrl = Annotated[str, _matching(r"https?://\S+/\d{12}/\S+", "the URL of an SQS queue")]
FunctionArn = Annotated[str, _matching(r"arn:[\w-]+:lambda:[\w-]+:\d{12}:function:\S+", "the ARN of a function")]
ColumnName = Annotated[str, StringConstraints(min_length=1, max_length=255, strip_whitespace=True)]


class _Properties(BaseModel):
    """PascalCase in, snake_case out; a property that nobody reads is an error, for it is misspelt."""

    model_config = ConfigDict(alias_generator=to_pascal, extra="forbid", frozen=True)


class Format(_Properties):
    """How a raw file is read; the light transform holds the meaning (``lake.file_schema``)."""

    type: Literal["csv", "json", "parquet"] = "csv"
    encoding: Literal["utf-8", "utf-16", "latin-1", "windows-1252"] = "utf-8"
    separator: Annotated[str, StringConstraints(min_length=1, max_length=1)] = ","
    quote: Annotated[str, StringConstraints(max_length=1)] = '"'
    header: bool = True
    null_tokens: Annotated[list[str], BeforeValidator(_from_json)] = [""]


class Column(_Properties):
    """A column of the raw file, as the light transform sees it."""

    name: ColumnName
    type: Annotated[str, AfterValidator(_known_type)]
    required: bool = False

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        """A column as dataset.yaml's list has it: ``name:type`` or ``name:type:required``."""
        if not isinstance(value, str):
            return value
        found = re.fullmatch(r"\s*(?P<name>.+?)\s*:\s*(?P<type>[^:]+?)\s*(:\s*(?P<required>required)\s*)?", value)
        if not found:
            raise ValueError("must be name:type or name:type:required")
        return {"Name": found["name"], "Type": found["type"], "Required": bool(found["required"])}


class Dataset(_Properties):
    """Properties of ``Custom::TarnDataset``."""

    team: Name
    dataset: Name
    pipeline: Name
    format: Annotated[Format, BeforeValidator(_from_json)] = Format()
    columns: Annotated[list[Column], BeforeValidator(_columns_from_text)] = []
    on_mismatch: Literal["quarantine", "null"] = "quarantine"
    max_object_mib: Annotated[int, Field(alias="MaxObjectMiB", ge=1, le=10_240)] = 2048
    asset_bucket_name: Annotated[str, _matching(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", "a bucket's name")]
    asset_prefix: Annotated[str, _matching(r"(?!/)(\S+/)+", "a prefix that ends in / and does not begin with it")]
    light_transform: OptionalFileName = None
    transform_function_arn: FunctionArn | None = None
    heavy_transform: OptionalFileName = None
    rules: OptionalFileName = None
    on_quality_failure: Literal["block", "warn"] = "block"
    min_items: Annotated[int, Field(ge=1, le=10_000)] = 1
    max_items: Annotated[int, Field(ge=1, le=10_000)] = 1000
    max_wait_minutes: Annotated[int, Field(ge=1, le=14_400)] = 60
    partition_by: Annotated[list[GlueName], BeforeValidator(_names_from_text)] = []
    publish: Literal["partition", "crawler"] = "partition"
    crawler_name: Annotated[str | None, StringConstraints(min_length=1, max_length=255)] = None
    on_change: Literal["keep", "replace"] = "keep"
    freshness_hours: Annotated[int, Field(ge=0, le=8760)] = 0
    engine: Engine = GLUE
    depends_on: Annotated[list[DatasetName], BeforeValidator(_names_from_text)] = []
    depends_on_hours: Annotated[int, Field(ge=1, le=8760)] = 24
    depends_on_max_wait_hours: Annotated[int, Field(ge=1, le=240)] = 24
    """Messages must outlive the wait: the queue keeps them for 14 days, in which they also wait for a batch."""
    table_name: GlueName
    database_name: GlueName
    queue_url: QueueUrl

    @property
    def is_python(self) -> bool:
        """Whether the light transform is the dataset's own Python, in a function of its own."""
        return self.light_transform is not None and self.light_transform.endswith(".py")

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        if self.min_items > self.max_items:
            raise ValueError(f"MinItems: given {self.min_items}; must be at most MaxItems, which is {self.max_items}")
        if self.light_transform and not self.light_transform.endswith((".py", ".sql")):
            raise ValueError(f"LightTransform: given {self.light_transform!r}; must end in .py or .sql")
        engines.check_program(self.engine, self.heavy_transform)
        for name in self.depends_on:
            if not name.startswith(f"{self.team}/") or name == f"{self.team}/{self.dataset}":
                raise ValueError(f"DependsOn: given {name!r}; must be another dataset of team {self.team}")
        if self.is_python != (self.transform_function_arn is not None):
            raise ValueError("TransformFunctionArn: must be given for a LightTransform in Python, and only for one")
        if self.is_python and not self.columns:
            raise ValueError("Columns: none given; must name what the LightTransform in Python returns")
        if (self.publish == "crawler") != (self.crawler_name is not None):
            raise ValueError("CrawlerName: must be given with Publish crawler, and only then")
        if self.publish == "crawler" and self.table_name != self.dataset:
            raise ValueError(
                f"TableName: given {self.table_name!r}; must be {self.dataset!r}: a crawler names it after the folder"
            )
        for field, listed in (
            ("Columns", [source_name(column.name).casefold() for column in self.columns]),
            ("PartitionBy", self.partition_by),
            ("DependsOn", self.depends_on),
        ):
            twice = sorted({name for name in listed if listed.count(name) > 1})
            if twice:
                raise ValueError(f"{field}: given {', '.join(twice)} twice; names must differ, also in other cases")
        if "batch" in self.partition_by:
            raise ValueError("PartitionBy: given 'batch'; must be without it: Tarn itself partitions by batch, last")
        return self


class Pipeline(_Properties):
    """Properties of ``Custom::TarnPipeline``."""

    team: Name
    pipeline: Name
    queue_url: QueueUrl
    engines: Annotated[list[Engine], BeforeValidator(_names_from_text)] = [GLUE]


class Team(_Properties):
    """Properties of ``Custom::TarnTeam``."""

    team: Name


Model = TypeVar("Model", bound=_Properties)


def read(model: type[Model], properties: Mapping[str, Any]) -> Model:
    """The registration in a custom resource's properties.

    Raises:
        RegistrationError: a line for each field that is wrong: its name, what was given, what is allowed.
    """
    given = {name: value for name, value in properties.items() if name not in NOT_OURS}
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise RegistrationError([_line(model, one) for one in error.errors()]) from error


def row(registration: Dataset | Pipeline | Team) -> dict[str, Any]:
    """A registration as its row holds it, without what is not given."""
    return registration.model_dump(exclude_none=True)


def _line(model: type[Model], error: Any) -> str:
    place = ".".join(str(part) for part in error["loc"])
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "missing":
        return f"{place}: not given; it is required"
    if error["type"] == "extra_forbidden":
        known = ", ".join(str(field.alias) for field in model.model_fields.values())
        hint = "" if "." in place else f": there are {known}"
        return f"{place}: not a property{hint}"
    if not place:
        return message
    given = repr(error["input"])
    shown = given if len(given) <= 80 else f"{given[:79]}…"
    return f"{place}: given {shown}; {message[:1].lower()}{message[1:]}"
