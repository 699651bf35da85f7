"""A registration as CloudFormation sends it: everything is text."""

from typing import Any

import pytest

from lake import registration
from lake.registration import RegistrationError

GIVEN: dict[str, Any] = {
    "ServiceToken": "arn:aws:lambda:eu-west-1:123456789012:function:registrar",
    "ServiceTimeout": "120",
    "Team": "air",
    "Dataset": "flights",
    "Pipeline": "main",
    "Format": {"Type": "csv", "Separator": ",", "Quote": '"', "Header": "true", "NullTokens": ["NA", ""]},
    "Columns": [{"Name": "year", "Type": "int", "Required": "true"}, {"Name": "tailnum", "Type": "string"}],
    "AssetBucketName": "tarn-test-assets-123456789012-eu-west-1",
    "AssetPrefix": "assets/0123abcd/flights/",
    "LightTransform": "light.sql",
    "Rules": "",
    "MinItems": "3",
    "MaxItems": "31",
    "PartitionBy": ["flight_date"],
    "TableName": "flights",
    "DatabaseName": "tarn_test_air",
    "QueueUrl": "https://sqs.eu-west-1.amazonaws.com/123456789012/tarn-test-air-flights",
}


FUNCTION = "arn:aws:lambda:eu-west-1:123456789012:function:tarn-test-air-flights"


def refusal(**changes: Any) -> list[str]:
    with pytest.raises(RegistrationError) as caught:
        registration.read(registration.Dataset, {**GIVEN, **changes})
    return str(caught.value).splitlines()


def test_text_becomes_the_types_of_the_row() -> None:
    row = registration.row(registration.read(registration.Dataset, GIVEN))
    assert row == {
        "team": "air",
        "dataset": "flights",
        "pipeline": "main",
        "format": {
            "type": "csv",
            "encoding": "utf-8",
            "separator": ",",
            "quote": '"',
            "header": True,
            "null_tokens": ["NA", ""],
        },
        "columns": [
            {"name": "year", "type": "int", "required": True},
            {"name": "tailnum", "type": "string", "required": False},
        ],
        "on_mismatch": "quarantine",
        "max_object_mib": 2048,
        "asset_bucket_name": "tarn-test-assets-123456789012-eu-west-1",
        "asset_prefix": "assets/0123abcd/flights/",
        "light_transform": "light.sql",
        "on_quality_failure": "block",
        "min_items": 3,
        "max_items": 31,
        "max_wait_minutes": 60,
        "partition_by": ["flight_date"],
        "publish": "partition",
        "on_change": "keep",
        "freshness_hours": 0,
        "engine": "glue",
        "depends_on": [],
        "depends_on_hours": 24,
        "depends_on_max_wait_hours": 24,
        "table_name": "flights",
        "database_name": "tarn_test_air",
        "queue_url": "https://sqs.eu-west-1.amazonaws.com/123456789012/tarn-test-air-flights",
    }


@pytest.mark.parametrize(
    "columns",
    [
        ["year:int:required", " price:decimal(10", "2)", "a:b:string"],
        "year:int:required, price:decimal(10,2), a:b:string",
        '[{"Name":"year","Type":"int","Required":true},{"Name":"price","Type":"DECIMAL(10,2)"},{"Name":"a:b","Type":"string"}]',
    ],
)
def test_columns_come_in_any_form_that_a_parameter_can_have(columns: Any) -> None:
    read = registration.read(registration.Dataset, {**GIVEN, "Columns": columns})
    assert [(one.name, one.type, one.required) for one in read.columns] == [
        ("year", "int", True),
        ("price", "decimal(10,2)", False),
        ("a:b", "string", False),
    ]


@pytest.mark.parametrize("names", [["a", "b"], "a, b", '["a", "b"]'])
def test_names_come_as_a_list_or_a_text(names: Any) -> None:
    assert registration.read(registration.Dataset, {**GIVEN, "PartitionBy": names}).partition_by == ["a", "b"]


def test_nothing_is_no_partition() -> None:
    assert registration.read(registration.Dataset, {**GIVEN, "PartitionBy": ""}).partition_by == []


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"Team": "Air"}, "Team: given 'Air'; must be a lower-case letter"),
        ({"Dataset": "_batches"}, "Dataset: given '_batches'; must be"),
        ({"Dataset": "pipeline#main"}, "Dataset: given 'pipeline#main'; must be"),
        ({"OnMismatch": "drop"}, "OnMismatch: given 'drop'; input should be 'quarantine' or 'null'"),
        ({"OnQualityFailure": "x"}, "OnQualityFailure: given 'x'; input should be 'block' or 'warn'"),
        ({"OnChange": "x"}, "OnChange: given 'x'; input should be 'keep' or 'replace'"),
        ({"Format": {"Type": "xlsx"}}, "Format.Type: given 'xlsx'; input should be 'csv', 'json' or 'parquet'"),
        ({"MinItems": "0"}, "MinItems: given '0'; input should be greater than or equal to 1"),
        ({"MinItems": "many"}, "MinItems: given 'many'; input should be a valid integer"),
        ({"MinItems": "40"}, "MinItems: given 40; must be at most MaxItems, which is 31"),
        ({"Columns": ["a:inte"]}, "Columns.0.Type: given 'inte'; column type 'inte' is not one of string"),
        ({"Columns": ["a"]}, "Columns: given ['a']; column 'a' must be name:type"),
        ({"Columns": ["a:int", "A:int"]}, "Columns: given a twice"),
        ({"Columns": "[{"}, "Columns: given '[{'; must be a list or a map"),
        ({"PartitionBy": ["batch"]}, "PartitionBy: given 'batch'"),
        ({"PartitionBy": ["a", "a"]}, "PartitionBy: given a twice"),
        (
            {"LightTransform": "../../other/light.sql"},
            "LightTransform: given '../../other/light.sql'; must be a file name",
        ),
        ({"HeavyTransform": "heavy.jar"}, "HeavyTransform: given 'heavy.jar'; must end in .py or .sql"),
        ({"LightTransform": "light.xml"}, "LightTransform: given 'light.xml'; must end in .py or .sql"),
        ({"LightTransform": "light.py"}, "TransformFunctionArn: must be given for a LightTransform in Python"),
        ({"TransformFunctionArn": FUNCTION}, "TransformFunctionArn: must be given for a LightTransform in Python"),
        (
            {"LightTransform": "light.py", "TransformFunctionArn": FUNCTION, "Columns": ""},
            "Columns: none given; must name what",
        ),
        ({"TransformFunctionArn": "light"}, "TransformFunctionArn: given 'light'; must be the ARN of a function"),
        ({"Publish": "crawler"}, "CrawlerName: must be given with Publish crawler"),
        ({"CrawlerName": "crawler"}, "CrawlerName: must be given with Publish crawler"),
        (
            {"Publish": "crawler", "CrawlerName": "crawler", "TableName": "departures"},
            "TableName: given 'departures'; must be 'flights'",
        ),
        ({"FreshnessHours": "-1"}, "FreshnessHours: given '-1'; input should be greater than or equal to 0"),
        (
            {"Format": {"Type": "json"}, "Columns": ["wind.speed:int", "wind_speed:int"]},
            "Columns: given wind_speed twice",
        ),
        ({"QueueUrl": "arn:aws:sqs:x"}, "QueueUrl: given 'arn:aws:sqs:x'; must be the URL of an SQS queue"),
        ({"MaxItms": "3"}, "MaxItms: not a property: there are Team, Dataset"),
    ],
)
def test_a_wrong_field_is_told_by_name_value_and_what_is_allowed(changes: dict[str, Any], line: str) -> None:
    [told] = refusal(**changes)
    assert told.startswith(line)


def test_a_missing_field_is_told_by_name() -> None:
    given = {name: value for name, value in GIVEN.items() if name != "QueueUrl"}
    with pytest.raises(RegistrationError, match=r"^QueueUrl: not given; it is required$"):
        registration.read(registration.Dataset, given)


def test_many_wrong_fields_are_cut_to_what_cloudformation_takes() -> None:
    with pytest.raises(RegistrationError) as caught:
        registration.read(registration.Dataset, {**GIVEN, **{f"Unknown{n}": "x" * 500 for n in range(30)}})
    assert len(str(caught.value)) == 1000
    assert len(caught.value.whole.splitlines()) == 30


def test_a_pipeline() -> None:
    given = {"Team": "air", "Pipeline": "main", "QueueUrl": GIVEN["QueueUrl"], "Engines": "glue,fargate"}
    assert registration.row(registration.read(registration.Pipeline, given)) == {
        "team": "air",
        "pipeline": "main",
        "queue_url": GIVEN["QueueUrl"],
        "engines": ["glue", "fargate"],
    }
