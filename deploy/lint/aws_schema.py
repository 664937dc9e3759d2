"""The schema of the AWS provider for the types that a configuration uses, from the bindings of @cdktn/provider-aws.

The bindings are generated from the provider's own schema (package.json pins them, and so the provider's version): each
argument with its type and whether it is required, each nested block with its nesting. They do not say which values are
allowed, nor which arguments exclude each other: AWS and the provider alone know.

    python aws_schema.py BINDINGS CONFIGURATION… > schema.json
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

USED = re.compile(r'^\s*(resource|data|ephemeral)\s+"(aws_\w+)"', re.MULTILINE)
FOLDER = {"resource": "", "data": "data-aws-", "ephemeral": "ephemeral-aws-"}
OWN = re.compile(r"^class (\w+) extends cdktn\.Terraform(?:Resource|DataSource|EphemeralResource) ", re.MULTILINE)
CLASS = re.compile(r"^class (\w+) extends [\w.]+ \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
MEMBER = re.compile(
    r"^    // (\w+) - computed: (true|false), optional: (true|false), required: (true|false)\n(.*?)(?=^    // |\Z)",
    re.MULTILINE | re.DOTALL,
)
NESTED = re.compile(
    r"^    _\w+ = new (?!cdktn\.)(?:\w+\.)?(\w+?)(List|OutputReference|Map|MapList)\(this, \"\w+\"", re.MULTILINE
)
COLLECTION = re.compile(r"= new cdktn\.(String|Number|Boolean)(Map|MapList)\(this")
GETTER = re.compile(r"(tolist\()?this\.(get\w+Attribute|interpolationForAttribute)\(")
SYNTHESIS = re.compile(r'^ +(\w+): \{\n +value: [^\n]*\n +isBlock: (true|false),\n +type: "(\w+)",', re.MULTILINE)
TYPES: dict[str, Any] = {
    "getStringAttribute": "string",
    "getNumberAttribute": "number",
    "getBooleanAttribute": "bool",
    "getStringMapAttribute": ["map", "string"],
    "getNumberMapAttribute": ["map", "number"],
    "getBooleanMapAttribute": ["map", "bool"],
    "getListAttribute": ["list", "string"],
    "getNumberListAttribute": ["list", "number"],
    "interpolationForAttribute": "dynamic",
}

OPEN = {("Wafv2WebAclRuleOutputReference", "statement"): "wafv2-web-acl-rule"}
"""Blocks that the bindings leave open, since they hold themselves, and where the same is written out."""


class Bindings:
    """One type's files of the bindings."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.text = "\n".join(each.read_text() for each in sorted(folder.rglob("*.js")))
        self.classes = dict(CLASS.findall(self.text))

    @property
    def own(self) -> str:
        """The class of the type itself."""
        found = OWN.search(self.text)
        if found is None:
            sys.exit(f"{self.folder}: no class of a type is in it: the bindings have changed")
        return found[1]

    def schema(self, name: str, inside: tuple[str, ...] = ()) -> dict[str, Any]:
        """Attributes and blocks of a class: that of the type itself, or `…OutputReference` of what is nested in it.
        A block that holds itself (a statement in a statement) is left out there.
        """
        nesting = {found[0]: found[2] for found in SYNTHESIS.findall(self._synthesis(name))}
        attributes, blocks = [], []
        for member, computed, optional, required, body in self._members(name):
            flags = {"computed": computed, "optional": optional, "required": required}
            nested = NESTED.search(body)
            if (name, member) in OPEN:
                other = Bindings(self.folder.parent / OPEN[name, member])
                blocks += [each for each in other.schema(other.own)["blocks"] if each["name"] == member]
            elif nested is None:
                flags["write_only"] = member.endswith("_wo")
                attributes.append({"name": member, "type": self._type(body), **flags})
            elif not optional and not required:
                is_set = bool(re.search(r"new \w+\(this, \"\w+\", true\)", body))
                inner = self._object(f"{nested[1]}OutputReference")
                attributes.append({"name": member, "type": ["set" if is_set else "list", inner], **flags})
            elif f"{nested[1]}OutputReference" not in inside:
                mode = {"struct": "single"}.get(nesting[member], nesting[member])
                blocks.append(
                    {
                        "name": member,
                        "nesting": mode,
                        "min": int(required and mode != "single"),
                        "max": int(nested[2] == "OutputReference" and mode != "single"),
                        "block": self.schema(f"{nested[1]}OutputReference", (*inside, name)),
                    }
                )
        return {"attributes": attributes, "blocks": blocks}

    def _members(self, name: str) -> Iterator[tuple[str, bool, bool, bool, str]]:
        for member, computed, optional, required, body in MEMBER.findall(self.classes[name]):
            yield member, computed == "true", optional == "true", required == "true", body

    def _object(self, name: str) -> list[Any]:
        members = {}
        for member, _, _, _, body in self._members(name):
            nested = NESTED.search(body)
            members[member] = ["list", self._object(f"{nested[1]}OutputReference")] if nested else self._type(body)
        return ["object", members]

    def _synthesis(self, name: str) -> str:
        """Where a class, or the function of a nested one, says how its blocks are nested."""
        body = self.classes[name]
        if "synthesizeHclAttributes()" in body:
            return body.split("synthesizeHclAttributes()", 1)[1]
        function = name.removesuffix("OutputReference")
        start = self.text.find(f"function {function[0].lower()}{function[1:]}ToHclTerraform(")
        return self.text[start : self.text.find("\n}\n", start)] if start >= 0 else ""

    @staticmethod
    def _type(body: str) -> Any:
        collection = COLLECTION.search(body)
        if collection is not None:
            element = {"Boolean": "bool"}.get(collection[1], collection[1].lower())
            return ["map", element] if collection[2] == "Map" else ["list", ["map", element]]
        getter = GETTER.search(body)
        assert getter is not None, f"no type is known of {body}: the bindings have changed"
        kind = TYPES[getter[2]]
        return ["set", kind[1]] if getter[1] and isinstance(kind, list) else kind


def read(bindings: Path, configurations: list[Path]) -> dict[str, Any]:
    """`resource`, `data` and `ephemeral` by type; and `provider`, of which the region alone is ever set here."""
    region = {"name": "region", "type": "string", "optional": True, "required": False, "computed": False}
    schemas: dict[str, Any] = {
        "provider": {"attributes": [{**region, "write_only": False}], "blocks": []},
        **{kind: {} for kind in FOLDER},
    }
    for configuration in configurations:
        for file in sorted(configuration.rglob("*.tf")):
            for kind, type_ in USED.findall(file.read_text()):
                if type_ in schemas[kind]:
                    continue
                folder = FOLDER[kind] + type_.removeprefix("aws_").replace("_", "-")
                found = [bindings / "lib" / each for each in (folder, f"aws-{folder}")]
                path = next((each for each in found if each.is_dir()), None)
                if path is None:
                    sys.exit(f"{file}: {kind} {type_}: there is no such type in the provider")
                found_type = Bindings(path)
                schemas[kind][type_] = found_type.schema(found_type.own)
    return schemas


if __name__ == "__main__":
    json.dump(read(Path(sys.argv[1]), [Path(each) for each in sys.argv[2:]]), sys.stdout)
