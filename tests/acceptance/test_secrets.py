"""Whatever a test leaves behind is searched for the password that it signed in with; here it is seen to be found."""

from support.world import World


def test_a_password_is_found_wherever_it_was_left(world: World) -> None:
    secret = world.snowflake.password
    world.add_table("entries", 10)
    world.configure()
    assert world.cli("migrate").exit_code == 0
    assert world.leaks() == []
    log, manifest = world.folder / "some.log", world.folder / "store" / "manifest.json"
    log.write_text(f"signing in with {secret}", encoding="utf-8")
    manifest.write_text(f'"{secret}"', encoding="utf-8")
    world.said.append(f"the password is {secret}")
    world.target.execute(f"UPDATE migration_status.runs SET error_text = 'bad password {secret}'")

    found = world.leaks()

    assert set(found) == {str(log), str(manifest), "what a command printed", "migration_status.runs"}
    log.unlink()
    manifest.unlink()
    world.said.clear()
    world.target.execute("UPDATE migration_status.runs SET error_text = NULL")
