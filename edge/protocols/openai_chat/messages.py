"""The `messages` of a chat completion request, and the messages of a thread that they become.

Owns the shapes of OpenAI's message and content types. Fields that have no place here are ignored, since OpenAI adds
them faster than anybody follows; unknown roles and content types are refused: without them something else was said.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, assert_never

import msgspec
from msgspec import Meta, Struct

from edge.json_body import refused
from edge.openai import files, tools
from penstock.v1.message_pb2 import (
    FilePart,
    Message,
    Part,
    ReasoningPart,
    Role,
    TextPart,
)


class Text(Struct, tag_field="type", tag="text"):
    text: str


class Declined(Struct, tag_field="type", tag="refusal"):
    refusal: str


class ImageUrl(Struct):
    url: str


class Image(Struct, tag_field="type", tag="image_url"):
    image_url: ImageUrl


class AudioData(Struct):
    data: str
    format: str


class Audio(Struct, tag_field="type", tag="input_audio"):
    input_audio: AudioData


class FileData(Struct):
    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class File(Struct, tag_field="type", tag="file"):
    file: FileData


class Function(Struct):
    name: str
    arguments: str


class ToolCall(Struct, tag_field="type", tag="function"):
    id: str
    function: Function


Content = Text | Declined | Image | Audio | File
TextOrPieces = str | Annotated[list[Text], Meta(min_length=1)]


class System(Struct, tag_field="role", tag="system"):
    content: TextOrPieces
    name: str | None = None


class Developer(System, tag="developer"):
    """What newer clients call `system`."""


class User(Struct, tag_field="role", tag="user"):
    content: str | Annotated[list[Text | Image | Audio | File], Meta(min_length=1)]
    name: str | None = None


class Assistant(Struct, tag_field="role", tag="assistant"):
    content: str | list[Text | Declined] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None  # clients send back what they were sent
    tool_calls: list[ToolCall] | None = None
    name: str | None = None


class Tool(Struct, tag_field="role", tag="tool"):
    tool_call_id: Annotated[str, Meta(min_length=1)]
    content: TextOrPieces


ChatMessage = System | Developer | User | Assistant | Tool


def to_messages(chat: Sequence[ChatMessage]) -> list[Message]:
    """Return the messages of a thread. Raises Refusal, which names the culprit."""
    answers = [said for said in chat if isinstance(said, Assistant)]
    tool_names = {call.id: call.function.name for said in answers for call in said.tool_calls or ()}
    return [_to_message(said, tool_names, f"messages[{number}]") for number, said in enumerate(chat)]


def _to_message(said: ChatMessage, tool_names: dict[str, str], where: str) -> Message:
    match said:
        case System() | Developer():
            return _message(Role.ROLE_SYSTEM, _contents(said.content, where), said.name)
        case User():
            return _message(Role.ROLE_USER, _contents(said.content, where), said.name)
        case Assistant():
            return _message(Role.ROLE_ASSISTANT, _answer(said, where), said.name)
        case Tool():
            return _message(Role.ROLE_TOOL, [_result(said, tool_names.get(said.tool_call_id, ""))], None)
        case unheard_of:
            assert_never(unheard_of)


def _message(role: Role.ValueType, parts: list[Part], name: str | None) -> Message:
    metadata = msgspec.json.encode({"name": name}).decode() if name else ""
    return Message(role=role, parts=parts or [_text("")], metadata_json=metadata)  # never without a part


def _contents(content: str | Sequence[Content], where: str) -> list[Part]:
    if isinstance(content, str):
        return [_text(content)]
    return [_content(piece, f"{where}.content[{number}]") for number, piece in enumerate(content)]


def _content(piece: Content, where: str) -> Part:
    match piece:
        case Text():
            return _text(piece.text)
        case Declined():
            return _text(piece.refusal)
        case Image():
            return Part(file=files.image(piece.image_url.url, where=f"{where}.image_url.url"))
        case Audio():
            sound = piece.input_audio
            return Part(file=files.audio(sound.data, format=sound.format, where=f"{where}.input_audio.data"))
        case File():
            return Part(file=_file(piece.file, f"{where}.file"))
        case unheard_of:
            assert_never(unheard_of)


def _file(file: FileData, where: str) -> FilePart:
    name = file.filename or ""
    if file.file_data:
        return files.document(file.file_data, name=name, where=f"{where}.file_data")
    if file.file_id:
        return FilePart(name=name, file_id=file.file_id)
    raise refused(where, "A file needs file_data or file_id.")


def _answer(said: Assistant, where: str) -> list[Part]:
    reasoning = [Part(reasoning=ReasoningPart(text=said.reasoning_content))] if said.reasoning_content else []
    texts = _contents(said.content, where) if said.content else []
    refusal = [_text(said.refusal)] if said.refusal else []
    return [*reasoning, *texts, *refusal, *map(_call, said.tool_calls or ())]


def _call(call: ToolCall) -> Part:
    return tools.call(call.id, call.function.name, call.function.arguments)


def _result(said: Tool, tool_name: str) -> Part:
    text = said.content if isinstance(said.content, str) else "".join(piece.text for piece in said.content)
    return tools.result(said.tool_call_id, tool_name, text)


def _text(text: str) -> Part:
    return Part(text=TextPart(text=text))
