"""Bytes inside of JSON: data URLs (RFC 2397) and base64, as clients of several protocols send files.

Owns the reading of them. It fetches nothing: what is not inline is not here.
"""

from __future__ import annotations

import base64
from urllib.parse import unquote_to_bytes

from edge.json_body import refused
from penstock.v1.message_pb2 import FilePart


def inline_file(url: str, *, where: str) -> FilePart:
    """Return the file inside of a data URL. `where` names the field in a refusal."""
    head, comma, payload = url.removeprefix("data:").partition(",")
    if not comma:
        raise refused(where, "The data URL holds no data: there is no comma in it.")
    media_type, *parameters = head.split(";")
    data = decoded(payload, where=where) if "base64" in parameters else unquote_to_bytes(payload)
    return FilePart(media_type=media_type or "text/plain", data=data)


def decoded(text: str, *, where: str) -> bytes:
    """Return what base64 text holds."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise refused(where, f"This is not base64: {error}.") from error


def data_url(file: FilePart) -> str:
    """Return the bytes of an inline file as a data URL."""
    return f"data:{file.media_type};base64,{base64.b64encode(file.data).decode()}"
