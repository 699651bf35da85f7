"""The layers find each other: what is published, what is wired, what is written down."""

import re

import pytest

from tarn import contract_page, templates

PATHS = [pytest.param(path, id=str(path)) for path in templates.paths()]
NAME = re.compile(
    r"/tarn/\$\{EnvironmentName\}/(assets|foundations|team/\$\{TeamName\}|pipeline/\$\{TeamName\}/\$\{PipelineName\}"
    r"|dataset/\$\{TeamName\}/\$\{PipelineName\}/\$\{DatasetName\})/[a-z-]+/(name|arn|url|id)"
)
WIRING = re.compile(r"(Name|Arn|Url|Key|Prefix)$")


def test_the_page_is_as_new_as_its_templates() -> None:
    assert contract_page.PAGE.read_text(encoding="utf-8") == contract_page.page(), (
        "docs/contract.md is older than a template: python -m tarn.contract_page"
    )


@pytest.mark.parametrize("path", PATHS)
def test_what_is_published_has_a_name_of_the_contract(path) -> None:
    for name, resource in templates.load(path).get("Resources", {}).items():
        if resource["Type"] == "AWS::SSM::Parameter":
            published = resource["Properties"]["Name"]["Fn::Sub"]
            assert NAME.fullmatch(published), f"{name}: {published}"


@pytest.mark.parametrize(
    "path", [one for one in PATHS if one.values[0].name != "template.yaml" or one.values[0].parent.name]
)
def test_wiring_has_no_default_in_a_layer(path) -> None:
    parameters = templates.load(path).get("Parameters", {})
    wired = {name: one for name, one in parameters.items() if WIRING.search(name)}
    assert {name: one["Default"] for name, one in wired.items() if "Default" in one} == {}


@pytest.mark.parametrize("path", PATHS)
def test_every_nested_stack_is_beside_its_parent(path) -> None:
    folder = (templates.ROOT / path).parent
    for name, resource in templates.load(path).get("Resources", {}).items():
        if resource["Type"] == "AWS::CloudFormation::Stack":
            assert (folder / resource["Properties"]["TemplateURL"]).is_file(), name


@pytest.mark.parametrize("path", PATHS)
def test_no_template_is_too_long_to_read(path) -> None:
    assert len((templates.ROOT / path).read_text(encoding="utf-8").splitlines()) <= 700


def test_parameters_have_a_description() -> None:
    without = [
        f"{path}:{name}"
        for path in templates.paths()
        for name, one in templates.load(path).get("Parameters", {}).items()
        if not one.get("Description")
    ]
    assert without == []
