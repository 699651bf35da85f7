"""`aws-sdk:cloudformation:*` as Step Functions tasks.

Stock MiniStack 1.5.33 has CloudFormation and has the tasks of the SDK, and the one is not in the other's list.
"""

from __future__ import annotations

from tarn.local.extension.patching import original
from tarn.local.settings import Settings


def install(_settings: Settings) -> None:
    """Add the service, which speaks the query protocol."""
    original("ministack.services.stepfunctions", "_AWS_SDK_SERVICE_MAP")["cloudformation"] = {"protocol": "query"}
