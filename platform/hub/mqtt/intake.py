"""What the clients of one loop turn bring in, handed to the log in one call; answers leave after the commit.

In: messages, rows of sessions and retained messages, and the answers that depend on them. Out: one `submit`
or `post` a turn, and the answers in the order they were earned, written to each client once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from hub.errors import Busy, HubError, LogFailed
from hub.log import Log
from hub.message import Message
from hub.mqtt import store
from hub.mqtt.limits import Limits
from hub.mqtt.session import Session
from hub.mqtt.sharing import Group

log = logging.getLogger("hub.mqtt")


class Client(Protocol):
    """What the intake needs of a connection."""

    def send(self, wire: bytes) -> None: ...
    def abandon(self, reason: str) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...


class Answer(Protocol):
    """What a client is owed for one read, where it is more than bytes: MQTT 5 can say that it failed."""

    def settle(self, error: HubError | None) -> None: ...


class Turn(msgspec.Struct, gc=False):
    """Everything that shares one transaction."""

    messages: list[Message] = msgspec.field(default_factory=list)
    also: list[store.Write] = msgspec.field(default_factory=list)
    # Saved as they are at the end of the turn
    sessions: dict[Session, None] = msgspec.field(default_factory=dict)
    groups: dict[Group, None] = msgspec.field(default_factory=dict)  # the same of shared subscriptions
    answers: list[tuple[Client, bytes]] = msgspec.field(default_factory=list)
    replies: list[Answer] = msgspec.field(default_factory=list)
    after: list[Callable[[], None]] = msgspec.field(default_factory=list)
    undo: list[Callable[[], None]] = msgspec.field(default_factory=list)


_EMPTY = Turn()


class Intake:
    """Collects a turn and hands it over; slows the publishers where the disk does not keep up."""

    def __init__(
        self,
        hub_log: Log,
        loop: asyncio.AbstractEventLoop,
        limits: Limits,
        counters: dict[str, int],
        flush_clients: Callable[[], None],
    ) -> None:
        self._log = hub_log
        self._loop = loop
        self._limits = limits
        self._counters = counters
        self._flush_clients = flush_clients
        self._turn = Turn()
        self._scheduled = False
        self._publishers: dict[Client, None] = {}  # who published in this turn
        self._paused: dict[Client, None] = {}
        self.committed = hub_log.committed_seq  # what the door's readers have seen

    def take(self, client: Client | None, messages: Sequence[Message]) -> None:
        """Messages to store, of a client or none that is connected.

        It promises nothing unless an answer is added in the same turn.
        """
        self._turn.messages += messages
        if client is not None:
            self._publishers[client] = None
        self.schedule()

    def answer(self, client: Client, wire: bytes) -> None:
        """Send `wire` once everything taken in this turn is durable."""
        self._turn.answers.append((client, wire))
        self.schedule()

    def reply(self, answer: Answer) -> None:
        """Settle `answer` once everything taken in this turn is durable, or has failed to be."""
        self._turn.replies.append(answer)
        self.schedule()

    def then(self, action: Callable[[], None]) -> None:
        """Call `action` once everything taken in this turn is durable."""
        self._turn.after.append(action)
        self.schedule()

    def save(self, session: Session) -> None:
        """Write the row of a kept session, as it is at the end of this turn."""
        self._turn.sessions[session] = None
        self.schedule()

    def save_group(self, group: Group) -> None:
        """Write the row of a shared subscription, as it is at the end of this turn."""
        self._turn.groups[group] = None
        self.schedule()

    def discard(self, session: Session) -> None:
        """The session is dropped: its row is not to be written in this turn."""
        self._turn.sessions.pop(session, None)

    def discard_group(self, group: Group) -> None:
        """The same for a shared subscription."""
        self._turn.groups.pop(group, None)

    def write(self, write: store.Write) -> None:
        """Run a statement in the transaction of this turn."""
        self._turn.also.append(write)
        self.schedule()

    def undo(self, action: Callable[[], None]) -> None:
        """Call `action` should the transaction of this turn fail; undone last first."""
        self._turn.undo.append(action)

    def schedule(self) -> None:
        """Have `flush` run at the end of this turn of the loop."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Hand the turn to the log."""
        self._scheduled = False
        turn, self._turn = self._turn, Turn()
        if turn != _EMPTY:
            try:
                self._hand_over(turn)
            except Busy:
                # Other doors fill the log; keep the turn, which is bounded by one read a client.
                self._turn = turn
                self._pause_publishers()
                return
            except LogFailed as error:
                self._settle(turn, error)
            if self._log_is_behind():
                self._pause_publishers()
            self._publishers.clear()
        self._flush_clients()

    def _hand_over(self, turn: Turn) -> None:
        also = turn.also
        if turn.sessions or turn.groups:
            self._write_rows(turn, also)
        if turn.answers or turn.replies or turn.after:
            self._log.submit(turn.messages, also, lambda error: self._settled(turn, error))
        else:
            self._log.post(turn.messages, also)

    def _write_rows(self, turn: Turn, also: list[store.Write]) -> None:
        """Rows of sessions and of the groups they belong to go together.

        Or a crash would find a message in neither, or in both.
        """
        found = -1
        while found != len(turn.sessions) + len(turn.groups):
            found = len(turn.sessions) + len(turn.groups)
            for session in turn.sessions:
                turn.groups.update(dict.fromkeys(session.groups.values()))
            for group in turn.groups:
                turn.sessions.update((session, None) for session in group.sessions if session.kept)
        for session in turn.sessions:
            if not session.behind:
                session.cursor = max(session.cursor, self.committed)
            also.append(store.save_session(session))
        for group in turn.groups:
            if not group.behind:
                group.cursor = max(group.cursor, self.committed)
            group.unsaved = False
            if group.durable:
                also.append(store.save_group(group))
        turn.sessions.clear()
        turn.groups.clear()

    def _settled(self, turn: Turn, error: HubError | None) -> None:
        self._settle(turn, error)
        self._flush_clients()

    def _settle(self, turn: Turn, error: HubError | None) -> None:
        if error is None:
            for client, wire in turn.answers:
                client.send(wire)
            for reply in turn.replies:
                reply.settle(None)
            for action in turn.after:
                action()
            return
        self._counters["log_failures"] += 1
        log.error("%d messages over MQTT not stored: %s", len(turn.messages), error)
        for action in reversed(turn.undo):
            action()
        for client, _ in turn.answers:
            client.abandon("the log did not take the message")
        for reply in turn.replies:
            reply.settle(error)

    def _log_is_behind(self) -> bool:
        return (
            self._log.pending_messages > self._limits.uncommitted_messages
            or self._log.pending_bytes > self._limits.uncommitted_bytes
        )

    def _pause_publishers(self) -> None:
        for client in self._publishers:
            if client not in self._paused:
                self._counters["paused_reads"] += 1
                self._paused[client] = None
                client.pause()

    def relax(self) -> None:
        """After a commit, and once a second: go on reading where the disk has caught up."""
        if self._turn != _EMPTY:
            self.schedule()
        if self._paused and (
            self._log.pending_messages <= self._limits.uncommitted_messages // 2
            and self._log.pending_bytes <= self._limits.uncommitted_bytes // 2
        ):
            paused, self._paused = self._paused, {}
            for client in paused:
                client.resume()

    def forget(self, client: Client) -> None:
        """The client is gone."""
        self._paused.pop(client, None)

    async def drain(self) -> None:
        """Hand over what is there and wait until it is durable or has failed."""
        over: asyncio.Future[None] = self._loop.create_future()
        self.then(lambda: over.set_result(None))
        self.undo(lambda: over.set_result(None))
        self.flush()
        await over
