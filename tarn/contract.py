"""How the command line finds a lake: the SSM parameters that its layers publish (docs/contract.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_ssm.client import SSMClient


class ContractError(Exception):
    """The lake, or a part of it, is not where its contract says; the message says which and what to do."""


@dataclass(frozen=True)
class DatasetAddress:
    """Where a registered dataset stands: its team, its pipeline, its name."""

    team: str
    pipeline: str
    dataset: str

    def __str__(self) -> str:
        return f"{self.team}/{self.dataset}"


class Contract:
    """The published names of one environment's lake, read once.

    Raises:
        ContractError: nothing is published under ``/tarn/{environment}/``.
    """

    def __init__(self, ssm: SSMClient, environment: str) -> None:
        self.environment = environment
        self._root = f"/tarn/{environment}/"
        pages = ssm.get_paginator("get_parameters_by_path").paginate(Path=self._root, Recursive=True)
        self._values = {
            one["Name"].removeprefix(self._root): one["Value"] for page in pages for one in page["Parameters"]
        }
        if not self._values:
            raise ContractError(
                f"no lake here: no SSM parameter under {self._root} in region {ssm.meta.region_name}. "
                f"Deploy it (tarn deploy --environment {environment}), or name another environment or AWS profile."
            )

    def foundations(self, thing: str) -> str:
        """A value of the foundations, such as ``raw-bucket/name``."""
        return self._value(f"foundations/{thing}")

    def team(self, team: str, thing: str) -> str:
        """A value of a team, such as ``workgroup/name``."""
        return self._value(f"team/{team}/{thing}")

    def pipeline(self, team: str, pipeline: str, thing: str) -> str:
        """A value of a pipeline, such as ``queue/url``."""
        return self._value(f"pipeline/{team}/{pipeline}/{thing}")

    def dataset(self, address: DatasetAddress, thing: str) -> str:
        """A value of a dataset, such as ``queue/url``."""
        return self._value(f"dataset/{address.team}/{address.pipeline}/{address.dataset}/{thing}")

    def value(self, parameter: str) -> str:
        """The value of a parameter by its whole name, such as ``/tarn/dev/team/air/key/arn``."""
        return self._value(parameter.removeprefix(self._root))

    def teams(self) -> list[str]:
        """The teams that are deployed, in alphabetical order."""
        return sorted({name.split("/")[1] for name in self._values if name.startswith("team/")})

    def pipelines(self) -> list[tuple[str, str]]:
        """Team and pipeline of every pipeline that is deployed."""
        return sorted({(parts[1], parts[2]) for parts in self._split("pipeline/")})

    def datasets(self) -> list[DatasetAddress]:
        """Every dataset that is deployed."""
        places = {(parts[1], parts[2], parts[3]) for parts in self._split("dataset/")}
        return [DatasetAddress(*place) for place in sorted(places)]

    def queues(self) -> dict[str, str]:
        """Every queue of the lake by the place that owns it, dead letters included."""
        return {
            name.removesuffix("/url"): value
            for name, value in sorted(self._values.items())
            if name.endswith(("queue/url", "dead-letters/url"))
        }

    def address(self, team: str, dataset: str) -> DatasetAddress:
        """Where a team's dataset stands.

        Raises:
            ContractError: it is not deployed; the message names those that are.
        """
        for address in self.datasets():
            if (address.team, address.dataset) == (team, dataset):
                return address
        known = ", ".join(map(str, self.datasets())) or "none"
        raise ContractError(f"this lake has no dataset {team}/{dataset}: it has {known}")

    def log_groups(self, team: str, pipeline: str) -> dict[str, str]:
        """The log groups that an object of a pipeline passes, by who writes there: ``transform_objects``."""
        end = "-log-group/name"
        return {
            name.removesuffix(end).rpartition("/")[2].replace("-", "_"): value
            for name, value in self._values.items()
            if name.endswith(end) and name.startswith(("foundations/", f"pipeline/{team}/{pipeline}/"))
        }

    def jobs(self, team: str, pipeline: str) -> dict[str, str]:
        """The Glue jobs of a pipeline: ``transform_batch`` and, where quality is on, ``judge_batch``."""
        found = {
            job.replace("-", "_"): self._values.get(f"pipeline/{team}/{pipeline}/{job}-job/name", "none")
            for job in ("transform-batch", "judge-batch")
        }
        return {job: name for job, name in found.items() if name != "none"}

    def _split(self, layer: str) -> list[list[str]]:
        return [name.split("/") for name in self._values if name.startswith(layer)]

    def _value(self, name: str) -> str:
        try:
            return self._values[name]
        except KeyError:
            raise ContractError(f"the lake publishes no {self._root}{name}: is that layer deployed?") from None
