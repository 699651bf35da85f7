"""Types that stock MiniStack 1.5.33 refuses as unknown: recorded, and said to be no more than that."""

from __future__ import annotations

from tarn.local.emulator import Emulator
from tests.integration.local_world import TEMPLATES, Stacks

TEMPLATE = (TEMPLATES / "governance.yaml").read_text()


def test_they_are_recorded_and_the_log_says_so(emulator: Emulator, stacks: Stacks) -> None:
    created = stacks.create(TEMPLATE)
    assert created["StackStatus"] == "CREATE_COMPLETE", created["Reasons"]
    assert created["Values"] == {
        "SecurityConfigurationName": "governed",
        "AlarmArn": "arn:aws:cloudwatch:eu-west-1:000000000000:alarm:governed",
    }
    log = emulator.settings.log_path.read_text()
    assert "AWS::LakeFormation::PrincipalPermissions Grant of" in log
    assert "is recorded, but not acted upon" in log

    changed = stacks.update(TEMPLATE.replace("SELECT 1", "SELECT 2"), created["StackName"])
    assert changed["StackStatus"] == "UPDATE_COMPLETE"
    assert stacks.delete(created["StackName"])["StackStatus"] == "DELETE_COMPLETE"
