"""A dataset's folder read as the lake will read it: its registration, resolved and checked without an account.

``template.yaml`` of the folder gives ``pipeline/dataset.yaml`` its parameters; what that template makes of them is the
registration. Here both are read as data, and checked by the code that checks them at deployment.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from botocore.exceptions import ClientError

from lake import registrar, registration
from lake.registration import RegistrationError
from tarn import assets, templates

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

DATASETS = templates.ROOT / "datasets"
TEMPLATE = Path("pipeline/dataset.yaml")
PLACEHOLDERS = {
    "AssetBucketName": "assets",
    "DatabaseName": "database",
    "DatasetQueue": "https://sqs.local/000000000000/queue",
    "LightFunctionStack.Outputs.LightTransformFunctionArn": "arn:aws:lambda:local:000000000000:function:light",
}
"""What only a deployment knows, in the form that the registration's check wants. Anything else stands for itself."""
_LEFT_OUT = object()


class FolderError(Exception):
    """The folder is not there or not a dataset's, for the reason in the message."""


@dataclass(frozen=True)
class Dataset:
    """A dataset on this machine: its folder, and the row that its deployment would write."""

    folder: Path
    team: str
    name: str
    row: Mapping[str, Any]
    bucket: S3Client
    """Answers for the dataset's assets as the asset bucket would."""

    def file(self, field: str) -> Path | None:
        """The file that a field of the registration names; None where it names none."""
        return self.folder / self.row[field] if self.row.get(field) else None

    @property
    def samples(self) -> list[Path]:
        """The files of ``samples/``, in order of their names."""
        return sorted(file for file in (self.folder / "samples").glob("*") if file.is_file() and file.name[0] != ".")


class _FolderAsBucket:
    """The part of an S3 client by which a dataset's assets are read."""

    def __init__(self, folder: Path, prefix: str) -> None:
        self._folder, self._prefix = folder, prefix

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803 - S3's own words
        file = self._folder / Key.removeprefix(self._prefix)
        if not file.is_file():
            error: Any = {
                "Error": {"Code": "NoSuchKey", "Message": f"{file} in {Bucket}"},
                "ResponseMetadata": {"HTTPStatusCode": 404},
            }
            raise ClientError(error, "GetObject")
        content = file.read_bytes()
        return {"ContentLength": len(content), "Body": io.BytesIO(content)}


def folder_of(dataset: str, datasets: Path = DATASETS) -> Path:
    """The folder of ``TEAM/NAME``.

    Raises:
        FolderError: the name is no such, or the folder holds no dataset.
    """
    team, _, name = dataset.partition("/")
    if not team or not name or "/" in name:
        raise FolderError(f"{dataset!r} is not TEAM/DATASET, such as air/flights")
    if not (datasets / team / name / "template.yaml").is_file():
        known = sorted("/".join(file.parts[-3:-1]) for file in datasets.glob("*/*/template.yaml"))
        raise FolderError(
            f"{datasets / team / name} has no template.yaml; there are {', '.join(known) or 'no datasets'}"
        )
    return datasets / team / name


def read(folder: Path) -> Dataset:
    """The dataset of ``folder``, its registration and its files checked as at deployment.

    Raises:
        FolderError: the template is not a dataset's.
        RegistrationError: the registration, or what it names, is refused; a line for each finding.
    """
    parameters = _parameters(folder)
    prefix = assets.of_dataset(folder)[0]
    bucket = cast("S3Client", _FolderAsBucket(folder, prefix))
    properties = _Resolver(parameters | {"AssetPrefix": prefix}).registration()
    checked = registration.read(registration.Dataset, properties)
    if (checked.team, checked.dataset) != folder.parts[-2:]:
        here = "/".join(folder.parts[-2:])
        raise FolderError(f"template.yaml registers {checked.team}/{checked.dataset}, and its folder is {here}")
    registrar.check_assets(bucket, checked)
    return Dataset(folder, checked.team, checked.dataset, registration.row(checked), bucket)


def _parameters(folder: Path) -> dict[str, Any]:
    """What the folder's template gives to ``pipeline/dataset.yaml``; wiring and assets stand for themselves."""
    template = templates.load(folder.resolve() / "template.yaml")
    try:
        given: dict[str, Any] = template["Resources"]["DatasetStack"]["Properties"]["Parameters"]
    except (KeyError, TypeError) as error:
        raise FolderError(f"{folder}/template.yaml has no DatasetStack with Parameters") from error
    own = template.get("Parameters") or {}
    return {name: _own_value(value, own) for name, value in given.items()}


def _own_value(value: Any, own: Mapping[str, Any]) -> Any:
    if isinstance(value, dict) and "Ref" in value:
        name = value["Ref"]
        return own.get(name, {}).get("Default", PLACEHOLDERS.get(name, name))
    return value


class _Resolver:
    """The intrinsic functions of ``pipeline/dataset.yaml``, over the parameters of one dataset."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        template = templates.load(TEMPLATE)
        self._declared: dict[str, Any] = template["Parameters"]
        self._conditions: dict[str, Any] = template["Conditions"]
        self._properties: dict[str, Any] = template["Resources"]["Registration"]["Properties"]
        self._given = given

    def registration(self) -> dict[str, Any]:
        """The properties of ``Custom::TarnDataset``.

        Raises:
            RegistrationError: a parameter is unknown, missing, or not of its allowed values.
        """
        findings = [f"{name}: not a parameter of {TEMPLATE}" for name in self._given if name not in self._declared]
        findings += [finding for name, one in self._declared.items() if (finding := self._finding(name, one))]
        if findings:
            raise RegistrationError(findings)
        return dict(self._of(self._properties))

    def _finding(self, name: str, declared: Mapping[str, Any]) -> str | None:
        if name not in self._given:
            return None if "Default" in declared else f"{name}: not given; it is required"
        value = str(self._given[name])
        if "AllowedValues" in declared and value not in map(str, declared["AllowedValues"]):
            return f"{name}: given {value!r}; must be one of {', '.join(map(repr, declared['AllowedValues']))}"
        if "AllowedPattern" in declared and not re.fullmatch(declared["AllowedPattern"], value):
            return f"{name}: given {value!r}; must match {declared['AllowedPattern']}"
        return None

    def _of(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._of(one) for one in value]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            function, argument = next(iter(value.items()))
            known = getattr(self, f"_{function.removeprefix('Fn::').lower()}", None)
            if known and (function == "Ref" or function.startswith("Fn::")):
                return known(argument)
        resolved = {name: self._of(one) for name, one in value.items()}
        return {name: one for name, one in resolved.items() if one is not _LEFT_OUT}

    def _ref(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return _LEFT_OUT
        declared = self._declared.get(name)
        if declared is None:
            return PLACEHOLDERS.get(name, name)
        value = str(self._given.get(name, declared.get("Default")))
        return value.split(",") if declared["Type"] == "CommaDelimitedList" else value

    def _getatt(self, path: list[str]) -> str:
        return PLACEHOLDERS.get(".".join(path), path[-1].rpartition(".")[2])

    def _if(self, argument: list[Any]) -> Any:
        condition, yes, no = argument
        return self._of(yes if self._of(self._conditions[condition]) else no)

    def _not(self, argument: list[Any]) -> bool:
        return not self._of(argument[0])

    def _equals(self, argument: list[Any]) -> bool:
        first, second = (str(self._of(one)) for one in argument)
        return first == second

    def _join(self, argument: list[Any]) -> str:
        separator, words = argument
        return str(separator).join(self._of(words))
