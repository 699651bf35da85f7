"""The lake's own metrics, in namespace ``Tarn``: lines in a function's log that CloudWatch reads as metrics.

An alarm finds a metric by exactly its dimensions, so each set of them is written down here once. Powertools would
add ``service`` (the function's name) to every set; no alarm could then ask for a dataset or a pipeline.
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

from __future__ import annotations

from collections.abc import Mapping

from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.metrics.provider.cloudwatch_emf.cloudwatch import AmazonCloudWatchEMFProvider

NAMESPACE = "Tarn"
BATCHES_PUBLISHED = "BatchesPublished"
BATCHES_BLOCKED = "BatchesBlocked"
BATCHES_FAILED = "BatchesFailed"
JOB_RUNS_FAILED = "JobRunsFailed"
ROWS_PUBLISHED = "RowsPublished"
BYTES_PUBLISHED = "BytesPublished"
HOURS_SINCE_PUBLISHED = "HoursSincePublished"
UNITS = {BYTES_PUBLISHED: MetricUnit.Bytes, HOURS_SINCE_PUBLISHED: MetricUnit.NoUnit}
"""Of metrics that are no counts."""


def of_batch(environment: str, team: str, pipeline: str, dataset: str, values: Mapping[str, float]) -> None:
    """Send what an attempt of a batch came to, for its dataset and for its pipeline (which alarms ask for)."""
    metrics = _of_dataset(environment, team, dataset)
    metrics.add_dimensions(Environment=environment, Team=team, Pipeline=pipeline)
    _send(metrics, values)


def of_freshness(environment: str, team: str, hours: Mapping[str, float]) -> None:
    """Send for each dataset how many hours ago it published."""
    for dataset, value in hours.items():
        _send(_of_dataset(environment, team, dataset), {HOURS_SINCE_PUBLISHED: value})


def _of_dataset(environment: str, team: str, dataset: str) -> AmazonCloudWatchEMFProvider:
    metrics = AmazonCloudWatchEMFProvider(namespace=NAMESPACE, service="")
    for name, value in (("Environment", environment), ("Team", team), ("Dataset", dataset)):
        metrics.add_dimension(name, value)
    return metrics


def _send(metrics: AmazonCloudWatchEMFProvider, values: Mapping[str, float]) -> None:
    for name, value in values.items():
        metrics.add_metric(name, UNITS.get(name, MetricUnit.Count), value)
    metrics.flush_metrics()
