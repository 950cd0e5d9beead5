"""Which watches the core serves, and who is served along with them.

Watches of one run that are level with it are served as one: the first of them leads under its id on the stream, the
others follow it. Whoever falls behind is on its own until it is level again. Nothing here knows the stream.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edge.watch import Watch


class Sharing:
    """The watches that are served. Iterates over those that lead, or are on their own: what the core is asked for."""

    def __init__(self) -> None:
        self._by_id: dict[int, Watch] = {}
        self._leaders: dict[str, Watch] = {}
        """By run: whom a watch that is level may follow."""
        self._level: list[Watch] = []

    def __len__(self) -> int:
        return sum(1 + len(watch.followers or ()) for watch in self._by_id.values())

    def __iter__(self) -> Iterator[Watch]:
        return iter(tuple(self._by_id.values()))

    @property
    def following(self) -> int:
        """How many are served together with another one of their run."""
        return len(self) - len(self._by_id)

    def add(self, watch: Watch) -> None:
        """Serve a watch on its own, under its id."""
        self._by_id[watch.watch_id] = watch

    def served_by(self, watch_id: int) -> Sequence[Watch]:
        """Return who gets what comes under this id, the one that leads first; nobody when it was stopped."""
        leader = self._by_id.get(watch_id)
        if leader is None:
            return ()
        return (leader, *leader.followers) if leader.followers else (leader,)

    def leave(self, watch: Watch) -> bool:
        """Serve a watch no more. True: nobody is left under its id, which the core may stop."""
        leader = self._by_id.get(watch.watch_id)
        if leader is None:
            return False
        if leader is not watch:
            assert leader.followers is not None
            leader.followers.remove(watch)
            return False
        followers, watch.followers = watch.followers, None
        if not followers:
            self._forget(watch)
            return True
        successor = followers.pop(0)
        successor.followers = followers
        successor.patience_until = watch.patience_until
        self._by_id[watch.watch_id] = self._leaders[watch.run_id] = successor
        return False

    def end(self, watch_id: int) -> Sequence[Watch]:
        """Forget an id that the core serves no more. Returns who was served under it; they have no id any more."""
        served = self.served_by(watch_id)
        self._forget(served[0])
        for watch in served:
            watch.watch_id, watch.followers = 0, None
        return served

    def _forget(self, leader: Watch) -> None:
        del self._by_id[leader.watch_id]
        if self._leaders.get(leader.run_id) is leader:
            del self._leaders[leader.run_id]

    def is_level(self, watch_id: int) -> None:
        """Note that whoever leads under this id has caught up, and may follow another one."""
        self._level.append(self._by_id[watch_id])

    def join(self) -> Sequence[int]:
        """Let those who are level follow another watch of their run. Returns the ids that the core may stop.

        To be asked after each message of the stream: one message brings all watches of a run to the same event.
        """
        free: list[int] = []
        waiting: list[Watch] = []
        for watch in self._level:
            if self._by_id.get(watch.watch_id) is not watch:
                continue  # it is served no more, or follows already
            leader = self._leaders.setdefault(watch.run_id, watch)
            if leader is watch:
                continue
            if leader.tail != watch.tail:
                waiting.append(watch)
                continue
            free.append(watch.watch_id)
            self._forget(watch)
            watch.watch_id = leader.watch_id
            leader.followers = leader.followers or []
            leader.followers.append(watch)
        self._level = waiting
        return free
