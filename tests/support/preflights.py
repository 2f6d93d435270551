"""A pre-flight as a test looks at it."""

from typer.testing import CliRunner, Result

from snowmelt import cli
from snowmelt.preflight.checks import Preflight, preflight
from snowmelt.settings import Settings
from snowmelt.wiring import Wiring
from support.world import World


def wired(world: World) -> Wiring:
    return Wiring(Settings(config=str(world.config)), world.environment(str(world.folder / "store")))


def looked_at(world: World) -> Preflight:
    """What the command finds, without a process of its own."""
    wiring = wired(world)
    config = wiring.config()
    return preflight(wiring, config, config.source(None))


def command(world: World, *arguments: str) -> Result:
    """``snowmelt ARGUMENTS`` in this process, for commands that only look."""
    done = CliRunner().invoke(cli.app, arguments, env=world.environment(str(world.folder / "store")))
    world.said += (done.stdout, done.stderr)
    return done
