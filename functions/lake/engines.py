"""Engines of the heavy transform: which there are, what programs they run, what a pipeline needs to have one.

A dataset names its engine, a pipeline says which it has (its own parameters decide), and the registrar holds the one
against the other. Whatever the engine, a run takes the same manifest and leaves the same layout and outcome file.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Literal, get_args

Engine = Literal["glue", "fargate", "emr-serverless", "emr-step", "sagemaker"]
GLUE: Engine = "glue"
"""The engine of every pipeline, and of rows that an earlier version has written."""
ENGINES: tuple[Engine, ...] = get_args(Engine)
PARAMETERS: Mapping[Engine, str] = MappingProxyType(
    {
        "fargate": "FargateSubnetIds, FargateSecurityGroupIds and FargateImageUri",
        "emr-serverless": "EmrServerless=on",
        "emr-step": "EmrClusterId",
        "sagemaker": "NotebookImageUri",
    }
)
"""The pipeline's parameters that bring an engine."""
PROGRAMS: Mapping[Engine, tuple[str, ...]] = MappingProxyType(
    {
        "glue": (".py", ".sql"),
        "fargate": (".sql",),
        "emr-serverless": (".py", ".sql"),
        "emr-step": (".py", ".sql"),
        "sagemaker": (".ipynb",),
    }
)
"""How the file of a heavy transform ends: Spark's Python or SQL, DuckDB's SQL, a notebook."""


def check_program(engine: Engine, heavy_transform: str | None) -> None:
    """Hold the file of a heavy transform against the engine that is to run it.

    Raises:
        ValueError: the engine does not run such a file, or needs one and there is none.
    """
    if heavy_transform is None:
        if engine == "sagemaker":
            raise ValueError("HeavyTransform: none given; must be the notebook that engine sagemaker runs")
        return
    if not heavy_transform.endswith(PROGRAMS[engine]):
        allowed = " or ".join(PROGRAMS[engine])
        raise ValueError(f"HeavyTransform: given {heavy_transform!r}; must end in {allowed} on engine {engine}")


def lacking(engine: Engine, pipeline: str, has: Collection[str]) -> str | None:
    """What to say of a dataset whose engine its pipeline does not have; None where it has it."""
    if engine in has:
        return None
    return (
        f"Engine: given {engine!r}; pipeline {pipeline} has {', '.join(sorted(has))}: "
        f"deploy it with {PARAMETERS[engine]} first"
    )


def check_notebook(text: str) -> None:
    """Hold a notebook's text against its format, as far as it can be without running it.

    Source: https://nbformat.readthedocs.io/en/latest/format_description.html

    Raises:
        ValueError: it is no notebook, or has no cell of code.
    """
    try:
        notebook = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"is no notebook: {error}") from error
    if not isinstance(notebook, dict) or notebook.get("nbformat") != 4 or not isinstance(notebook.get("cells"), list):
        raise ValueError("is no notebook: a JSON object with nbformat 4 and a list of cells")
    if not any(isinstance(cell, dict) and cell.get("cell_type") == "code" for cell in notebook["cells"]):
        raise ValueError("has no cell of code")
