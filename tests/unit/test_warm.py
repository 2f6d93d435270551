"""Connections that are kept for the next piece of work."""

from dataclasses import dataclass, field

import pytest

from snowmelt.wiring.connection_pool import Pool


@dataclass
class Line:
    """A connection that remembers what was done to it."""

    answers: bool = True
    is_closed: bool = False

    def alive(self) -> bool:
        return self.answers and not self.is_closed

    def close(self) -> None:
        self.is_closed = True


@dataclass
class Exchange:
    """Where lines come from."""

    opened: list[Line] = field(default_factory=list)

    def connect(self) -> Line:
        self.opened.append(Line())
        return self.opened[-1]


def test_a_connection_serves_again() -> None:
    pool: Pool[Line] = Pool()
    exchange = Exchange()
    for _ in range(3):
        with pool.lend("run 1", exchange.connect) as line:
            assert line is exchange.opened[0]
    assert len(exchange.opened) == 1
    assert not exchange.opened[0].is_closed


def test_two_borrowers_have_two_connections() -> None:
    pool: Pool[Line] = Pool()
    exchange = Exchange()
    for _ in range(2):
        with pool.lend("run 1", exchange.connect) as one, pool.lend("run 1", exchange.connect) as other:
            assert one is not other
    assert len(exchange.opened) == 2


def test_a_connection_that_no_longer_answers_is_replaced() -> None:
    pool: Pool[Line] = Pool()
    exchange = Exchange()
    with pool.lend("run 1", exchange.connect) as line:
        line.answers = False
    with pool.lend("run 1", exchange.connect) as line:
        assert line is exchange.opened[1]
    assert exchange.opened[0].is_closed


def test_a_connection_is_not_trusted_after_an_error() -> None:
    pool: Pool[Line] = Pool()
    exchange = Exchange()
    with pytest.raises(RuntimeError), pool.lend("run 1", exchange.connect):
        raise RuntimeError
    assert exchange.opened[0].is_closed
    with pool.lend("run 1", exchange.connect):
        assert len(exchange.opened) == 2


def test_connections_of_another_run_are_closed() -> None:
    pool: Pool[Line] = Pool()
    exchange = Exchange()
    with pool.lend("run 1", exchange.connect), pool.lend("run 1", exchange.connect):
        pass
    with pool.lend("run 2", exchange.connect) as line:
        assert line is exchange.opened[2]
    assert [each.is_closed for each in exchange.opened] == [True, True, False]
