"""Several chunks in one invocation, and sessions that serve more than one of them."""

import pytest

from support.world import World


@pytest.mark.parametrize("key", [(), ("id",)], ids=["by copy", "by merge"])
def test_threads_of_an_invocation_share_its_chunks(world: World, key: tuple[str, ...]) -> None:
    world.add_table("entries", 9_000, truncate_onstart=True, uniqueness_columns=key)
    world.configure(batch_size=1_000, parallel_threads=3, threads_per_invocation=3)

    world.snowflake.set_delays(batch_seconds=0.2)
    with world.aws() as aws:
        ended = aws.step_functions.run()
        assert ended.status == "SUCCEEDED", ended.cause
        counted = aws.functions.statistics()

    chunks = world.chunks()
    assert [(c["status"], c["attempts"]) for c in chunks] == [("completed", 1)] * len(chunks)
    assert world.equal("entries")
    assert len({c["backend_pid"] for c in chunks}) == 3  # of all items together: sessions outlive an invocation
    assert len(counted.peak_rss_bytes) == 1  # processes
    assert world.sessions() == 0  # the verdict closed what the process had kept, which still lives


def test_a_table_may_ask_for_fewer_threads_than_an_invocation_has(world: World) -> None:
    world.add_table("entries", 3_000, truncate_onstart=True, parallel_threads=1)
    world.configure(batch_size=500, parallel_threads=4, threads_per_invocation=4)

    ended = world.cli("migrate", "--json")

    assert ended.exit_code == 0, ended.err
    assert world.equal("entries")
    assert len({c["backend_pid"] for c in world.chunks("completed")}) == 1
