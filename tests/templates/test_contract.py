"""The layers find each other: what is published, what is wired, what is written down."""

import re
from pathlib import Path

import pytest

from tarn import assets, contract_page, deployment, layers, templates

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


@pytest.mark.parametrize(("layer", "path"), templates.STANDALONE.items())
def test_a_layer_as_a_stack_of_its_own_is_the_layer_and_nothing_else(layer, path) -> None:
    alone = templates.load(path)
    assert len((templates.ROOT / path).read_text(encoding="utf-8").splitlines()) <= 50
    assert set(alone) == {"Transform", "Description", "Parameters", "Resources"}
    [nested] = alone["Resources"].values()
    assert nested["Type"] == "AWS::CloudFormation::Stack"
    given = nested["Properties"]["Parameters"]
    assert given == {name: {"Ref": name} for name in alone["Parameters"]}
    takes = templates.load(path.parent / nested["Properties"]["TemplateURL"])["Parameters"]
    left = {name: takes[name] for name in set(takes) - set(given)}
    assert all(len(one["AllowedValues"]) == 1 for one in left.values()), f"{layer} is not given {set(left)}"


@pytest.mark.parametrize("path", templates.STANDALONE.values())
def test_what_others_own_is_read_from_the_contract_and_has_no_default(path) -> None:
    declared = templates.load(path)["Parameters"]
    wired = {name for name, one in declared.items() if one["Type"] == templates.WIRED}
    assert wired <= set(templates.published())
    assert not [name for name in wired if "Default" in declared[name]]
    itself = {"EnvironmentName", "TeamName", "PipelineName", "DatasetName", "TableName"}
    computed = {"AssetPrefix", *layers.SWITCHED_OFF}
    assert {name for name in declared if WIRING.search(name)} == wired | (declared.keys() & (itself | computed))


@pytest.mark.parametrize("path", templates.STANDALONE.values())
def test_a_default_is_the_layers_own_or_the_roots(path) -> None:
    alone = templates.load(path)
    [nested] = alone["Resources"].values()
    takes = templates.load(path.parent / nested["Properties"]["TemplateURL"])["Parameters"]
    root = templates.load("template.yaml")["Parameters"]
    for name, one in alone["Parameters"].items():
        expected = takes[name].get("Default", root.get(name, {}).get("Default") if not WIRING.search(name) else None)
        assert one.get("Default") == expected, name


def test_what_is_published_has_one_owner_and_is_named_after_its_parameter() -> None:
    resources = [
        name
        for path in templates.paths()
        for name, resource in templates.load(path)["Resources"].items()
        if resource["Type"] == "AWS::SSM::Parameter"
    ]
    assert all(name.endswith("Parameter") for name in resources)
    assert sorted(resources) == sorted(f"{name}Parameter" for name in templates.published())


def test_parameters_have_a_description() -> None:
    """Those of a stack of its own are its layer's, and those of a dataset are its pipeline's."""
    without = [
        f"{path}:{name}"
        for path in templates.paths()
        if path not in templates.STANDALONE.values() and path not in templates.datasets()
        for name, one in templates.load(path).get("Parameters", {}).items()
        if not one.get("Description")
    ]
    assert without == []


DATASETS = [pytest.param(path, id=str(path)) for path in templates.datasets()]
TAKES = templates.load(Path("pipeline/dataset.yaml"))["Parameters"]
NAMES = {"TeamName", "PipelineName", "DatasetName", "TableName"}


@pytest.mark.parametrize("path", DATASETS)
def test_a_datasets_template_is_its_registration_and_wiring(path) -> None:
    content = templates.load(path)
    assert set(content["Resources"]) == {"DatasetStack"}
    given = content["Resources"]["DatasetStack"]["Properties"]["Parameters"]
    wired = {name for name in TAKES if "Default" not in TAKES[name]} - NAMES - {"Columns"}
    assert set(content["Parameters"]) == wired | {"MaxWaitMinutes"}
    assert {name: one for name, one in given.items() if isinstance(one, dict)} == {
        name: {"Ref": name} for name in content["Parameters"]
    }
    assert (given["TeamName"], given["DatasetName"]) == path.parts[1:3], "the folder says whose it is"


@pytest.mark.parametrize("path", DATASETS)
def test_a_dataset_names_the_files_that_its_folder_has(path) -> None:
    folder = (templates.ROOT / path).parent
    given = templates.load(path)["Resources"]["DatasetStack"]["Properties"]["Parameters"]
    named = {given[name] for name in ("LightTransform", "HeavyTransform", "Rules") if given.get(name)}
    held = {one.file.name for one in assets.of_dataset(folder)[1]}
    assert named == held


@pytest.mark.parametrize("path", DATASETS)
def test_the_root_wires_its_own_datasets_alike(path) -> None:
    root = templates.load(Path("template.yaml"))["Resources"]
    [stack] = [one for one in root.values() if one["Properties"].get("TemplateURL") == str(path)]
    given = stack["Properties"]["Parameters"]
    assert set(given) == set(templates.load(path)["Parameters"])
    assert given["AssetPrefix"] == {"Ref": deployment.prefix_parameter(path.parent)}
    team = path.parts[1].capitalize()
    sources = {one["Fn::GetAtt"][0] for one in given.values() if "Fn::GetAtt" in one}
    assert sources == {"FoundationsStack", f"{team}TeamStack", f"{team}MainPipelineStack"}
