"""What the server of the suite offers: tools, prompts, resources, and the forms that it wants filled in."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

Json = dict[str, Any]
STRING = {"type": "string"}


def _png() -> str:
    """One red pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0\xff\0\0")
    image = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return base64.b64encode(image).decode()


def _wav() -> str:
    """No sound at all."""
    header = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36, b"WAVE", b"fmt ", 16, 1, 1, 8000, 8000, 1, 8, b"data", 0)
    return base64.b64encode(header).decode()


def text(words: str) -> Json:
    """Return the result of a tool that says something."""
    return {"content": [{"type": "text", "text": words}]}


def _resource(uri: str, kind: str, words: str) -> Json:
    return {"type": "resource", "resource": {"uri": uri, "mimeType": kind, "text": words}}


IMAGE = {"type": "image", "data": _png(), "mimeType": "image/png"}
#: Tools that always answer the same.
ANSWERS: dict[str, Json] = {
    "test_simple_text": text("This is a simple text response for testing."),
    "test_image_content": {"content": [IMAGE]},
    "test_audio_content": {"content": [{"type": "audio", "data": _wav(), "mimeType": "audio/wav"}]},
    "test_embedded_resource": {
        "content": [_resource("test://embedded-resource", "text/plain", "This is an embedded resource content.")]
    },
    "test_multiple_content_types": {
        "content": [
            {"type": "text", "text": "Multiple content types test:"},
            IMAGE,
            _resource("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
        ]
    },
    "test_error_handling": {**text("This tool intentionally returns an error for testing"), "isError": True},
    "json_schema_2020_12_tool": text("ok"),
}
RICH_SCHEMA: Json = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {"address": {"$anchor": "addressDef", "type": "object", "properties": {"street": STRING, "city": STRING}}},
    "properties": {
        "name": STRING,
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": STRING,
        "email": STRING,
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}
NONE: Json = {"type": "object", "properties": {}}
SCHEMAS: dict[str, Json] = {
    **dict.fromkeys(ANSWERS, NONE),
    "json_schema_2020_12_tool": RICH_SCHEMA,
    "test_sampling": {"type": "object", "properties": {"prompt": STRING}, "required": ["prompt"]},
    "test_elicitation": {"type": "object", "properties": {"message": STRING}, "required": ["message"]},
    **dict.fromkeys(
        (
            "test_tool_with_logging",
            "test_logging_tool",
            "test_tool_with_progress",
            "test_elicitation_sep1034_defaults",
            "test_elicitation_sep1330_enums",
            "test_trigger_tool_change",
            "test_trigger_prompt_change",
            "test_missing_capability",
            "test_streaming_elicitation",
            "test_input_required_result_elicitation",
            "test_input_required_result_sampling",
            "test_input_required_result_list_roots",
            "test_input_required_result_request_state",
            "test_input_required_result_tampered_state",
            "test_input_required_result_multiple_inputs",
            "test_input_required_result_multi_round",
            "test_input_required_result_capabilities",
        ),
        NONE,
    ),
}
TOOLS = [{"name": name, "description": f"Fixture {name}", "inputSchema": schema} for name, schema in SCHEMAS.items()]
RESOURCES = [
    {"uri": uri, "name": uri.partition("://")[2], "description": f"Fixture {uri}", "mimeType": kind}
    for uri, kind in (
        ("test://static-text", "text/plain"),
        ("test://static-binary", "image/png"),
        ("test://watched-resource", "text/plain"),
    )
]
TEMPLATES = [
    {
        "uriTemplate": "test://template/{id}/data",
        "name": "template",
        "description": "Says which one it is",
        "mimeType": "application/json",
    }
]


def content_of(uri: str) -> Json | None:
    """Return what a resource holds; None where there is none."""
    if uri == "test://static-text":
        return {"mimeType": "text/plain", "text": "This is the content of the static text resource."}
    if uri == "test://static-binary":
        return {"mimeType": "image/png", "blob": IMAGE["data"]}
    if uri == "test://watched-resource":
        return {"mimeType": "text/plain", "text": "Watched."}
    if uri.startswith("test://template/") and uri.endswith("/data"):
        identity = uri.split("/")[3]
        words = f'{{"id":"{identity}","templateTest":true,"data":"Data for ID: {identity}"}}'
        return {"mimeType": "application/json", "text": words}
    return None


def _argument(name: str) -> Json:
    return {"name": name, "description": f"Argument {name}", "required": True}


PROMPTS = [
    {"name": "test_simple_prompt", "description": "Simple"},
    {
        "name": "test_prompt_with_arguments",
        "description": "With arguments",
        "arguments": [_argument("arg1"), _argument("arg2")],
    },
    {
        "name": "test_prompt_with_embedded_resource",
        "description": "With a resource",
        "arguments": [_argument("resourceUri")],
    },
    {"name": "test_prompt_with_image", "description": "With an image"},
    {"name": "test_input_required_result_prompt", "description": "Wants input"},
]


def prompt(name: str, arguments: Json) -> Json:
    """Return a prompt's messages."""
    contents: dict[str, list[Json]] = {
        "test_simple_prompt": [_said("This is a simple prompt for testing.")],
        "test_prompt_with_arguments": [
            _said(f"Prompt with arguments: arg1='{arguments.get('arg1')}', arg2='{arguments.get('arg2')}'")
        ],
        "test_prompt_with_embedded_resource": [
            _resource(arguments.get("resourceUri", ""), "text/plain", "Embedded resource content for testing."),
            _said("Please process the embedded resource above."),
        ],
        "test_prompt_with_image": [IMAGE, _said("Please analyze the image above.")],
    }
    return {"messages": [{"role": "user", "content": content} for content in contents[name]]}


def _said(words: str) -> Json:
    return {"type": "text", "text": words}


def form(message: str, *, required: tuple[str, ...] | None = None, **fields: Json) -> Json:
    """Return the request for a form to be filled in; all of its fields must be, unless it is said which."""
    needed = list(fields if required is None else required)
    schema = {"type": "object", "properties": fields, "required": needed}
    return {"method": "elicitation/create", "params": {"message": message, "requestedSchema": schema}}


def sampling(question: str) -> Json:
    """Return the request for a model's answer."""
    messages = [{"role": "user", "content": _said(question)}]
    return {"method": "sampling/createMessage", "params": {"messages": messages, "maxTokens": 50}}


NAME = form("What is your name?", name=STRING)
CONFIRM = form("Please confirm", ok={"type": "boolean"})
ROOTS: Json = {"method": "roots/list", "params": {}}
USER: dict[str, Json] = {
    "username": {"type": "string", "description": "User's response"},
    "email": {"type": "string", "description": "User's email address"},
}
DEFAULTS: dict[str, Json] = {
    "name": {"type": "string", "default": "John Doe"},
    "age": {"type": "integer", "default": 30},
    "score": {"type": "number", "default": 95.5},
    "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
    "verified": {"type": "boolean", "default": True},
}
_TITLED = [{"const": "value1", "title": "First Option"}, {"const": "value2", "title": "Second Option"}]
ENUMS: dict[str, Json] = {
    "untitledSingle": {"type": "string", "enum": ["option1", "option2", "option3"]},
    "titledSingle": {"type": "string", "oneOf": _TITLED},
    "legacyEnum": {"type": "string", "enum": ["opt1", "opt2"], "enumNames": ["Option One", "Option Two"]},
    "untitledMulti": {"type": "array", "items": {"type": "string", "enum": ["option1", "option2", "option3"]}},
    "titledMulti": {"type": "array", "items": {"anyOf": _TITLED}},
}
