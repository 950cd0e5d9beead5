"""Images, audio and files of a message: links, data URLs and base64 become file parts.

Owns the forms in which OpenAI's clients send bytes. It fetches nothing: a link goes to the agent as a link.
"""

from __future__ import annotations

import mimetypes
from urllib.parse import urlsplit

from edge.data_urls import decoded, inline_file
from edge.json_body import refused
from penstock.v1.message_pb2 import FilePart

_AUDIO_TYPES = {"mp3": "audio/mpeg"}


def image(url: str, *, where: str) -> FilePart:
    """Return an image, by link or inside a data URL."""
    return inline_file(url, where=where) if url.startswith("data:") else link(url, where=where, media_type="image/*")


def link(url: str, *, where: str, name: str = "", media_type: str = "application/octet-stream") -> FilePart:
    """Return a file by link. `media_type` is what it is when its name does not tell."""
    if not url.startswith(("https://", "http://")):
        raise refused(where, "The URL must begin with https:, http: or data:.")
    guessed, _ = mimetypes.guess_type(name or urlsplit(url).path)
    return FilePart(name=name, url=url, media_type=guessed or media_type)


def audio(data: str, *, format: str, where: str) -> FilePart:
    """Return inline audio."""
    media_type = _AUDIO_TYPES.get(format, f"audio/{format}")
    return FilePart(media_type=media_type, data=decoded(data, where=where))


def document(data: str, *, name: str, where: str) -> FilePart:
    """Return an inline file, from a data URL or from bare base64."""
    if data.startswith("data:"):
        file = inline_file(data, where=where)
    else:
        media_type, _ = mimetypes.guess_type(name)
        file = FilePart(media_type=media_type or "application/octet-stream", data=decoded(data, where=where))
    file.name = name
    return file
