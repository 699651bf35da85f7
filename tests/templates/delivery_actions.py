"""What the delivery calls on an account: the one table that its policies are held to, in both directions.

``CALLS``: the API calls behind each make target of a stage (cicd/stages.mk). ``HANDLERS``: what CloudFormation calls to
make, change, read and delete a resource of each type, with its role. Actions are written ``service: Name Name``.

Sources: Service Authorization Reference; CloudFormation's resource schemas (``handlers``); CodeBuild user guide,
"Allow CodeBuild to interact with other AWS services" and "Test report permissions"; CodePipeline user guide, "Manage
the CodePipeline service role".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def actions(*lines: str) -> frozenset[str]:
    """``s3: GetObject PutObject`` as ``s3:GetObject`` and ``s3:PutObject``."""
    pairs = (line.split(":", 1) for line in lines)
    return frozenset(f"{service}:{name}" for service, names in pairs for name in names.split())


# By whom CodeBuild is: its own log, artifact and report, and the one step to the role in the target account.
BUILD = actions(
    "logs: CreateLogStream PutLogEvents",
    "s3: GetObject GetObjectVersion GetBucketAcl GetBucketLocation",
    "kms: Decrypt GenerateDataKey",
    "codebuild: CreateReportGroup CreateReport UpdateReport BatchPutTestCases",
)
BUILD_OF_CHECK = BUILD | actions("s3: PutObject")
BUILD_ON_A_TARGET = BUILD | actions("sts: AssumeRole")

# Finding the lake and its buckets: tarn.contract, tarn.preconditions, sam's look at what it uploaded before.
LOOK = actions(
    "ssm: GetParameter GetParameters GetParametersByPath",
    "s3: GetObject ListBucket",
    "cloudformation: DescribeStacks DescribeStackEvents ListStackResources GetTemplate GetTemplateSummary",
)
# tarn.previews and tarn.losses, and `sam package` before them.
PREVIEW = actions(
    "s3: PutObject AbortMultipartUpload",
    "cloudformation: CreateChangeSet DescribeChangeSet DeleteChangeSet",
    "sqs: GetQueueAttributes",
    "dynamodb: Query",
    "kms: Decrypt",
)
# `sam deploy`, or the AWS CLI; tarn.safeguards after it.
CHANGE = actions(
    "cloudformation: ExecuteChangeSet GetStackPolicy SetStackPolicy UpdateTerminationProtection UpdateStack",
    "iam: PassRole",
)
# By make target. What none of them calls stays in no policy.
CALLS: Mapping[str, frozenset[str]] = {
    "check-install": actions(),
    "check-pre-build": actions(),
    "check-build": actions(),
    "check-post-build": actions(),
    "diff-install": actions(),
    "diff-pre-build": actions(),
    "diff-build": LOOK | PREVIEW,
    "diff-post-build": actions(),
    "deploy-install": actions(),
    "deploy-pre-build": actions(),
    "deploy-build": LOOK | PREVIEW | CHANGE,
    "deploy-post-build": actions(),
    "smoke-install": actions(),
    "smoke-pre-build": actions(),
    "smoke-build": actions(
        "ssm: GetParametersByPath", "s3: PutObject", "dynamodb: GetItem", "kms: Decrypt GenerateDataKey"
    ),
    "smoke-post-build": actions(),
}

PIPELINE = actions(
    "codecommit: GetBranch GetCommit UploadArchive GetUploadArchiveStatus CancelUploadArchive",
    "s3: GetObject GetObjectVersion PutObject GetBucketLocation GetBucketVersioning",
    "kms: Decrypt GenerateDataKey",
    "codebuild: StartBuild BatchGetBuilds",
    "sns: Publish",
)
PIPELINE_BY_CONNECTION = (PIPELINE - {one for one in PIPELINE if one.startswith("codecommit:")}) | actions(
    "codeconnections: UseConnection"
)

HANDLERS: Mapping[str, frozenset[str]] = {
    "AWS::Athena::WorkGroup": actions(
        "athena: CreateWorkGroup DeleteWorkGroup GetWorkGroup ListTagsForResource TagResource UntagResource "
        "UpdateWorkGroup",
    ),
    "AWS::CloudFormation::Stack": actions(
        "cloudformation: CreateChangeSet CreateStack DeleteChangeSet DeleteStack DescribeChangeSet "
        "DescribeStackEvents DescribeStackResources DescribeStacks ExecuteChangeSet GetTemplate "
        "GetTemplateSummary SetStackPolicy TagResource UntagResource UpdateStack UpdateTerminationProtection",
    ),
    "AWS::CloudWatch::Alarm": actions(
        "cloudwatch: DeleteAlarms DescribeAlarms ListTagsForResource PutMetricAlarm TagResource UntagResource",
    ),
    "AWS::CloudWatch::Dashboard": actions(
        "cloudwatch: DeleteDashboards GetDashboard PutDashboard",
    ),
    "AWS::DynamoDB::Table": actions(
        "dynamodb: CreateTable DeleteTable DescribeContinuousBackups DescribeContributorInsights "
        "DescribeKinesisStreamingDestination DescribeTable DescribeTimeToLive GetResourcePolicy "
        "ListTagsOfResource TagResource UntagResource UpdateContinuousBackups UpdateTable UpdateTimeToLive",
        "kms: CreateGrant DescribeKey",
    ),
    "AWS::ECS::Cluster": actions(
        "ecs: CreateCluster DeleteCluster DescribeClusters ListTagsForResource TagResource UntagResource UpdateCluster "
        "UpdateClusterSettings",
        "iam: CreateServiceLinkedRole",
    ),
    "AWS::ECS::TaskDefinition": actions(
        "ecs: DeregisterTaskDefinition DescribeTaskDefinition ListTagsForResource RegisterTaskDefinition TagResource "
        "UntagResource",
        "iam: PassRole",
    ),
    "AWS::EMRServerless::Application": actions(
        "emr-serverless: CreateApplication DeleteApplication GetApplication TagResource UntagResource "
        "UpdateApplication",
        "iam: CreateServiceLinkedRole",
    ),
    "AWS::Events::Rule": actions(
        "events: DeleteRule DescribeRule DisableRule EnableRule ListTagsForResource ListTargetsByRule PutRule "
        "PutTargets RemoveTargets TagResource UntagResource",
    ),
    "AWS::Glue::Crawler": actions(
        "glue: CreateCrawler DeleteCrawler GetCrawler GetTags TagResource UntagResource UpdateCrawler",
        "iam: PassRole",
    ),
    "AWS::Glue::Database": actions(
        "glue: CreateDatabase DeleteDatabase GetDatabase UpdateDatabase",
    ),
    "AWS::Glue::Job": actions(
        "glue: CreateJob DeleteJob GetJob GetTags TagResource UntagResource UpdateJob",
        "iam: PassRole",
    ),
    "AWS::Glue::SecurityConfiguration": actions(
        "glue: CreateSecurityConfiguration DeleteSecurityConfiguration GetSecurityConfiguration",
    ),
    "AWS::IAM::ManagedPolicy": actions(
        "iam: CreatePolicy CreatePolicyVersion DeletePolicy DeletePolicyVersion GetPolicy GetPolicyVersion "
        "ListEntitiesForPolicy ListPolicyVersions TagPolicy UntagPolicy",
    ),
    "AWS::IAM::Policy": actions(
        "iam: DeleteRolePolicy GetRolePolicy PutRolePolicy",
    ),
    "AWS::IAM::Role": actions(
        "iam: CreateRole DeleteRole DeleteRolePermissionsBoundary DeleteRolePolicy GetRole GetRolePolicy "
        "ListAttachedRolePolicies ListRolePolicies ListRoleTags PutRolePermissionsBoundary PutRolePolicy "
        "TagRole UntagRole UpdateAssumeRolePolicy UpdateRole UpdateRoleDescription",
    ),
    "AWS::KMS::Key": actions(
        "kms: CancelKeyDeletion CreateKey DescribeKey DisableKeyRotation EnableKey EnableKeyRotation "
        "GetKeyPolicy GetKeyRotationStatus ListResourceTags PutKeyPolicy ScheduleKeyDeletion TagResource "
        "UntagResource UpdateKeyDescription",
    ),
    "AWS::Lambda::EventSourceMapping": actions(
        "lambda: CreateEventSourceMapping DeleteEventSourceMapping GetEventSourceMapping ListTags TagResource "
        "UntagResource UpdateEventSourceMapping",
    ),
    "AWS::Lambda::LayerVersion": actions(
        "lambda: DeleteLayerVersion GetLayerVersion PublishLayerVersion",
    ),
    "AWS::Lambda::Permission": actions(
        "lambda: AddPermission GetPolicy RemovePermission",
    ),
    "AWS::Logs::LogGroup": actions(
        "logs: AssociateKmsKey CreateLogGroup DeleteLogGroup DeleteRetentionPolicy DescribeIndexPolicies "
        "DescribeLogGroups DisassociateKmsKey GetDataProtectionPolicy ListTagsForResource PutRetentionPolicy "
        "TagResource UntagResource",
    ),
    "AWS::S3::Bucket": actions(
        "s3: CreateBucket DeleteBucket GetBucketNotification GetBucketOwnershipControls "
        "GetBucketPublicAccessBlock GetBucketTagging GetBucketVersioning GetEncryptionConfiguration "
        "GetLifecycleConfiguration ListBucket PutBucketNotification PutBucketOwnershipControls "
        "PutBucketPublicAccessBlock PutBucketTagging PutBucketVersioning PutEncryptionConfiguration "
        "PutLifecycleConfiguration",
    ),
    "AWS::S3::BucketPolicy": actions(
        "s3: DeleteBucketPolicy GetBucketPolicy GetBucketPolicyStatus PutBucketPolicy",
    ),
    "AWS::SNS::Topic": actions(
        "sns: CreateTopic DeleteTopic GetDataProtectionPolicy GetTopicAttributes ListSubscriptionsByTopic "
        "ListTagsForResource SetTopicAttributes TagResource UntagResource",
    ),
    "AWS::SNS::TopicPolicy": actions(
        "sns: SetTopicAttributes",
    ),
    "AWS::SQS::Queue": actions(
        "sqs: CreateQueue DeleteQueue GetQueueAttributes GetQueueUrl ListQueueTags SetQueueAttributes "
        "TagQueue UntagQueue",
    ),
    "AWS::SQS::QueuePolicy": actions(
        "sqs: SetQueueAttributes",
    ),
    "AWS::SSM::Parameter": actions(
        "ssm: AddTagsToResource DeleteParameter DescribeParameters GetParameter GetParameters "
        "ListTagsForResource PutParameter RemoveTagsFromResource",
    ),
    "AWS::Serverless::Function": actions(
        "iam: PassRole",
        "kms: Decrypt Encrypt GenerateDataKey",
        "lambda: CreateAlias CreateFunction DeleteAlias DeleteFunction DeleteFunctionConcurrency "
        "DeleteFunctionEventInvokeConfig GetAlias GetFunction GetFunctionCodeSigningConfig "
        "GetFunctionConfiguration GetFunctionEventInvokeConfig GetFunctionRecursionConfig GetLayerVersion "
        "GetPolicy GetRuntimeManagementConfig ListTags ListVersionsByFunction PublishVersion "
        "PutFunctionConcurrency PutFunctionEventInvokeConfig TagResource UntagResource UpdateAlias "
        "UpdateFunctionCode UpdateFunctionConfiguration UpdateFunctionEventInvokeConfig",
        "s3: GetObject GetObjectVersion",
    ),
    "AWS::Serverless::StateMachine": actions(
        "iam: PassRole",
        "kms: GenerateDataKeyWithoutPlaintext",
        "states: CreateStateMachine DeleteStateMachine DescribeStateMachine ListTagsForResource TagResource "
        "UntagResource UpdateStateMachine ValidateStateMachineDefinition",
    ),
    "Custom": actions(
        "lambda: InvokeFunction",
    ),
}


def handlers(types: Iterable[str]) -> frozenset[str]:
    """What CloudFormation calls for resources of these types; ``Custom::...`` is one.

    Raises:
        KeyError: a type is not in the table yet: add what CloudFormation calls for it, and give its role those actions.
    """
    return frozenset().union(*(HANDLERS["Custom" if one.startswith("Custom::") else one] for one in types))
