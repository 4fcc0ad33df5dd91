"""What every operation shares in the OpenAPI document: the key that makes a POST happen once, and how refusals look."""

from __future__ import annotations

from typing import Any

from lifecycle_crm.api.idempotency import HEADER, LONGEST

PROBLEM = {
    "type": "object",
    "description": "A refusal (RFC 9457). `code` is stable; `title` is a sentence for a person.",
    "required": ["type", "title", "status", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "details": {"type": "object", "additionalProperties": {}},
        "errors": {"description": "Per field, what needs attention."},
    },
}
KEY = {
    "in": "header",
    "name": HEADER,
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST},
    "description": "Makes the request happen once: repeating it with the same key gives the first answer.",
}


def complete(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """Hook of drf-spectacular: add both to every operation."""
    result.setdefault("components", {}).setdefault("schemas", {})["Problem"] = PROBLEM
    for operations in result["paths"].values():
        for method, operation in operations.items():
            if method == "post":
                parameters = operation.setdefault("parameters", [])
                if all(one["name"] != HEADER for one in parameters):  # some say themselves that it is required
                    parameters.append(KEY)
            operation["responses"].setdefault(
                "default",
                {
                    "description": "Refused.",
                    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
                },
            )
    return result
