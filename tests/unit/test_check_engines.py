"""A dataset of each engine that is no Spark: made from a sample, and checked by the program that the engine runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

from tarn import check, new_dataset, registered
from tarn.check import CheckError

NO_SPARK = cast("Any", None)


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    file = tmp_path / "parcels.csv"
    file.write_text("parcel,weight\n" + "".join(f"P{number},{number}.5\n" for number in range(20)))
    return file


def made(tmp_path: Path, sample: Path, engine: str) -> registered.Dataset:
    created = new_dataset.create("post/parcels", sample, engine=engine, jars=None, datasets=tmp_path / "datasets")
    return registered.read(created.folder)


def heavy(dataset: registered.Dataset, work: Path) -> check.Heavy:
    found, _ = check.heavy(NO_SPARK, dataset, check.light(dataset, dataset.samples, work), work)
    return found


@pytest.mark.parametrize("engine", ["fargate", "sagemaker"])
def test_a_new_dataset_passes_its_engines_own_program(tmp_path: Path, sample: Path, engine: str) -> None:
    dataset = made(tmp_path, sample, engine)
    assert dataset.row["engine"] == engine
    assert heavy(dataset, tmp_path / "work") == check.Heavy(20, 20, [("parcel", "string"), ("weight", "double")], [])


def test_a_spark_engine_is_written_into_the_registration_and_nothing_else_is(tmp_path: Path, sample: Path) -> None:
    dataset = made(tmp_path, sample, "emr-step")
    assert dataset.row["engine"] == "emr-step"
    assert "heavy_transform" not in dataset.row


def test_sql_of_the_container_is_duckdbs(tmp_path: Path, sample: Path) -> None:
    folder = made(tmp_path, sample, "fargate").folder
    (folder / "heavy.sql").write_text("FROM staged SELECT parcel, weight::DECIMAL(5, 1) AS weight")
    template = folder / "template.yaml"
    template.write_text(
        template.read_text().replace("Engine: fargate", "Engine: fargate\n        HeavyTransform: heavy.sql")
    )
    columns = heavy(registered.read(folder), tmp_path / "work").columns
    assert columns == [("parcel", "string"), ("weight", "decimal(5,1)")]


def test_a_notebook_that_raises_fails_the_check_with_its_cell(tmp_path: Path, sample: Path) -> None:
    folder = made(tmp_path, sample, "sagemaker").folder
    notebook = json.loads((folder / "heavy.ipynb").read_text())
    notebook["cells"][-1]["source"] = ["1 / 0"]
    (folder / "heavy.ipynb").write_text(json.dumps(notebook))
    with pytest.raises(CheckError, match=r"heavy\.ipynb, In \[4\]: ZeroDivisionError"):
        heavy(registered.read(folder), tmp_path / "work")


def test_an_engine_that_is_none_is_refused_before_anything_is_made(tmp_path: Path, sample: Path) -> None:
    with pytest.raises(new_dataset.NewDatasetError, match="engine 'lambda': it can be glue, fargate, emr-serverless"):
        new_dataset.create("post/parcels", sample, engine="lambda", jars=None, datasets=tmp_path / "datasets")
    assert not (tmp_path / "datasets").exists()
