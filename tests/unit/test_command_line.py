"""The command line knows the embedded AWS in its local part alone."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from tarn import cli

WITHOUT_THE_EMULATOR = """
import importlib, pathlib, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name == "ministack" or name.startswith(("ministack.", "tarn.local")):
            raise ImportError(f"{name} must not be needed")

sys.meta_path.insert(0, Refuse())
import tarn
names = sorted(path.stem for path in pathlib.Path(tarn.__path__[0]).glob("*.py") if path.stem != "__init__")
for name in names:
    importlib.import_module(f"tarn.{name}")
print(*names)
"""


def test_everything_but_the_local_part_imports_without_the_emulator() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_THE_EMULATOR], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {"cli", "lake", "contract", "deployment"} <= set(done.stdout.split())


@pytest.mark.parametrize("dataset", ["flights", "air/", "/flights", "air/flights/2013"])
def test_put_refuses_what_is_not_a_dataset(dataset, tmp_path) -> None:
    file = tmp_path / "a.csv"
    file.touch()
    done = CliRunner().invoke(cli.app, ["put", dataset, str(file)])
    assert done.exit_code == 1
    assert "is not TEAM/DATASET" in done.output


def test_a_parameter_has_a_value() -> None:
    done = CliRunner().invoke(cli.app, ["deploy", "--parameter", "LogRetentionDays"])
    assert done.exit_code == 1
    assert "is not NAME=VALUE" in done.output


def test_quality_is_on_or_off() -> None:
    done = CliRunner().invoke(cli.app, ["deploy", "--quality", "maybe"])
    assert done.exit_code == 1
    assert "it can be on or off" in done.output
