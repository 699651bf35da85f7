"""What the lake needs and MiniStack lacks, one module for each concern.

Each module says what stock MiniStack does, and has one `install(settings)`. All names that are
patched are private to MiniStack, so they are looked up through `patching`, which says clearly
what is missing; the launcher serves nothing before every plug point is in its place.
"""

from __future__ import annotations

from tarn.local.extension import (
    action_names,
    athena,
    cloudformation_tasks,
    condition_texts,
    crawlers,
    delivery_permissions,
    dynamodb_leading_keys,
    emr_serverless,
    emr_steps,
    encryption,
    fargate_tasks,
    faults,
    glue_jobs,
    glue_tasks,
    lambda_errors,
    message_moves,
    metric_math_alarms,
    missing_types,
    nested_change_sets,
    nested_stacks,
    policy_texts,
    processing_jobs,
    property_types,
    queue_races,
    recorded_decisions,
    refused_deletions,
    resource_names,
    resource_tags,
    role_trust,
    stack_properties,
    state_machine_definitions,
    state_machine_permissions,
    sync_tasks,
    taken_names,
)
from tarn.local.settings import Settings

PLUG_POINTS = (
    nested_stacks,
    nested_change_sets,
    cloudformation_tasks,
    metric_math_alarms,
    missing_types,
    stack_properties,
    refused_deletions,
    taken_names,
    state_machine_definitions,
    role_trust,
    dynamodb_leading_keys,
    condition_texts,
    resource_tags,
    encryption,
    sync_tasks,
    glue_jobs,
    glue_tasks,
    fargate_tasks,
    emr_steps,
    emr_serverless,
    processing_jobs,
    crawlers,
    athena,
    lambda_errors,
    state_machine_permissions,
    action_names,
    resource_names,
    delivery_permissions,
    message_moves,
    property_types,
    policy_texts,
    queue_races,
    recorded_decisions,
    faults,
)


def install(settings: Settings) -> None:
    """Put every plug point in its place, or raise `PlugPointMissing`."""
    for plug_point in PLUG_POINTS:
        plug_point.install(settings)
