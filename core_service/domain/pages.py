"""Page sizes and page tokens of lists.

A token names the last row of the page before (keyset paging), so that pages neither repeat nor miss rows while new ones
arrive. It also names its list, so that a token of another list is refused instead of misread.
"""

from __future__ import annotations

import base64
import binascii

from core_service.domain.errors import InvalidArgument, InvalidPageToken

DEFAULT_SIZE = 100
MAX_SIZE = 1_000


def page_size(size: int, *, default: int = DEFAULT_SIZE, maximum: int = MAX_SIZE) -> int:
    """Return the size to use: 0 is the default, and more than the maximum is the maximum."""
    if size < 0:
        raise InvalidArgument("page_size must not be negative.", field="page_size")
    return min(size or default, maximum)


class TextPages:
    """Tokens that hold one text, for lists ordered by it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def token(self, text: str) -> str:
        """Return the token of the page behind `text`."""
        return base64.urlsafe_b64encode(f"{self._name}:{text}".encode()).decode().rstrip("=")

    def read(self, size: int, token: str) -> tuple[int, str]:
        """Return the page size to use and the text behind which the page begins; empty for the first page."""
        if not token:
            return page_size(size), ""
        try:
            name, _, text = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode().partition(":")
        except (binascii.Error, ValueError) as error:
            raise InvalidPageToken("This page_token was not made by this list.", field="page_token") from error
        if name != self._name or not text:
            raise InvalidPageToken("This page_token was not made by this list.", field="page_token")
        return page_size(size), text


class TimePages:
    """Tokens that hold a time and an id, for lists ordered by both, newest first."""

    def __init__(self, name: str) -> None:
        self._pages = TextPages(name)

    def token(self, micros: int, row_id: str) -> str:
        """Return the token of the page behind a row."""
        return self._pages.token(f"{micros}:{row_id}")

    def read(self, size: int, token: str) -> tuple[int, tuple[int, str] | None]:
        """Return the page size to use and the row behind which the page begins; None for the first page."""
        size, text = self._pages.read(size, token)
        if not text:
            return size, None
        micros, _, row_id = text.partition(":")
        if not micros.isdecimal() or len(micros) > 18 or not row_id:
            raise InvalidPageToken("This page_token was not made by this list.", field="page_token")
        return size, (int(micros), row_id)
