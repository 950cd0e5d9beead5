"""The content of AG-UI messages, text and media, and the parts of the contract that it becomes and comes from.

Owns the shapes of parts and sources. It fetches nothing: a link stays a link, a provider's handle a handle.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence
from typing import assert_never

import msgspec
from msgspec import Raw, Struct

from edge.json_body import refused
from edge.protocols.ag_ui.dialect import Dialect
from edge.protocols.ag_ui.frames import given
from penstock.v1.message_pb2 import FilePart, Part, TextPart


class DataSource(Struct, tag_field="type", tag="data", rename="camel"):
    value: str
    mime_type: str


class UrlSource(Struct, tag_field="type", tag="url", rename="camel"):
    value: str
    mime_type: str | None = None


class FileSource(Struct, tag_field="type", tag="file", rename="camel"):
    value: str
    mime_type: str | None = None


Source = DataSource | UrlSource | FileSource


class Text(Struct, tag_field="type", tag="text"):
    text: str


class Image(Struct, tag_field="type", tag="image"):
    source: Source
    metadata: Raw = Raw(b"null")


class Audio(Image, tag="audio"):
    """Sound."""


class Video(Image, tag="video"):
    """Moving pictures."""


class Document(Image, tag="document"):
    """Any other file."""


class Binary(Struct, tag_field="type", tag="binary", rename="camel"):
    """What clients before 0.0.48 send for all of these."""

    mime_type: str
    id: str | None = None
    url: str | None = None
    data: str | None = None
    filename: str | None = None


Media = Image | Audio | Video | Document
Content = str | list[Text | Image | Audio | Video | Document | Binary]


class _Named(Struct):
    filename: str | None = None


_ANY_TYPE = {"image": "image/*", "audio": "audio/*", "video": "video/*", "document": "application/octet-stream"}
"""The media type of a part that names none, by the kind of the part."""


def to_parts(content: Content, where: str) -> list[Part]:
    """Return the parts of a message; at least one. Raises Refusal."""
    if isinstance(content, str):
        return [_text(content)]
    return [_to_part(piece, f"{where}[{number}]") for number, piece in enumerate(content)] or [_text("")]


def text_of(content: Content) -> str:
    """Return the text in it."""
    if isinstance(content, str):
        return content
    return "".join(piece.text for piece in content if isinstance(piece, Text))


def from_parts(parts: Sequence[Part], dialect: Dialect) -> str | list[dict[str, object]]:
    """Return the content of a message: its text when it is nothing else."""
    if all(part.HasField("text") for part in parts):
        return "".join(part.text.text for part in parts)
    return list(_pieces(parts, dialect))


def from_files(parts: Iterable[Part], dialect: Dialect) -> list[dict[str, object]]:
    """Return the media among some parts."""
    files = [_from_file(part.file, dialect) for part in parts if part.HasField("file")]
    return [file for file in files if file is not None]


def text_piece(text: str) -> dict[str, object]:
    """Return a part of text."""
    return {"type": "text", "text": text}


def _pieces(parts: Sequence[Part], dialect: Dialect) -> Iterator[dict[str, object]]:
    for part in parts:
        match part.WhichOneof("content"):
            case "text":
                yield text_piece(part.text.text)
            case "data":
                yield text_piece(part.data.value_json)
            case "file":
                yield from from_files([part], dialect)
            case _:
                pass


def _to_part(piece: Text | Media | Binary, where: str) -> Part:
    match piece:
        case Text():
            return _text(piece.text)
        case Binary():
            return Part(file=_from_binary(piece, where))
        case Image() | Audio() | Video() | Document():
            return Part(file=_from_media(piece, where))
        case unheard_of:
            assert_never(unheard_of)


def _from_media(media: Media, where: str) -> FilePart:
    source = media.source
    kind = str(media.__struct_config__.tag)
    file = FilePart(name=_filename(media.metadata), media_type=source.mime_type or _ANY_TYPE[kind])
    match source:
        case DataSource():
            file.data = _bytes_of(source.value, f"{where}.source.value")
        case UrlSource():
            file.url = source.value
        case FileSource():
            file.file_id = source.value
    return file


def _from_binary(piece: Binary, where: str) -> FilePart:
    file = FilePart(name=piece.filename or "", media_type=piece.mime_type)
    if piece.data:
        file.data = _bytes_of(piece.data, f"{where}.data")
    elif piece.url:
        file.url = piece.url
    elif piece.id:
        file.file_id = piece.id
    else:
        raise refused(where, f"{where} needs data, url or id.")
    return file


def _from_file(file: FilePart, dialect: Dialect) -> dict[str, object] | None:
    source: dict[str, object]
    match file.WhichOneof("source"):
        case "data":
            media_type = file.media_type or _ANY_TYPE["document"]
            source = {"type": "data", "value": base64.b64encode(file.data).decode(), "mimeType": media_type}
        case "url":
            source = {"type": "url", "value": file.url, "mimeType": file.media_type or None}
        case "file_id" if dialect.has_file_handles:
            source = {"type": "file", "value": file.file_id, "mimeType": file.media_type or None}
        case _:
            return None
    group = file.media_type.partition("/")[0]
    kind = group if group in ("image", "audio", "video") else "document"
    metadata = {"filename": file.name} if file.name else None
    return given({"type": kind, "source": given(source), "metadata": metadata})


def _filename(metadata: Raw) -> str:
    try:
        return msgspec.json.decode(metadata, type=_Named).filename or ""
    except msgspec.ValidationError:  # it is free: any JSON may stand there
        return ""


def _bytes_of(text: str, where: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise refused(where, f"{where} is not base64: {error}.") from error


def _text(text: str) -> Part:
    return Part(text=TextPart(text=text))
