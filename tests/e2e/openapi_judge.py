"""openapi_judge.py DOCUMENT: whether it is OpenAPI 3.1, and whether what it gives as examples fits its own schemas.

Run by build/api_checkers; says each fault on a line and ends with 1 when there are any.
"""

import json
import sys

from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator


def examples_of(media_or_parameter):
    if "example" in media_or_parameter:
        yield media_or_parameter["example"]
    for example in media_or_parameter.get("examples", {}).values():
        yield example["value"]


def walk(document, node, path):
    """Every value that is given as an example, with its schema."""
    if isinstance(node, list):
        for i, one in enumerate(node):
            yield from walk(document, one, f"{path}/{i}")
    elif isinstance(node, dict):
        if isinstance(node.get("schema"), dict):
            for example in examples_of(node):
                yield path, node["schema"], example
        if "example" in node and isinstance(node.get("type"), (str, list)):
            yield path, {key: value for key, value in node.items() if key != "example"}, node["example"]
        for key, one in node.items():
            if key not in ("example", "examples"):
                yield from walk(document, one, f"{path}/{key}")


def faults(document):
    for error in OpenAPIV31SpecValidator(document).iter_errors():
        yield f"/{'/'.join(map(str, error.absolute_path))}: {error.message}"
    found = 0
    for path, schema, example in walk(document, document, ""):
        found += 1
        whole = {"$schema": "https://json-schema.org/draft/2020-12/schema", "components": document["components"], "allOf": [schema]}
        validator = Draft202012Validator(whole, format_checker=Draft202012Validator.FORMAT_CHECKER)
        for error in validator.iter_errors(example):
            yield f"{path}: the example does not fit: {error.message}"
    if not found:
        yield "there are no examples"


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        wrong = list(faults(json.load(file)))
    print("\n".join(wrong))
    sys.exit(1 if wrong else 0)
