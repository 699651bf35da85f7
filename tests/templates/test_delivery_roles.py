"""Who may do what in the delivery: each role just what its stage calls, and what nobody may do before an approval."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from tarn import layers, templates
from tests.templates import delivery_policies as policies
from tests.templates.delivery_actions import (
    BUILD_OF_CHECK,
    BUILD_ON_A_TARGET,
    CALLS,
    PIPELINE,
    PIPELINE_BY_CONNECTION,
    handlers,
)
from tests.templates.delivery_policies import HERE, REGION, Resolved, Role, role

STAGES = ("check", "diff", "deploy", "smoke")
# What CloudFormation does not do for a team: its tags stay, and no boundary comes off. The rest is of other layers.
NOT_FOR_TEAMS = {
    "cloudformation:UpdateTerminationProtection",
    "ecs:UntagResource",
    "emr-serverless:UntagResource",
    "glue:UntagResource",
    "iam:DeleteRolePermissionsBoundary",
    "states:UntagResource",
}
ROLES_ARN = f"arn:aws:iam::{HERE}:role"
BOUNDARY = {"iam:PermissionsBoundary": policies.GIVEN["BoundaryArn"]}


def stack(name: str, account: str = HERE) -> str:
    return f"arn:aws:cloudformation:{REGION}:{account}:stack/{name}/0123"


def types(files: list[Path]) -> set[str]:
    """The resource types of templates, as CloudFormation makes them."""
    found = [one for file in files for one in templates.load(file)["Resources"].values()]
    kinds = {one["Type"] for one in found}
    if any("Events" in one.get("Properties", {}) for one in found if one["Type"] == "AWS::Serverless::Function"):
        kinds |= {"AWS::Lambda::EventSourceMapping"}
    return kinds


def lake() -> set[str]:
    return types(templates.paths())


def of_a_team() -> set[str]:
    pipeline = [path for path in templates.paths() if path.parts[0] in ("pipeline", "datasets")]
    return types(pipeline) | {"AWS::Lambda::EventSourceMapping"}


# Each role may do what is called, and nothing else


@pytest.mark.parametrize("stage", STAGES)
def test_a_project_may_do_what_codebuild_does_for_it_and_no_more(stage) -> None:
    target = "none" if stage == "check" else "here"
    build = role("project.yaml", "BuildRole", Stage=stage, TargetAccountId=target)
    assert build.actions() == (BUILD_OF_CHECK if stage == "check" else BUILD_ON_A_TARGET)


@pytest.mark.parametrize(
    ("file", "stage"),
    [
        *(("target_role.yaml", stage) for stage in STAGES[1:]),
        *(("team_role.yaml", stage) for stage in ("diff", "deploy")),
    ],
)
def test_a_stage_may_do_on_its_target_what_its_commands_call_and_no_more(file, stage) -> None:
    called = {one for target, calls in CALLS.items() if target.startswith(f"{stage}-") for one in calls}
    assert role(file, f"{stage.capitalize()}Role").actions() == called


def test_the_table_has_every_command_of_the_buildspec() -> None:
    made = (templates.ROOT / "cicd" / "stages.mk").read_text()
    for target in CALLS:
        assert re.search(rf"^{target}:", made, re.MULTILINE), target
    assert {target.split("-", 1)[0] for target in CALLS} == set(STAGES)
    assert len(CALLS) == len(STAGES) * 4


@pytest.mark.parametrize(("source", "called"), [("codecommit", PIPELINE), ("connection", PIPELINE_BY_CONNECTION)])
def test_the_pipeline_may_take_sources_run_projects_and_ask(source, called) -> None:
    assert role("pipeline.yaml", "PipelineRole", SourceKind=source).actions() == called


def test_cloudformation_may_make_what_the_templates_hold_and_no_more() -> None:
    named = role("cloudformation_role.yaml", "CloudFormationRole").actions()
    called = handlers(lake() | {"AWS::Lambda::EventSourceMapping"})
    assert named - called == set(), "nothing in the templates needs these"
    assert called - named == set(), "the templates need these"


def test_cloudformation_may_make_for_a_team_what_its_layers_hold_and_no_more() -> None:
    named = role("team_cloudformation_role.yaml", "CloudFormationRole", DeliveryName="air").actions()
    called = handlers(of_a_team()) - NOT_FOR_TEAMS
    assert named - called == set(), "nothing in a team's layers needs these"
    assert called - named == set(), "a team's layers need these"


# The form of policies


def test_no_action_has_a_wildcard() -> None:
    for place, statements in policies.policies():
        for one in statements:
            assert not [action for action in policies.listed(one["Action"]) if "*" in action], (place, one["Sid"])


def test_every_wildcard_of_a_resource_has_its_reason_beside_it() -> None:
    for file in policies.files():
        lines = file.read_text().splitlines()
        reasoned = False
        for number, line in enumerate(lines):
            if re.match(r"\s*- (Sid|Effect):|\s*- !If", line):
                reasoned = number > 0 and lines[number - 1].strip().startswith("#")
            reasoned |= "Resource:" in line and "#" in line
            if re.search(r"(arn:.*\*|: \"\*\")", line) and "kms:EncryptionContext" not in line:
                deny = any("Effect: Deny" in one for one in lines[max(0, number - 6) : number])
                ours = "Principal" in line or "${ArtifactBucket.Arn}/*" in line
                assert reasoned or "#" in line or deny or ours or "[\\w-]+" in line, f"{file.name}:{number + 1}: {line}"


def test_every_statement_reads_as_a_sentence_and_names_an_own_one() -> None:
    for place, statements in policies.policies():
        sids = [one["Sid"] for one in statements]
        assert all(re.fullmatch(r"([A-Z][a-z]*){2,}", one) for one in sids), (place, sids)
        assert len(sids) == len(set(sids)), place


def test_policies_are_within_what_iam_takes() -> None:
    """Source: IAM user guide, "IAM and AWS STS quotas": 6,144 characters a managed policy, 10,240 a role's own."""
    for place, statements in policies.policies():
        size = len(re.sub(r"\s", "", str(statements)))
        assert size <= (6144 if place.endswith("Policy") else 10240), (place, size)


# Who is trusted


@pytest.mark.parametrize("file", ["target_role.yaml", "team_role.yaml"])
def test_a_target_role_trusts_one_role_that_says_the_external_id(file) -> None:
    resolved = Resolved(file)
    for name, who in {"DeployRole": "DeployerArn", "DiffRole": "DifferArn"}.items():
        (trust,) = resolved.resource(name)["AssumeRolePolicyDocument"]["Statement"]
        assert trust["Principal"] == {"AWS": policies.GIVEN[who]}
        assert trust["Condition"] == {"StringEquals": {"sts:ExternalId": policies.GIVEN["ExternalId"]}}


def test_a_project_names_the_role_that_its_target_made() -> None:
    build = Resolved("project.yaml", Stage="deploy", EnvironmentName="prod", TargetAccountId="222222222222")
    variables = {
        one["Name"]: one["Value"] for one in build.resource("BuildProject")["Environment"]["EnvironmentVariables"]
    }
    target = Resolved("target_role.yaml", EnvironmentName="prod").resource("DeployRole")
    made = f"arn:aws:iam::222222222222:role{target['Path']}{target['RoleName']}"
    assert variables["TARN_ROLE_ARN"] == made
    stacks = Resolved("cloudformation_role.yaml", EnvironmentName="prod").resource("CloudFormationRole")
    assert (
        variables["TARN_CLOUDFORMATION_ROLE_ARN"]
        == f"arn:aws:iam::222222222222:role{stacks['Path']}{stacks['RoleName']}"
    )
    assert Role("build", build.statements("BuildRole")).may("sts:AssumeRole", made)


@pytest.mark.parametrize(("name", "service"), [("BuildRole", "codebuild"), ("PipelineRole", "codepipeline")])
def test_a_service_takes_its_role_for_this_account_and_resource_alone(name, service) -> None:
    resolved = Resolved("project.yaml" if name == "BuildRole" else "pipeline.yaml")
    (trust,) = resolved.resource(name)["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Service": f"{service}.amazonaws.com"}
    assert trust["Condition"]["StringEquals"] == {"aws:SourceAccount": HERE}
    assert trust["Condition"]["ArnLike"]["aws:SourceArn"].startswith(f"arn:aws:{service}:{REGION}:{HERE}:")


def test_github_is_one_repository_in_one_environment_and_asks_in_another() -> None:
    resolved = Resolved("github_role.yaml", GithubRepository="example/lake", EnvironmentName="prod")
    for name, environment in {"GithubRole": "prod", "GithubDiffRole": "prod-diff"}.items():
        (trust,) = resolved.resource(name)["AssumeRolePolicyDocument"]["Statement"]
        claims = trust["Condition"]["StringEquals"]
        assert claims["token.actions.githubusercontent.com:sub"] == f"repo:example/lake:environment:{environment}"
        assert claims["token.actions.githubusercontent.com:aud"] == "sts.amazonaws.com"
    asks, deploys = (Role(name, resolved.statements(name)) for name in ("GithubDiffRole", "GithubRole"))
    targets = f"{ROLES_ARN}/tarn-delivery/lake-target"
    assert deploys.may("sts:AssumeRole", f"{targets}-prod-deploy")
    assert not deploys.may("sts:AssumeRole", f"{targets}-dev-deploy")
    assert asks.may("sts:AssumeRole", f"{targets}-prod-diff")
    assert not asks.may("sts:AssumeRole", f"{targets}-prod-deploy")


# What may not happen


def test_check_can_neither_deploy_nor_become_who_deploys() -> None:
    check = role("project.yaml", "BuildRole", Stage="check", TargetAccountId="none", EnvironmentName="none")
    assert not [action for action in check.actions() if action.split(":")[0] in ("cloudformation", "iam", "sts", "ssm")]
    assert not check.may("sts:AssumeRole", f"{ROLES_ARN}/tarn-delivery/lake-target-dev-deploy")
    assert check.may("s3:PutObject", "arn:aws:s3:::artifacts/tarn-lake/check/abc")
    assert not check.may("s3:PutObject", "arn:aws:s3:::artifacts/tarn-lake/source/abc")


@pytest.mark.parametrize(("stage", "environment"), [("deploy", "dev"), ("smoke", "dev"), ("diff", "prod")])
def test_no_unapproved_push_can_become_who_deploys_prod(stage, environment) -> None:
    build = role("project.yaml", "BuildRole", Stage=stage, EnvironmentName=environment)
    assert build.may("sts:AssumeRole", f"{ROLES_ARN}/tarn-delivery/lake-target-{environment}-{stage}")
    assert not build.may("sts:AssumeRole", f"{ROLES_ARN}/tarn-delivery/lake-target-prod-deploy")
    assert not build.may("sts:AssumeRole", f"{ROLES_ARN}/tarn-delivery/lake-target-prod-cloudformation")


@pytest.mark.parametrize("file", ["target_role.yaml", "team_role.yaml"])
def test_who_asks_what_would_change_changes_nothing(file) -> None:
    asks = role(file, "DiffRole", DeliveryName="lake" if file == "target_role.yaml" else "air")
    stacks = "tarn-dev" if file == "target_role.yaml" else "tarn-dev-pipeline-air-main"
    assert asks.may("cloudformation:CreateChangeSet", stack(stacks))
    for action in ("ExecuteChangeSet", "UpdateStack", "CreateStack", "DeleteStack", "SetStackPolicy"):
        assert not asks.may(f"cloudformation:{action}", stack(stacks)), action
    assert not asks.may("iam:PassRole", f"{ROLES_ARN}/tarn-delivery/lake-target-dev-cloudformation")
    bucket = f"arn:aws:s3:::tarn-dev-assets-{HERE}-{REGION}"
    assert not asks.may("s3:PutObject", f"{bucket}/packages/0123.zip")
    assert not asks.may("s3:PutObject", f"{bucket}/assets/0123/light.sql")


def test_a_deployment_of_one_environment_reaches_no_other() -> None:
    deploys = role("target_role.yaml", "DeployRole", EnvironmentName="dev")
    makes = role("cloudformation_role.yaml", "CloudFormationRole", EnvironmentName="dev")
    assert deploys.may("cloudformation:ExecuteChangeSet", stack("tarn-dev"))
    assert deploys.may("cloudformation:ExecuteChangeSet", stack("tarn-dev-assets"))
    for name in ("tarn-prod", "tarn-prod-assets", "tarn-delivery", "other"):
        assert not deploys.may("cloudformation:ExecuteChangeSet", stack(name)), name
        assert not makes.may("cloudformation:DeleteStack", stack(name)), name
    assert makes.may("s3:PutBucketPolicy", f"arn:aws:s3:::tarn-dev-raw-{HERE}-{REGION}")
    assert not makes.may("s3:PutBucketPolicy", f"arn:aws:s3:::tarn-prod-raw-{HERE}-{REGION}")
    key = f"arn:aws:kms:{REGION}:{HERE}:key/0123"
    assert makes.may("kms:PutKeyPolicy", key, {"aws:ResourceTag/tarn:environment": "dev"})
    assert not makes.may("kms:PutKeyPolicy", key, {"aws:ResourceTag/tarn:environment": "prod"})


def test_no_deployment_can_change_its_own_rights() -> None:
    makes = role("cloudformation_role.yaml", "CloudFormationRole")
    for name in ("lake-target-dev-cloudformation", "lake-target-dev-deploy", "lake-build-dev-deploy"):
        for action in ("PutRolePolicy", "UpdateAssumeRolePolicy", "PassRole"):
            given = {"iam:PassedToService": "lambda.amazonaws.com"}
            assert not makes.may(f"iam:{action}", f"{ROLES_ARN}/tarn-delivery/{name}", given), (action, name)
    assert makes.may("iam:PutRolePolicy", f"{ROLES_ARN}/tarn-dev-IngestStack-RouteObjectRole")


def test_a_team_reaches_its_own_pipelines_and_datasets_alone() -> None:
    deploys = role("team_role.yaml", "DeployRole", DeliveryName="air")
    makes = role("team_cloudformation_role.yaml", "CloudFormationRole", DeliveryName="air")
    for name in ("tarn-dev-pipeline-air-main", "tarn-dev-dataset-air-flights"):
        assert deploys.may("cloudformation:ExecuteChangeSet", stack(name)), name
        assert makes.may("cloudformation:UpdateStack", stack(f"{name}-NestedStack-AB")), name
    others = ("tarn-dev", "tarn-dev-foundations", "tarn-dev-assets", "tarn-dev-team-air", "tarn-dev-pipeline-sky-main")
    for name in (*others, "tarn-prod-pipeline-air-main", "tarn-delivery"):
        for action in ("CreateChangeSet", "ExecuteChangeSet", "UpdateStack", "SetStackPolicy"):
            assert not deploys.may(f"cloudformation:{action}", stack(name)), (action, name)
        for action in ("UpdateStack", "DeleteStack"):
            assert not makes.may(f"cloudformation:{action}", stack(name)), (action, name)


@pytest.mark.parametrize(
    ("action", "resource", "context"),
    [
        ("s3:PutBucketPolicy", f"arn:aws:s3:::tarn-dev-raw-{HERE}-{REGION}", {}),
        ("dynamodb:DeleteTable", f"arn:aws:dynamodb:{REGION}:{HERE}:table/tarn-dev-foundations-ObjectsTable", {}),
        ("kms:PutKeyPolicy", policies.GIVEN["TeamKeyArn"], {"aws:ResourceTag/tarn:environment": "dev"}),
        ("kms:Decrypt", f"arn:aws:kms:{REGION}:{HERE}:key/sky", {"aws:ResourceTag/tarn:environment": "dev"}),
        ("lambda:UpdateFunctionCode", f"arn:aws:lambda:{REGION}:{HERE}:function:tarn-dev-foundations-RouteObject", {}),
        ("lambda:UpdateFunctionCode", policies.GIVEN["RegistrarFunctionArn"], {}),
        ("lambda:UpdateFunctionCode", f"arn:aws:lambda:{REGION}:{HERE}:function:tarn-dev-pipeline-sky-main-X", {}),
        ("sqs:SetQueueAttributes", f"arn:aws:sqs:{REGION}:{HERE}:tarn-dev-sky-weather-staged", {}),
        ("ssm:PutParameter", f"arn:aws:ssm:{REGION}:{HERE}:parameter/tarn/dev/foundations/key/arn", {}),
        ("ssm:PutParameter", f"arn:aws:ssm:{REGION}:{HERE}:parameter/tarn/dev/team/air/boundary/arn", {}),
        ("ssm:PutParameter", f"arn:aws:ssm:{REGION}:{HERE}:parameter/tarn/dev/dataset/sky/main/weather/queue/url", {}),
        ("glue:UpdateJob", f"arn:aws:glue:{REGION}:{HERE}:job/TransformBatchJob-1",
         {"aws:ResourceTag/tarn:environment": "dev", "aws:ResourceTag/tarn:team": "sky"}),
        ("states:UpdateStateMachine", f"arn:aws:states:{REGION}:{HERE}:stateMachine:Hop-1",
         {"aws:ResourceTag/tarn:environment": "dev", "aws:ResourceTag/tarn:team": "sky"}),
        ("iam:PutRolePolicy", f"{ROLES_ARN}/tarn-dev-foundations-RouteObjectRole", BOUNDARY),
        ("iam:PutRolePolicy", f"{ROLES_ARN}/tarn-dev-pipeline-sky-main-StarterRole", BOUNDARY),
        ("iam:CreatePolicyVersion", policies.GIVEN["BoundaryArn"], {}),
    ],
)  # fmt: skip
def test_what_is_made_for_a_team_is_not_foundations_nor_another_teams(action, resource, context) -> None:
    assert not role("team_cloudformation_role.yaml", "CloudFormationRole", DeliveryName="air").may(
        action, resource, context
    )


def test_every_role_that_is_made_for_a_team_stands_under_its_boundary() -> None:
    makes = role("team_cloudformation_role.yaml", "CloudFormationRole", DeliveryName="air")
    made = f"{ROLES_ARN}/tarn-dev-pipeline-air-main-StarterRole-1"
    for action in ("CreateRole", "PutRolePolicy", "PutRolePermissionsBoundary"):
        assert makes.may(f"iam:{action}", made, BOUNDARY), action
        assert not makes.may(f"iam:{action}", made), action
        assert not makes.may(f"iam:{action}", made, {"iam:PermissionsBoundary": "arn:aws:iam::aws:policy/Admin"}), (
            action
        )
    assert not makes.may("iam:DeleteRolePermissionsBoundary", made)


def test_a_team_uploads_where_nobody_else_deploys_from() -> None:
    bucket = f"arn:aws:s3:::tarn-dev-assets-{HERE}-{REGION}"
    deploys = role("team_role.yaml", "DeployRole", DeliveryName="air")
    for place in ("packages", "assets"):
        assert deploys.may("s3:PutObject", f"{bucket}/{place}/air/0123.zip"), place
        assert not deploys.may("s3:PutObject", f"{bucket}/{place}/0123.zip"), place
        assert not deploys.may("s3:PutObject", f"{bucket}/{place}/sky/0123.zip"), place


@pytest.mark.parametrize("name", ["DeployRole", "DiffRole"])
def test_of_the_batches_under_way_a_team_sees_its_own(name) -> None:
    table = f"arn:aws:dynamodb:{REGION}:{HERE}:table/tarn-dev-foundations-BatchesTable"
    asks = role("team_role.yaml", name, DeliveryName="air")
    assert asks.may("dynamodb:Query", table, {"dynamodb:LeadingKeys": ["air#flights"]})
    assert not asks.may("dynamodb:Query", table, {"dynamodb:LeadingKeys": ["sky#weather"]})
    assert not asks.may("dynamodb:Query", table)


def test_the_smoke_test_is_of_dev_alone() -> None:
    rule = templates.load(Path("cicd/target_role.yaml"))["Rules"]["OnlyDevIsTried"]
    assert rule["RuleCondition"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "EnvironmentName"}, "dev"]}]}
    tries = role("target_role.yaml", "SmokeRole")
    assert tries.may("s3:PutObject", f"arn:aws:s3:::tarn-dev-raw-{HERE}-{REGION}/air/airlines/smoke.csv")
    assert not tries.may("s3:PutObject", f"arn:aws:s3:::tarn-dev-analytics-{HERE}-{REGION}/x")


@pytest.mark.parametrize(
    ("template", "parameter", "refused"),
    [
        ("team/template.yaml", "TeamName", layers.RESERVED),
        ("cicd/team_role.yaml", "DeliveryName", layers.RESERVED),
        ("cicd/template.yaml", "DeliveryName", [one for one in layers.RESERVED if one != "lake"]),
    ],
)
def test_no_team_is_called_as_the_lake_calls_its_own(template: str, parameter: str, refused: Sequence[str]) -> None:
    """A team `pipeline` would reach every stack `tarn-{env}-pipeline-*`, and a delivery `lake` has the lake's roles."""
    taken = templates.load(Path(template))["Parameters"][parameter]
    for name in refused:
        assert not re.fullmatch(taken["AllowedPattern"], name), name
        assert name in taken["ConstraintDescription"]
    for name in ("air", "lakes", "teamster", "pipeline2"):
        assert re.fullmatch(taken["AllowedPattern"], name), name
