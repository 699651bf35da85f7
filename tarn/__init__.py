"""Tarn: the command line, and the lake on a laptop. Nothing in here is deployed to AWS."""

import sys
from pathlib import Path

# The lake's own code, which `tarn check` runs as it is: `lake`, the jobs' scripts, and the engines' programs.
FOLDERS = ("functions", "glue", "engines", "engines/duckdb", "engines/notebook")
sys.path += [str(Path(__file__).parent.parent / folder) for folder in FOLDERS]
