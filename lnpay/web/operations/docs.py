"""The API documentation: an OpenAPI document for programs, and a page for people."""

from __future__ import annotations

import json
from typing import Any

from flask import Blueprint, Response, current_app, make_response, render_template, request
from markupsafe import Markup, escape

from lnpay.domain.errors import StorageUnavailable
from lnpay.web.authentication import is_key_needed
from lnpay.web.context import current_backend

blueprint = Blueprint("docs", __name__)

_PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; connect-src 'self'; form-action 'none'; "
    "base-uri 'none'; frame-ancestors 'none'"
)

UNTRIED = ("receiveEvent", "showDocs")
"""Operations without "Try it": the one that only Strike can sign, and the page itself."""

_CACHE = "lnpay.openapi"


@blueprint.get("/openapi.json")
def openapi() -> Response:
    """The OpenAPI document."""
    response = Response(json.dumps(_document(), ensure_ascii=False), mimetype="application/json")
    return _kept(response)


@blueprint.get("/docs")
def page() -> Response:
    """The API as a page without external resources. Without scripts, only "Try it" is missing."""
    response = make_response(
        render_template(
            "docs.html",
            api=_document(),
            code=code,
            sentence=sentence,
            shape=shape,
            whole=whole,
            untried=UNTRIED,
        )
    )
    response.headers["Content-Security-Policy"] = _PAGE_POLICY
    return _kept(response)


def _kept(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-cache"
    response.add_etag()
    response.make_conditional(request)
    return response


def _document() -> dict[str, Any]:
    """The document, built on first use to keep the start fast."""
    cache: dict[bool, dict[str, Any]] = current_app.extensions.setdefault(_CACHE, {})
    needs_key = _needs_key()
    known = cache.get(needs_key)
    if known is None:
        from lnpay.web.operations.openapi import openapi_document

        backend = current_backend()
        known = openapi_document(
            backend.currency,
            needs_key=needs_key,
            needs_token=bool(backend.access.metrics_token),
            server_url=backend.access.public_url or "/",
            is_greenfield_on=backend.access.is_greenfield_on,
        )
        cache[needs_key] = known
    return known


def _needs_key() -> bool:
    """Whether requests need a key; yes while the database is unavailable."""
    try:
        return is_key_needed()
    except StorageUnavailable:
        return True


def sentence(text: str) -> Markup:
    """Text with `words` in backquotes as code, and its paragraphs."""
    parts = str(escape(text.strip())).split("`")
    marked = "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))
    return Markup("</p><p>").join(Markup(paragraph) for paragraph in marked.split("\n\n"))  # noqa: S704 - escaped above


def code(example: object) -> str:
    """Indented JSON with long strings cut."""
    return json.dumps(_shortened(example), indent=2, ensure_ascii=False)


def whole(example: object) -> str:
    """Complete JSON, for sending."""
    return json.dumps(example, indent=2, ensure_ascii=False)


def _shortened(example: object) -> object:
    if isinstance(example, dict):
        return {key: _shortened(value) for key, value in example.items()}
    if isinstance(example, list):
        return [_shortened(value) for value in example]
    if isinstance(example, str) and len(example) > 100:
        return example[:60] + "..."
    return example


def shape(schema: dict[str, Any]) -> dict[str, Any]:
    """An object's schema, fields and example, resolving references into the document."""
    schema = _resolved(schema)
    if "anyOf" in schema and "properties" not in schema:
        return shape(schema["anyOf"][0])
    if schema.get("type") == "array":
        inner = shape(schema["items"])
        return {**inner, "example": [inner["example"]]}
    fields = [_field(name, one, schema) for name, one in schema.get("properties", {}).items()]
    return {**schema, "fields": fields, "example": _example(schema)}


def _field(name: str, schema: dict[str, Any], parent: dict[str, Any]) -> dict[str, Any]:
    known = _resolved(schema)
    parts = _resolved(known["items"]) if known.get("type") == "array" else known
    inner = shape(parts)["fields"] if "properties" in parts else []
    return {
        "name": name,
        "kind": _kind(known),
        "is_required": name in parent.get("required", []),
        "description": schema.get("description") or known.get("description", ""),
        "values": known.get("enum", []),
        "fields": inner,
    }


def _kind(schema: dict[str, Any]) -> str:
    """A type in a few words: "string, at most 40 characters, or null"."""
    if "anyOf" in schema:
        return ", or ".join(_kind(_resolved(one)) for one in schema["anyOf"])
    kind = schema.get("type", "")
    words = " or ".join(kind) if isinstance(kind, list) else str(kind)
    if "const" in schema:
        words = f'"{schema["const"]}"'
    if "maxLength" in schema:
        words += f", at most {schema['maxLength']:,} characters"
    if "maxProperties" in schema:
        words += f", at most {schema['maxProperties']} fields"
    if schema.get("format") == "date-time":
        words = "time, ISO 8601"
    if kind == "array":
        words = f"list of {_kind(_resolved(schema['items']))}s"
    return words


def _example(schema: dict[str, Any]) -> Any:  # noqa: ANN401 - any value that a schema describes
    schema = _resolved(schema)
    if schema.get("examples"):
        return schema["examples"][0]
    if "const" in schema:
        return schema["const"]
    if "properties" in schema:
        return {name: _example(one) for name, one in schema["properties"].items()}
    if "anyOf" in schema:
        return _example(schema["anyOf"][0])
    return schema.get("enum", [None])[0]


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    found: dict[str, Any] = _document()["components"]["schemas"][reference.rpartition("/")[2]]
    return {**found, **{key: value for key, value in schema.items() if key != "$ref"}}
