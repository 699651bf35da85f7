"""What the Spark engines beside Glue run: Glue's own script, unchanged, and the one library of Glue's that it imports.

EMR has no ``awsglue``. The library is packed from what is installed here, pinned by hash, and goes to the environment's
own bucket; nothing of it is kept in this repository (its licence allows use on AWS).
"""

from __future__ import annotations

import zipfile
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

from tarn import assets
from tarn.assets import Asset
from tarn.templates import ROOT

SCRIPT = ROOT / "glue" / "transform_batch.py"
LIBRARY = ROOT / "build" / "engines" / "awsglue.zip"
PARAMETER = "SparkAssetPrefix"
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip can hold: the same files give the same bytes."""


def find() -> tuple[str, list[Asset]]:
    """The prefix under which both are (the hash of their bytes), and the two."""
    files = [SCRIPT, pack()]
    digest = sha256(b"".join(sha256(file.read_bytes()).digest() for file in files)).hexdigest()
    prefix = f"{assets.prefix()}/{digest}/spark/"
    return prefix, [Asset(prefix + file.name, file) for file in files]


def pack(to: Path = LIBRARY) -> Path:
    """Zip ``awsglue`` as ``--py-files`` takes it."""
    spec = find_spec("awsglue")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("awsglue is not installed: run `make setup`")
    package = Path(spec.origin).parent
    to.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in sorted(package.rglob("*.py")):
            entry = zipfile.ZipInfo(str(file.relative_to(package.parent)), EPOCH)
            packed.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED)
    return to
