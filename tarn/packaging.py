"""Build what the functions' one layer carries: their dependencies for Lambda's own machine and Python.

pip resolves arm64 wheels on any machine, so neither ``sam build`` nor that interpreter is needed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tarn.deployment import DEPENDENCIES
from tarn.templates import ROOT

LAMBDA_PYTHON = "3.13"
LAMBDA_PLATFORM = "manylinux_2_28_aarch64"


def build() -> Path:
    """Resolve ``requirements/runtime.txt`` by hash and zip it as a layer; gives the zip.

    Raises:
        subprocess.CalledProcessError: pip could not resolve or fetch a wheel; it says which.
    """
    folder = ROOT / "build" / "dependencies"
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"),
            *("--require-hashes", "--requirement", str(ROOT / "requirements" / "runtime.txt")),
            *("--only-binary", ":all:", "--python-version", LAMBDA_PYTHON, "--implementation", "cp"),
            *("--platform", LAMBDA_PLATFORM, "--platform", "manylinux2014_aarch64", "--target", str(folder / "python")),
        ],
        check=True,
    )
    return Path(shutil.make_archive(str(DEPENDENCIES.with_suffix("")), "zip", folder))


if __name__ == "__main__":
    print(build().relative_to(ROOT))
