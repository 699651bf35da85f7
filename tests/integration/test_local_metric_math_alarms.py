"""Alarms on metric math: stock MiniStack 1.5.33 fails their stack; here they are recorded, and said to be no more."""

from __future__ import annotations

import json

from tarn.local.emulator import Emulator
from tests.integration.local_world import Stacks


def template(threshold: int) -> str:
    metric = {"Namespace": "AWS/States", "MetricName": "ExecutionsFailed"}
    alarm = {
        "Type": "AWS::CloudWatch::Alarm",
        "Properties": {
            "Metrics": [
                {"Id": "both", "Expression": "one + one"},
                {"Id": "one", "ReturnData": False, "MetricStat": {"Metric": metric, "Period": 300, "Stat": "Sum"}},
            ],
            "EvaluationPeriods": 1,
            "Threshold": threshold,
            "ComparisonOperator": "GreaterThanThreshold",
        },
    }
    outputs = {"AlarmArn": {"Value": {"Fn::GetAtt": ["Failures", "Arn"]}}}
    return json.dumps({"Resources": {"Failures": alarm}, "Outputs": outputs})


def test_such_an_alarm_is_recorded_and_the_log_says_so(emulator: Emulator, stacks: Stacks) -> None:
    created = stacks.create(template(0))
    assert created["StackStatus"] == "CREATE_COMPLETE", created["Reasons"]
    assert created["Values"]["AlarmArn"].startswith("arn:aws:cloudwatch:eu-west-1:000000000000:alarm:")
    assert "AWS::CloudWatch::Alarm Failures of" in emulator.settings.log_path.read_text()

    changed = stacks.update(template(1), created["StackName"])
    assert changed["StackStatus"] == "UPDATE_COMPLETE", changed["Reasons"]
    assert stacks.delete(created["StackName"])["StackStatus"] == "DELETE_COMPLETE"
