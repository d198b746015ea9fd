"""Makes values fit to be written down: plain, bounded and without secrets."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

HIDDEN = "***"
#: A longer text is cut: one bad value must not fill the disk.
MAX_TEXT = 16_384
MAX_DEPTH = 8

_NAMES = (
    r"passw(?:or)?d|passphrase|pwd|secret|token|(?:api|access|private|secret)[_-]?key|authorization|credentials?|cookie"
)
# A name has to end with the word: "tokens" counts what a model was fed, and "token_count" is no token either.
_SECRET_KEY = re.compile(rf"(?i)(?:{_NAMES})$")
# None of these looks back over what it cannot match, so that a long text costs time in proportion to its length only.
_IN_TEXT: tuple[tuple[re.Pattern[str], str], ...] = (
    # nats://user:password@host and nats://token@host.
    (re.compile(r"(?<=://)[^/\s'\"]+@"), f"{HIDDEN}@"),
    # The seed of an nkey, and a JWT: each is a secret by its looks alone.
    (re.compile(r"\bS[ACNOUX][A-Z2-7]{56}\b"), HIDDEN),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]+"), HIDDEN),
    # Authorization: Basic ..., whatever the scheme is called.
    (re.compile(r"(?i)(authorization['\"]?\s*[=:]\s*['\"]?[a-z]+\s+)(?!\*\*\*)[^\s'\",;]+"), rf"\1{HIDDEN}"),
    (re.compile(r"(?i)\b(bearer\s+)(?=\S*\d)[^\s'\",]{8,}"), rf"\1{HIDDEN}"),
    # A value in quotes ends with them, whatever is in it.
    (re.compile(rf"(?i)((?:{_NAMES})['\"]?\s*[=:]\s*(['\"]))(?!\*\*\*)(?:(?!\2).)+"), rf"\1{HIDDEN}"),
    # password=..., 'token': '...', "api_key": "...": in a query, a representation or JSON.
    (re.compile(rf"(?i)((?:{_NAMES})['\"]?\s*[=:]\s*['\"]?)(?!\*\*\*)[^\s'\",;&)}}]+"), rf"\1{HIDDEN}"),
)


def is_secret(name: str) -> bool:
    """Whether a value of this name is never written down."""
    return _SECRET_KEY.search(name) is not None


def scrub(text: str) -> str:
    """Hide what looks like a secret in *text*, and cut it to :data:`MAX_TEXT`."""
    if len(text) > MAX_TEXT:
        text = f"{text[:MAX_TEXT]} ... ({len(text) - MAX_TEXT} more)"
    for pattern, replacement in _IN_TEXT:
        text = pattern.sub(replacement, text)
    return text


def plain(value: Any, depth: int = 0) -> Any:
    """Return *value* as JSON can hold it, without its secrets; what JSON does not know becomes text.

    It never raises, whatever the value's own methods do.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        # Readers of JSON lose digits beyond this, and Python refuses to print a very long one.
        return value if -(2**63) <= value < 2**63 else scrub(_text(value))
    if isinstance(value, float):
        # JSON has no NaN and no infinity.
        return value if math.isfinite(value) else str(value)
    if depth < MAX_DEPTH:
        if isinstance(value, Mapping):
            return {scrub(_text(key)): _entry(key, inner, depth) for key, inner in value.items()}
        if isinstance(value, list | tuple | AbstractSet):
            return [plain(inner, depth + 1) for inner in value]
    return scrub(_text(value))


def _entry(key: Any, value: Any, depth: int) -> Any:
    if value is not None and isinstance(key, str) and is_secret(key):
        return HIDDEN
    return plain(value, depth + 1)


def _text(value: Any) -> str:
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001 - a value that cannot be shown must not stop what is told about it.
        return f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"
