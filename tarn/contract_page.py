"""Write ``docs/contract.md`` from the templates: what each layer takes, and what it publishes.

``python -m tarn.contract_page`` writes it; a test refuses a page that is older than its templates.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tarn import templates

PAGE = templates.ROOT / "docs" / "contract.md"


def page() -> str:
    """The page as it should be."""
    parts = [
        "# The contract\n",
        "Written from the templates by `python -m tarn.contract_page`; not by hand.\n",
        "Inside the root, a layer's outputs go to the next layer's parameters. Outside it, layers find each other by",
        "these SSM parameters, and so does `tarn`. `standalone.yaml` beside a layer takes what the layer takes, and",
        "reads from here what is wired: the resource `XParameter` of a template publishes `X`.\n",
    ]
    for path in templates.paths():
        if path in templates.STANDALONE.values() or path in templates.datasets():
            continue
        parts += _section(path, templates.load(path))
    return "\n".join(parts)


def _section(path: Path, template: dict[str, Any]) -> list[str]:
    parts = [
        f"## `{path}`\n",
        f"{' '.join(template['Description'].split())}\n",
        "| parameter | type | default | means |",
        "|---|---|---|---|",
    ]
    for name, one in template.get("Parameters", {}).items():
        default = f"`{one['Default']}`" if "Default" in one else "*wired*"
        parts.append(f"| `{name}` | {one['Type']} | {default} | {' '.join(one.get('Description', '').split())} |")
    published = [
        one["Properties"] for one in template.get("Resources", {}).values() if one["Type"] == "AWS::SSM::Parameter"
    ]
    if published:
        parts += ["\n| publishes | means |", "|---|---|"]
        parts += [f"| `{_text(one['Name'])}` | {' '.join(one.get('Description', '').split())} |" for one in published]
    return [*parts, ""]


def _text(name: Any) -> str:
    return name["Fn::Sub"] if isinstance(name, dict) else str(name)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
