"""The contents of a message: text, images, files and audio, as parts and back again.

Owns the shapes below `content` and `output`. Unknown ones are refused: without them something else was said.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from msgspec import Struct

from edge.data_urls import data_url
from edge.json_body import refused
from edge.openai import files
from edge.protocols.openai_responses.items import Item
from penstock.v1.message_pb2 import FilePart, Part, TextPart


class InputText(Struct, tag_field="type", tag="input_text"):
    text: str


class PlainText(InputText, tag="text"):
    """What conversations call it."""


class OutputText(InputText, tag="output_text"):
    """What the agent said."""


class Declined(Struct, tag_field="type", tag="refusal"):
    refusal: str


class InputImage(Struct, tag_field="type", tag="input_image"):
    image_url: str | None = None
    file_id: str | None = None


class InputFile(Struct, tag_field="type", tag="input_file"):
    file_data: str | None = None
    file_id: str | None = None
    file_url: str | None = None
    filename: str | None = None


class AudioData(Struct):
    data: str
    format: str


class InputAudio(Struct, tag_field="type", tag="input_audio"):
    input_audio: AudioData


Content = InputText | PlainText | OutputText | Declined | InputImage | InputFile | InputAudio


def parts(content: str | Sequence[Content], where: str) -> list[Part]:
    """Return contents as parts; never none, since a message without parts says nothing."""
    if isinstance(content, str):
        return [text(content)]
    return [_part(piece, f"{where}[{number}]") for number, piece in enumerate(content)] or [text("")]


def text(words: str) -> Part:
    """Return text as a part."""
    return Part(text=TextPart(text=words))


def content(part: Part) -> Item:
    """Return a part of a client's message as it may have sent it."""
    match part.WhichOneof("content"):
        case "text":
            return {"type": "input_text", "text": part.text.text}
        case "file":
            return _file_content(part.file)
        case _:
            return {"type": "input_text", "text": part.data.value_json}


def _part(piece: Content, where: str) -> Part:
    match piece:
        case InputText():
            return text(piece.text)
        case Declined():
            return text(piece.refusal)
        case InputImage():
            return Part(file=_image(piece, where))
        case InputFile():
            return Part(file=_file(piece, where))
        case InputAudio():
            sound = piece.input_audio
            return Part(file=files.audio(sound.data, format=sound.format, where=f"{where}.input_audio.data"))
        case unheard_of:
            assert_never(unheard_of)


def _image(image: InputImage, where: str) -> FilePart:
    if image.image_url:
        return files.image(image.image_url, where=f"{where}.image_url")
    if image.file_id:
        return FilePart(file_id=image.file_id, media_type="image/*")
    raise refused(where, "An image needs image_url or file_id.")


def _file(file: InputFile, where: str) -> FilePart:
    name = file.filename or ""
    if file.file_data:
        return files.document(file.file_data, name=name, where=f"{where}.file_data")
    if file.file_url:
        return files.link(file.file_url, name=name, where=f"{where}.file_url")
    if file.file_id:
        return FilePart(name=name, file_id=file.file_id)
    raise refused(where, "A file needs file_data, file_url or file_id.")


def _file_content(file: FilePart) -> Item:
    url = file.url or (data_url(file) if file.data else None)
    if file.media_type.startswith("image/"):
        return {"type": "input_image", "image_url": url, "file_id": file.file_id or None, "detail": "auto"}
    where = {"file_url": url} if file.url else {"file_data": url} if file.data else {"file_id": file.file_id}
    return {"type": "input_file", "filename": file.name or None, **where}
