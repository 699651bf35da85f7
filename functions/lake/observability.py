"""One logger, one metrics namespace and one tracer for every function.

Powertools reads the service's name and the log level from ``POWERTOOLS_SERVICE_NAME`` and
``POWERTOOLS_LOG_LEVEL``, which the templates set.
"""

from aws_lambda_powertools import Logger, Metrics

logger = Logger()
metrics = Metrics(namespace="Tarn")
