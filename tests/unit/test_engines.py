"""Engines: which programs each one runs, and what is said of a pipeline that lacks one."""

from __future__ import annotations

import json

import pytest

from lake import engines
from lake.registration import Dataset, RegistrationError, read
from tests.unit.test_registration import GIVEN


@pytest.mark.parametrize(
    ("engine", "program"),
    [
        ("glue", "heavy.py"),
        ("glue", "heavy.sql"),
        ("glue", None),
        ("fargate", "heavy.sql"),
        ("fargate", None),
        ("emr-serverless", "heavy.py"),
        ("emr-step", "heavy.sql"),
        ("sagemaker", "heavy.ipynb"),
    ],
)
def test_an_engine_takes_its_programs(engine, program) -> None:
    given = GIVEN | {"Engine": engine} | ({"HeavyTransform": program} if program else {})
    dataset = read(Dataset, given)
    assert (dataset.engine, dataset.heavy_transform) == (engine, program)


@pytest.mark.parametrize(
    ("engine", "program", "says"),
    [
        ("glue", "heavy.ipynb", "HeavyTransform: given 'heavy.ipynb'; must end in .py or .sql on engine glue"),
        ("fargate", "heavy.py", "must end in .sql on engine fargate"),
        ("emr-step", "heavy.ipynb", "must end in .py or .sql on engine emr-step"),
        ("sagemaker", "heavy.sql", "must end in .ipynb on engine sagemaker"),
        ("sagemaker", None, "none given; must be the notebook"),
        ("spark", None, "Engine: given 'spark'"),
    ],
)
def test_another_program_is_refused(engine, program, says) -> None:
    with pytest.raises(RegistrationError, match=r"Engine|HeavyTransform") as refused:
        read(Dataset, GIVEN | {"Engine": engine} | ({"HeavyTransform": program} if program else {}))
    assert says in str(refused.value)


def test_every_engine_has_programs_and_every_other_than_glue_its_parameters() -> None:
    assert set(engines.PROGRAMS) == set(engines.ENGINES)
    assert set(engines.PARAMETERS) == set(engines.ENGINES) - {engines.GLUE}


@pytest.mark.parametrize("engine", [one for one in engines.ENGINES if one != engines.GLUE])
def test_a_pipeline_without_an_engine_is_told_which_parameters_bring_it(engine) -> None:
    assert engines.lacking(engine, "main", ["glue", engine]) is None
    told = engines.lacking(engine, "main", ["glue"])
    assert told is not None
    assert told.startswith(f"Engine: given '{engine}'; pipeline main has glue")
    assert engines.PARAMETERS[engine] in told


CODE = {"cell_type": "code", "source": ["1"], "metadata": {}, "outputs": [], "execution_count": None}


def test_a_notebook_is_a_notebook() -> None:
    engines.check_notebook(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [CODE]}))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is no notebook: Expecting"),
        ("[]", "is no notebook: a JSON object"),
        ('{"nbformat": 3, "cells": []}', "is no notebook: a JSON object"),
        ('{"nbformat": 4}', "is no notebook: a JSON object"),
        ('{"nbformat": 4, "cells": [{"cell_type": "markdown"}]}', "has no cell of code"),
    ],
)
def test_what_is_no_notebook_is_refused(text, says) -> None:
    with pytest.raises(ValueError, match=says):
        engines.check_notebook(text)
