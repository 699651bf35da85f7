"""Wrong registrations fail their stack, with the field and what it may be, and leave nothing behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import WaiterError

from tarn import assets, templates
from tests.e2e.lake_world import Demo

ROOT = Path(__file__).parents[2]
TEMPLATE = (ROOT / "pipeline" / "dataset.yaml").read_text()


def parameters(demo: Demo, dataset: str, prefix: str, **changes: str) -> list[dict[str, str]]:
    contract = demo.lake.contract
    given = {
        "EnvironmentName": "local",
        "TeamName": "air",
        "PipelineName": "main",
        "DatasetName": dataset,
        "TableName": dataset,
        "RegistrarFunctionArn": contract.team("air", "registrar-function/arn"),
        "TeamKeyArn": contract.team("air", "key/arn"),
        "DatabaseName": contract.team("air", "database/name"),
        "RecordOutcomesRoleArn": contract.pipeline("air", "main", "record-outcomes-role/arn"),
        "StartBatchRoleArn": contract.pipeline("air", "main", "start-batch-role/arn"),
        "DatasetDeadLetterQueueArn": contract.pipeline("air", "main", "dataset-dead-letter-queue/arn"),
        "DependenciesLayerArn": contract.foundations("dependencies-layer/arn"),
        "FoundationsKeyArn": contract.foundations("key/arn"),
        "RawBucketName": contract.foundations("raw-bucket/name"),
        "StageBucketName": contract.foundations("stage-bucket/name"),
        "AnalyticsBucketName": contract.foundations("analytics-bucket/name"),
        "DatasetsTableName": contract.foundations("datasets-table/name"),
        "DatasetsTableArn": contract.foundations("datasets-table/arn"),
        "BoundaryArn": contract.team("air", "boundary/arn"),
        "TopicArn": contract.team("air", "topic/arn"),
        "CrawlerRoleArn": contract.pipeline("air", "main", "crawler-role/arn"),
        "LogRetentionDays": "30",
        "AssetBucketName": bucket(demo),
        "AssetPrefix": prefix,
        "Columns": "carrier:string:required, name:string",
        "LightTransform": "light.sql",
        "Rules": "rules.dqdl",
    }
    return [{"ParameterKey": name, "ParameterValue": value} for name, value in (given | changes).items()]


def bucket(demo: Demo) -> str:
    return demo.session.client("ssm").get_parameter(Name="/tarn/local/assets/bucket/name")["Parameter"]["Value"]


def upload(demo: Demo, folder: Path, sql: str, rules: str) -> str:
    """A dataset's folder as an asset; gives its prefix."""
    folder.mkdir(parents=True)
    (folder / "light.sql").write_text(sql)
    (folder / "rules.dqdl").write_text(rules)
    prefix, files = assets.of_dataset(folder)
    assets.upload(demo.session.client("s3"), bucket(demo), files)
    return prefix


def deploy(demo: Demo, stack: str, given: list[dict[str, str]], template: str = TEMPLATE) -> str | None:
    """Create the stack; gives the first failure's reason where it was rolled back."""
    cloudformation = demo.session.client("cloudformation")
    allowed = ["CAPABILITY_AUTO_EXPAND", "CAPABILITY_NAMED_IAM"]
    cloudformation.create_stack(StackName=stack, TemplateBody=template, Parameters=given, Capabilities=allowed)
    try:
        waiter = cloudformation.get_waiter("stack_create_complete")
        waiter.wait(StackName=stack, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    except WaiterError:
        status = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"]
        assert status == "ROLLBACK_COMPLETE"
        events = cloudformation.describe_stack_events(StackName=stack)["StackEvents"]
        return next(one["ResourceStatusReason"] for one in reversed(events) if one["ResourceStatus"] == "CREATE_FAILED")
    return None


def registration_alone(given: list[dict[str, str]], queue_url: str) -> str:
    """A template of nothing but the registration that pipeline/dataset.yaml would make of these parameters."""
    template = templates.load(Path("pipeline") / "dataset.yaml")
    values = {name: one.get("Default") for name, one in template["Parameters"].items()}
    values |= {one["ParameterKey"]: one["ParameterValue"] for one in given} | {"DatasetQueue": queue_url}
    for name, one in template["Parameters"].items():
        if one["Type"] == "CommaDelimitedList":
            values[name] = values[name].split(",")

    def resolved(value: Any) -> Any:
        match value:
            case {"Ref": name}:
                return values[name]
            case {"Fn::If": ["HasLightTransform" | "HasRules", asked, _]}:
                return resolved(asked)
            case {"Fn::If": _}:
                return None
            case dict():
                return {name: kept for name, one in value.items() if (kept := resolved(one)) is not None}
        return value

    resource = template["Resources"]["Registration"]
    return json.dumps(
        {"Resources": {"Claim": {"Type": resource["Type"], "Properties": resolved(resource["Properties"])}}}
    )


def delete(demo: Demo, stack: str) -> None:
    cloudformation = demo.session.client("cloudformation")
    cloudformation.delete_stack(StackName=stack)
    waiter = cloudformation.get_waiter("stack_delete_complete")
    waiter.wait(StackName=stack, WaiterConfig={"Delay": 1, "MaxAttempts": 60})


def registration(demo: Demo, dataset: str) -> dict | None:
    table = demo.session.resource("dynamodb").Table(demo.lake.contract.foundations("datasets-table/name"))
    return table.get_item(Key={"team": "air", "dataset": dataset}, ConsistentRead=True).get("Item")


GOOD_SQL = "SELECT carrier, name FROM source"
GOOD_RULES = 'Rules = [ RowCount > 0, IsComplete "carrier" ]'


@pytest.mark.parametrize(
    ("changes", "sql", "rules", "said"),
    [
        pytest.param(
            {"Columns": "carrier:varint"}, GOOD_SQL, GOOD_RULES, ["Columns.0", "varint", "bigint"], id="a type"
        ),
        pytest.param(
            {"MinItems": "20", "MaxItems": "10"}, GOOD_SQL, GOOD_RULES, ["MinItems", "20", "MaxItems"], id="two fields"
        ),
        pytest.param({"Team": "rail"}, GOOD_SQL, GOOD_RULES, ["Team", "rail", "air"], id="another team"),
        pytest.param({}, "SELECT carrier FROM", GOOD_RULES, ["light.sql"], id="SQL that does not parse"),
        pytest.param({}, "SELECT airline FROM source", GOOD_RULES, ["light.sql", "airline"], id="an unknown column"),
        pytest.param({}, GOOD_SQL, "Rules = [ RowCuont > 0 ]", ["rules.dqdl", "RowCuont"], id="an unknown rule type"),
        pytest.param({"Rules": "other.dqdl"}, GOOD_SQL, GOOD_RULES, ["other.dqdl"], id="a file that is not there"),
    ],
)
def test_a_wrong_registration_is_refused(demo, tmp_path, request, changes, sql, rules, said) -> None:
    name = "trial_" + request.node.callspec.id.lower().replace(" ", "_")
    prefix = upload(demo, tmp_path / name, sql, rules)
    stack = name.replace("_", "-")
    if "Team" in changes:
        changes = {"TeamName": changes["Team"]}
    reason = deploy(demo, stack, parameters(demo, name, prefix, **changes))
    assert reason is not None, "the stack was made"
    assert not [word for word in said if word not in reason], reason
    assert registration(demo, name) is None
    delete(demo, stack)


def test_a_right_registration_is_a_row_until_its_stack_is_deleted(demo, tmp_path) -> None:
    prefix = upload(demo, tmp_path / "trial", GOOD_SQL, GOOD_RULES)
    assert deploy(demo, "trial", parameters(demo, "trial", prefix)) is None
    row = registration(demo, "trial")
    assert row is not None
    assert row["columns"][0] == {"name": "carrier", "type": "string", "required": True}

    clash = deploy(demo, "trial-twin", parameters(demo, "trial", prefix))
    assert clash is not None, "its queue's name is taken"
    delete(demo, "trial-twin")
    assert registration(demo, "trial") == row, "the rightful owner was unregistered"

    claim = deploy(demo, "trial-claim", [], registration_alone(parameters(demo, "trial", prefix), row["queue_url"]))
    assert claim is not None
    assert f"is registered by {row['owner']}" in claim
    assert registration(demo, "trial") == row
    delete(demo, "trial-claim")
    assert registration(demo, "trial") == row

    delete(demo, "trial")
    assert registration(demo, "trial") is None


def test_a_pipeline_with_a_queue_of_another_team_is_refused_and_the_owners_row_stays(demo) -> None:
    """The router may send to every team's queue, so that the row would bring air's files into sky's pipeline."""
    contract = demo.lake.contract
    before = registration(demo, "pipeline#main")
    for pipeline in ("main", "stray"):
        claim = {
            "ServiceToken": contract.team("air", "registrar-function/arn"),
            "Team": "air",
            "Pipeline": pipeline,
            "QueueUrl": contract.pipeline("sky", "main", "queue/url"),
        }
        resource = {"Type": "Custom::TarnPipeline", "Properties": claim}
        reason = deploy(demo, "trial-queue", [], json.dumps({"Resources": {"Claim": resource}}))
        assert reason is not None
        assert f"QueueUrl: given '{claim['QueueUrl']}'; cannot be asked for its tags (AccessDenied" in reason
        delete(demo, "trial-queue")
    assert registration(demo, "pipeline#stray") is None
    assert before is not None
    assert registration(demo, "pipeline#main") == before
