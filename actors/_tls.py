"""A TLS context for a client, from the files as they are now."""

from __future__ import annotations

import ssl


class BadTls(Exception):
    """A certificate or a key cannot be used; says which, and never what is in it."""


def client_context(authority: str | None, certificate: str | None, key: str | None) -> ssl.SSLContext:
    """Make a context that checks the server's certificate.

    Args:
        authority: Whom to trust, a PEM file; None for whom the system trusts.
        certificate: What the client shows for itself, with *key*.
        key: The key of *certificate*.

    Raises:
        BadTls: A file is none, or cannot be read.
    """
    try:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=authority)
    except (OSError, ssl.SSLError) as error:
        raise BadTls(f"tls_ca {authority}: {why_unusable(error)}") from error
    if certificate is not None:
        try:
            context.load_cert_chain(certificate, key)
        except (OSError, ssl.SSLError) as error:
            raise BadTls(f"tls_cert {certificate} with tls_key {key}: {why_unusable(error)}") from error
    return context


def why_unusable(error: Exception) -> str:
    """Say what is wrong with a certificate or a key, and nothing of what is in it."""
    if isinstance(error, ssl.SSLError):
        return "it is no PEM file, or the two do not belong together"
    return str(getattr(error, "strerror", None) or error).lower()
