"""Parts that a handler yields whole: files, data and sources. They also go into the result of a tool.

What they become in the log is the core's business (protos/README.md).
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from penstock.json_text import to_json
from penstock.v1.message_pb2 import DataPart, FilePart, Part, SourcePart
from penstock.v1.worker_service_pb2 import Output


@dataclass(frozen=True, slots=True)
class File:
    """A file, by `url`, inline as `data`, or as a handle of a file store."""

    media_type: str
    _: KW_ONLY
    url: str = ""
    data: bytes = b""
    file_id: str = ""
    name: str = ""
    lane: str = ""

    def to_part(self) -> Part:
        file = FilePart(name=self.name, media_type=self.media_type)
        if sum(map(bool, (self.url, self.data, self.file_id))) != 1:
            raise ValueError("a file has exactly one of url, data and file_id")
        if self.url:
            file.url = self.url
        elif self.data:
            file.data = self.data
        else:
            file.file_id = self.file_id
        return Part(file=file)

    def to_proto(self) -> Output:
        return Output(lane=self.lane, part=self.to_part())


@dataclass(frozen=True, slots=True)
class Data:
    """Structured data for the application, kept in the thread. The same name and key again replaces it."""

    name: str
    value: object
    _: KW_ONLY
    key: str = ""
    lane: str = ""

    def to_part(self) -> Part:
        data = DataPart(name=self.name, key=self.key, value_json=to_json(self.value))
        return Part(data=data)

    def to_proto(self) -> Output:
        return Output(lane=self.lane, part=self.to_part())


@dataclass(frozen=True, slots=True)
class Source:
    """A source that the answer cites: a page with a `url`, or a document with a `media_type` and a `filename`."""

    source_id: str
    _: KW_ONLY
    url: str = ""
    title: str = ""
    media_type: str = ""
    filename: str = ""
    start_index: int = 0
    end_index: int = 0
    lane: str = ""

    def to_part(self) -> Part:
        source = SourcePart(
            source_id=self.source_id,
            url=self.url,
            title=self.title,
            media_type=self.media_type,
            filename=self.filename,
            start_index=self.start_index,
            end_index=self.end_index,
        )
        return Part(source=source)

    def to_proto(self) -> Output:
        return Output(lane=self.lane, part=self.to_part())
