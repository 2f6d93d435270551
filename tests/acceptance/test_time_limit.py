"""A table that takes longer than an invocation may."""

from acceptance.world import World


def test_x(world: World) -> None:
    world.add_table("entries", 31500, truncate_onstart=True)
    world.configure(batch_size=4000, parallel_threads=2)
    with world.aws() as aws:
        ex = aws.step_functions.run({"source_name": "ledger"})
        print(ex)
        print(aws.functions.statistics())
    assert world.equal("entries")
    print(world.scans(), [world.snowflake.downloads(q) for q in world.scans()])
    for c in world.chunks():
        print(c["chunk_id"], c["status"], c["actual_rows"], c["reads"], c["attempts"])
    r = world.cli("migrate", "--config", str(world.config))
    print(r)
