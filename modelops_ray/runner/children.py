"""The children that a supervisor has, and which simulations each of them is given next.

Owns borrowing and giving back, at one fork server at a time. What the children send is `supervisor`'s business.
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Iterator, Sequence

from modelops_ray.errors import ModelError
from modelops_ray.runner.borrowed import GARBLED, Borrowed
from modelops_ray.runner.executor import ChunkContext
from modelops_ray.runner.forkserver_client import NoChildError
from modelops_ray.runner.learned import learned, worker_bytes
from modelops_ray.runner.server_start import Wanted, connect
from modelops_ray.runner.sharing import MAX_BATCH
from modelops_ray.runner.waiting import Waiting, work_of
from modelops_ray.sandbox.protocol import TakeBack
from modelops_ray.study.chunk import Chunk, Simulation

LOSSES = 5
"""How often in a row the server, or a child before its first simulation, may end before the run fails."""
RETIRE_AFTER = 200
LEFT_SHARE = 0.5
NO_CHILD_PAUSE_S = 1.0


class Children:
    """At most as many children at a time as the chunk has slots.

    Attributes:
        waiting: The simulations that no child has.
        limit: What each child may use.
        learned: What this worker knows of the model.
        connection: To the fork server of this node.
        selector: Tells when the server or a child has sent something; a child's data is its `Borrowed`.
        own_bytes: What this worker itself owns.
    """

    def __init__(self, context: ChunkContext, chunk: Chunk) -> None:
        """Connect to the server.

        Raises:
            ModelError: The model cannot be loaded.
        """
        self.wanted = Wanted(context.model, context.cpus, context.isolation, context.node_bytes)
        self.waiting, self.limit = Waiting(), context.limit_of(chunk)
        self.learned = learned(context.model.digest, context.isolation, context.per_child)
        self.selector = selectors.DefaultSelector()
        self.own_bytes = worker_bytes()
        self._context, self._width = context, chunk.width
        self._children: list[Borrowed] = []
        self._n_lost = 0
        self._connect()

    def __iter__(self) -> Iterator[Borrowed]:
        return iter(list(self._children))

    def __len__(self) -> int:
        return len(self._children)

    def __contains__(self, child: object) -> bool:
        return child in self._children

    def close(self) -> None:
        """Let go of the children and of the server."""
        for child in self:
            self.forget(child)
        self.selector.close()
        self.connection.close()

    def start_over(self) -> None:
        """The server has ended, and all children with it: put back what they had, and connect to the next server."""
        for child in self:
            self.waiting.put_back(child.unanswered)
            self.forget(child)
        self.selector.unregister(self.connection)
        self.connection.close()
        self._connect()

    def _connect(self) -> None:
        self.connection = connect(self.wanted)
        self.selector.register(self.connection, selectors.EVENT_READ)
        if not self.connection.forks and self.wanted.forks:
            self.learned = learned(self._context.model.digest, "reuse", self._context.per_child)

    def lose(self, what: str) -> None:
        """Count an end before the first simulation; ModelError where it is one too many in a row."""
        self._n_lost += 1
        if self._n_lost >= LOSSES:
            raise ModelError(f"{what}, {LOSSES} times in a row without running a simulation")

    def gain(self) -> None:
        """A child has run a simulation: count anew."""
        self._n_lost = 0

    def assign(self) -> None:
        """Give simulations to the children that have none, and borrow more children where more simulations wait.

        ServerEndedError where the server has ended, NoChildError where it could not start a first child again and
        again.
        """
        for child in self:
            if child.is_ready and not (child.is_busy or child.is_late or child.garbled):
                self._give_more(child)
        width = 1 if self.waiting.at_its_end else self._width
        for _ in range(width - len(self)):
            if sum(not child.is_ready for child in self._children) < len(self.waiting):
                self._borrow()

    def _borrow(self) -> None:
        asked_s = time.monotonic()
        try:
            lent = self.connection.child(self.limit, self.own_bytes)
        except NoChildError:
            if not self._children:
                self._n_lost += 1
                if self._n_lost >= LOSSES:
                    raise
                time.sleep(NO_CHILD_PAUSE_S)
            return
        child = Borrowed(lent, asked_s, self.connection, self.selector)
        self._children.append(child)
        if child.is_ready:
            self._give_more(child)

    def _give_more(self, child: Borrowed) -> None:
        if child.served.n and self._keeps_too_much(child):
            self._part_with(child, has_served=True)
            return
        sets = self.waiting.sets(MAX_BATCH * self._width)
        n = self.learned.sharing.batch(child.served, sets, self._width) if sets else 0
        if n == 0:
            self._part_with(child)
            return
        n = self.waiting.together(n)
        if child.served.n and self.waiting.next_is_suspect:
            self._part_with(child, has_served=True)
            return
        simulations, context = self.waiting.take(n), self._context
        is_measured = self.learned.own_bytes > 0
        # Before anything is known of the model, and where all is kept, what is printed is to be told apart.
        marks = not is_measured or self.learned.prints or context.keep_output
        work = work_of(simulations, context.run.scenario, context.outputs, measure=not is_measured, marks=marks)
        child.give(simulations, work)

    def _keeps_too_much(self, child: Borrowed) -> bool:
        """Whether what earlier simulations left in a child takes much of what the next may use, and is killed for."""
        hard_bytes = self.limit.hard_bytes
        return hard_bytes is not None and child.used_bytes > LEFT_SHARE * hard_bytes

    def _part_with(self, child: Borrowed, *, has_served: bool = False) -> None:
        """Nothing more for this child: the next supervisor may have it unless it `has_served`, or it ends."""
        if child.incoming.is_partial:
            child.kill(GARBLED)
        elif not self.connection.forks:
            has_served = has_served or self._context.isolation == "fresh"
            retire_after = 1 if has_served else self._context.per_child or RETIRE_AFTER
            self.connection.tell(TakeBack(child.lent.pid, child.served.n, retire_after))
        self.forget(child)

    def put_back(self, child: Borrowed, simulations: Sequence[Simulation]) -> None:
        """Have simulations that a child was given wait again; it has nothing more to do."""
        self.waiting.put_back(simulations)
        child.given, child.n_answered = [], 0

    def forget(self, child: Borrowed) -> None:
        """Let go of a child: a fork ends."""
        self._children.remove(child)
        child.close()
