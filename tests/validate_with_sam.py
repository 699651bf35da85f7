"""`sam validate --lint` of many templates in one process of the SAM CLI: it takes one at a time, and long to start.

Run by the SAM CLI's own Python (`make sam-validate`).
"""

from __future__ import annotations

import sys

from click import ClickException
from samcli.cli.main import cli

for template in sys.argv[1:]:
    try:
        cli.main(["validate", "--lint", "--template-file", template], standalone_mode=False)
    except ClickException as error:
        sys.exit(f"{template}: {error.message}")
