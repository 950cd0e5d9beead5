"""Images, audio and files of a message: links, data URLs and base64 become file parts.

Owns the forms in which OpenAI's clients send bytes. It fetches nothing: a link goes to the agent as a link.
"""

from __future__ import annotations

import base64
import mimetypes
from urllib.parse import unquote_to_bytes, urlsplit

from edge.json_body import refused
from penstock.v1.message_pb2 import FilePart

_AUDIO_TYPES = {"mp3": "audio/mpeg"}


def image(url: str, *, where: str) -> FilePart:
    """Return an image, by link or inside a data URL."""
    return _inside(url, where) if url.startswith("data:") else link(url, where=where, media_type="image/*")


def link(url: str, *, where: str, name: str = "", media_type: str = "application/octet-stream") -> FilePart:
    """Return a file by link. `media_type` is what it is when its name does not tell."""
    if not url.startswith(("https://", "http://")):
        raise refused(where, "The URL must begin with https:, http: or data:.")
    guessed, _ = mimetypes.guess_type(name or urlsplit(url).path)
    return FilePart(name=name, url=url, media_type=guessed or media_type)


def audio(data: str, *, format: str, where: str) -> FilePart:
    """Return inline audio."""
    media_type = _AUDIO_TYPES.get(format, f"audio/{format}")
    return FilePart(media_type=media_type, data=_bytes_of(data, where))


def document(data: str, *, name: str, where: str) -> FilePart:
    """Return an inline file, from a data URL or from bare base64."""
    if data.startswith("data:"):
        file = _inside(data, where)
    else:
        media_type, _ = mimetypes.guess_type(name)
        file = FilePart(media_type=media_type or "application/octet-stream", data=_bytes_of(data, where))
    file.name = name
    return file


def _inside(url: str, where: str) -> FilePart:
    """Return the file inside a data URL (RFC 2397)."""
    head, comma, payload = url.removeprefix("data:").partition(",")
    if not comma:
        raise refused(where, "The data URL holds no data: there is no comma in it.")
    media_type, *parameters = head.split(";")
    data = _bytes_of(payload, where) if "base64" in parameters else unquote_to_bytes(payload)
    return FilePart(media_type=media_type or "text/plain", data=data)


def _bytes_of(text: str, where: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise refused(where, f"This is not base64: {error}.") from error
