"""One logger for every function.

Powertools reads the service's name and the log level from ``POWERTOOLS_SERVICE_NAME`` and
``POWERTOOLS_LOG_LEVEL``, which the templates set.
"""

from aws_lambda_powertools import Logger

logger = Logger()
