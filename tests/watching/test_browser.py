"""The dashboard's page in a real Chromium: read, clicked, typed at. Behind --full, for not every machine has one."""

import os
import re
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from snowmelt_sandbox.postgres import Database, LocalPostgres
from snowmelt_sandbox.snowflake import LocalSnowflake
from support import scenes
from support.scenes import Served, Stage, dashboard
from support.world import World, eventually

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.full

HOSTILE = ("<img src=x onerror=\"document.title='broken'\">", "</script><script>alert(1)</script>", "PLAIN")
PHONE = {"width": 360, "height": 740}
DESK = {"width": 1280, "height": 800}
STRIP = "() => document.querySelector('#tables canvas').toDataURL()"


@contextmanager
def opened(browser: "Browser", url: str, **options: Any) -> "Iterator[Page]":
    """The page with its first figures; whatever the browser complains of in the meantime fails the test."""
    context = browser.new_context(**{"viewport": DESK, **options})
    page = context.new_page()
    complaints: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url)
    page.wait_for_selector("#tables tr")
    yield page
    context.close()
    assert [text for text in complaints if "the server responded with a status of 503" not in text] == []
    assert [address for address in asked if not address.startswith((url, "data:"))] == []


@pytest.fixture(scope="module")
def served(shared: Stage) -> Iterator[Served]:
    with (
        shared.run("older", status="failed", completed=1, loading=0, workers=0, age_seconds=7200),
        shared.run("newest", tables=9, completed=3, loading=4, workers=3),
        dashboard(shared) as served,
    ):
        yield served


def chosen(page: "Page") -> str:
    """What a screen reader says of the chunk that is chosen."""
    return page.get_by_role("slider", name="Chunk").get_attribute("aria-valuetext") or ""


# --- what is seen -----------------------------------------------------------------------------------------------------


def test_the_verdict_and_the_pulse_come_first_and_everything_has_a_name(browser: "Browser", served: Served) -> None:
    with opened(browser, served.url) as page:
        text = page.inner_text("main")
        assert re.match(r"newest\s+Under way: 3 of 9 tables done, [\d,]+ rows so far\.\s+It moves: 3 chunks", text)
        assert page.get_by_role("heading", level=1).count() == 1
        for named in (
            page.get_by_role("navigation", name="Runs"),
            page.get_by_role("progressbar", name="The whole run"),
            page.get_by_role("img", name="Rows per second at most"),
            page.get_by_role("table", name="Tables of the run"),
            page.get_by_role("group", name="Who is at work on what"),
            page.get_by_role("group", name="Which tables are shown"),
        ):
            assert named.count() == 1, named
        assert page.get_by_role("button").count() == page.locator("button:not(:empty)").count()
        assert page.get_by_role("img", name=re.compile(r"^20 chunks: 12 loaded, 1 being loaded, 0 failed")).count() >= 2
        assert "% · warehouse · Snowmelt" in page.title()


def test_names_from_data_are_text_and_nothing_else(browser: "Browser", stage: Stage) -> None:
    run = stage.run("<b>bold</b>", names=HOSTILE, tables=3, workers=1)
    with run, dashboard(stage) as served, opened(browser, served.url) as page:
        assert page.locator("#tables .name button").all_inner_texts() == list(HOSTILE)
        assert page.inner_text("#runid") == "<b>bold</b>"
        assert page.locator("main img, main b b, #runid b").count() == 0
        page.locator("#tables .name button").nth(1).click()
        page.wait_for_selector(".facts dd")
        assert page.locator("script").count() == 1
        assert "broken" not in page.title()


def test_it_goes_on_by_itself(browser: "Browser", stage: Stage) -> None:
    with stage.run("r1", workers=0, age_seconds=20), dashboard(stage) as served, opened(browser, served.url) as page:
        line = page.locator("#tables tr").nth(2)
        before = line.locator(".rows").inner_text()
        stage.complete("r1", 2, 15)
        page.wait_for_function(
            "before => document.querySelector('#tables tr:nth-child(3) .rows').innerText !== before", arg=before
        )
        assert line.locator(".rows").inner_text() == "650,000 / 1M"
        assert line.get_by_role("img").get_attribute("aria-label") == "20 chunks: 13 loaded, 0 being loaded, 0 failed"


def test_a_server_that_goes_away_is_told_on_the_page_and_forgotten_when_it_is_back(
    browser: "Browser", tmp_path: Path
) -> None:
    from snowmelt.sql_text import queries

    with LocalPostgres(durable=False) as server, server.database() as database:
        database.execute(queries.text("engine/status_schema.sql"))
        stage = scenes.stage(database, tmp_path)
        with stage.run("r1", workers=0), dashboard(stage) as served, opened(browser, served.url) as page:
            with stage.unreachable():
                page.wait_for_selector("#trouble:not([hidden])")
                told = page.get_by_role("alert").inner_text()
                assert page.inner_text("#seen") == "no connection"
                assert page.locator("#tables tr").count() == 5
            page.wait_for_selector("#trouble", state="hidden")
            server.restart()
            before = page.inner_text("#seen")
            page.wait_for_function("before => document.getElementById('seen').innerText > before", arg=before)
            assert page.locator("#trouble").is_hidden()

    assert told.startswith("No news. PostgreSQL 127.0.0.1:")
    assert "What is shown is as of " in told


def test_a_dashboard_that_was_ended_is_told_on_the_page(browser: "Browser", stage: Stage) -> None:
    with stage.run("r1", workers=0):
        with dashboard(stage) as served:
            context = browser.new_context()
            page = context.new_page()
            page.goto(served.url)
            page.wait_for_selector("#tables tr")
        page.wait_for_selector("#trouble:not([hidden])")
        assert "The dashboard itself does not answer. Was it ended?" in page.inner_text("#trouble")
        context.close()


# --- what can be done -------------------------------------------------------------------------------------------------


def test_a_chunk_is_chosen_by_keys_and_told_in_all_detail(browser: "Browser", served: Served) -> None:
    with opened(browser, served.url) as page:
        button = page.get_by_role("button", name="INVOICES")
        button.focus()
        page.keyboard.press("Enter")
        assert button.get_attribute("aria-expanded") == "true"
        page.keyboard.press("Tab")
        said = [chosen(page)]
        for key in ("ArrowRight", "End", "ArrowLeft", "Home"):
            page.keyboard.press(key)
            said.append(chosen(page))
        page.keyboard.press("End")
        page.wait_for_function("() => document.querySelector('.facts')?.innerText.includes('19 (20 of 20)')")
        facts = page.inner_text(".facts")
        button.click()
        assert page.get_by_role("slider").count() == 0

    assert [text.split(":")[0] for text in said] == ["1 of 20", "2 of 20", "20 of 20", "19 of 20", "1 of 20"]
    assert said[2] == "20 of 20: waits"
    assert "about 50,000" in facts


def test_a_chunk_is_chosen_by_a_tap_on_the_strip(browser: "Browser", served: Served) -> None:
    with opened(browser, served.url, viewport=PHONE, has_touch=True, is_mobile=True) as page:
        strip = page.locator("#tables tr").nth(0).locator("canvas")
        strip.scroll_into_view_if_needed()
        box = strip.bounding_box()
        assert box is not None
        page.touchscreen.tap(box["x"] + box["width"] * 0.52, box["y"] + box["height"] / 2)
        page.wait_for_function("() => document.querySelector('.facts')?.innerText.includes('10 (11 of 20)')")
        facts = page.inner_text(".facts")

    assert re.search(r"Status\s+loaded in ", facts)
    assert re.search(r"Rows\s+50,000", facts)


def test_pointing_at_a_strip_says_what_the_chunk_is(browser: "Browser", served: Served) -> None:
    with opened(browser, served.url) as page:
        page.locator("#tables tr").nth(0).locator("canvas").hover()
        assert re.match(r"1[01] of 20: loaded in ", page.inner_text("#tip"))
        page.locator("#plot").hover()
        assert re.match(r"\d\d:\d\d:\d\d: [\d,]+ rows/s", page.inner_text("#at"))
        assert page.locator("#tip").is_hidden()


def test_tables_can_be_filtered(browser: "Browser", served: Served) -> None:
    with opened(browser, served.url) as page:
        for name, count in (("at work 5", 5), ("waiting 1", 1), ("done 3", 3), ("all 9", 9)):
            page.get_by_role("button", name=name, exact=True).click()
            assert page.locator("#tables tr:visible").count() == count
            assert page.get_by_role("button", name=name, exact=True).get_attribute("aria-pressed") == "true"


def test_another_run_is_chosen_and_stays_chosen(browser: "Browser", served: Served) -> None:
    with opened(browser, served.url) as page:
        page.get_by_role("navigation").get_by_role("button").nth(1).click()
        page.wait_for_function(
            "() => document.getElementById('verdict').innerText.startsWith('Failed: PostgreSQL refuses')"
        )
        assert page.url.endswith("#run=older")
        assert page.locator("#pulse").is_hidden()
        page.reload()
        page.wait_for_function("() => document.getElementById('runid').innerText === 'older'")


# --- how it looks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [320, 360, 768, 830, 1000, 1170, 1280, 1920])
def test_it_fits_every_width(browser: "Browser", served: Served, width: int) -> None:
    with opened(browser, served.url, viewport={"width": width, "height": 800}) as page:
        page.locator("#tables .name button").nth(3).click()
        page.wait_for_selector(".facts dd")
        assert page.evaluate("document.documentElement.scrollWidth") == width
        wide = page.evaluate(
            "[...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1"
            " && !e.closest('.scroll, .sr, svg')).map(e => e.outerHTML.slice(0, 80))"
        )
        assert wide == []


def test_on_a_phone_what_is_tapped_is_large_enough(browser: "Browser", served: Served) -> None:
    with opened(browser, served.url, viewport=PHONE, has_touch=True, is_mobile=True) as page:
        heights = page.evaluate("[...document.querySelectorAll('button')].map(e => e.getBoundingClientRect().height)")

    assert min(heights) >= 24


@pytest.mark.parametrize(("scheme", "ground"), [("light", "rgb(244, 247, 250)"), ("dark", "rgb(12, 19, 27)")])
def test_it_follows_the_scheme_of_the_machine(browser: "Browser", served: Served, scheme: str, ground: str) -> None:
    with opened(browser, served.url, color_scheme=scheme) as page:
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == ground
        before = page.evaluate(STRIP)
        page.emulate_media(color_scheme="dark" if scheme == "light" else "light")
        page.wait_for_function(f"before => ({STRIP})() !== before", arg=before)


def test_nothing_moves_for_those_who_do_not_want_it(browser: "Browser", served: Served) -> None:
    with opened(browser, served.url, reduced_motion="reduce") as page:
        assert page.evaluate("getComputedStyle(document.querySelector('#pulse .dot')).animationName") == "none"
        assert page.evaluate("document.getAnimations().length") == 0


# --- a real run -------------------------------------------------------------------------------------------------------


def test_a_real_run_is_seen_from_its_first_chunk_to_its_verdict(
    browser: "Browser", snowflake: LocalSnowflake, database: Database, tmp_path: Path
) -> None:
    snowflake.create_schema(database.name.upper(), "PUBLIC")
    world = World(snowflake, database, tmp_path)
    world.add_table("entries", 30_000)
    world.add_table("accounts", 2_000)
    stage = Stage(database, world.configure(batch_size=1_000, parallel_threads=2), world.environment("unused"))
    snowflake.set_delays(batch_seconds=0.4)
    process = world.start_cli("migrate")
    eventually(lambda: world.chunks("completed"), what="the first chunk is in")
    with dashboard(stage) as served, opened(browser, served.url) as page:
        page.wait_for_function("() => document.getElementById('verdict').innerText.startsWith('Under way')")
        workers = page.wait_for_selector("#workers td.does")
        assert workers is not None
        does = workers.inner_text()
        snowflake.set_delays()
        page.wait_for_function(
            "() => document.getElementById('verdict').innerText.startsWith('Completed')", timeout=90_000
        )
        verdict, share = page.inner_text("#verdict"), page.inner_text("#percent")

    assert process.wait().exit_code == 0
    assert (verdict, share) == ("Completed: 2 of 2 tables, 32,000 rows.", "100\u00a0%")
    assert does in ("waits for rows from Snowflake", "PostgreSQL stores rows")


# --- fifty tables, eleven thousand chunks -----------------------------------------------------------------------------


def test_with_eleven_thousand_chunks_it_is_there_within_a_second_and_goes_on_within_200_ms(
    browser: "Browser", stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    run = stage.run("r1", tables=50, completed=20, loading=30, chunks=220, workers=16)
    with run, dashboard(stage) as served, opened(browser, served.url) as page:
        for chunk in range(140, 150):
            stage.complete("r1", 25, chunk)
            page.wait_for_timeout(1000)
        paint, updates, cells = page.evaluate(
            "[performance.getEntriesByName('first-contentful-paint')[0].startTime,"
            " performance.getEntriesByName('update').map(e => [e.startTime, e.duration]),"
            " scene.run.tables.reduce((sum, t) => sum + t.cells.length, 0)]"
        )
        size = page.evaluate("fetch('overview.json').then(r => r.text()).then(t => t.length)")
    figures = updates[0][0] + updates[0][1]
    later = statistics.median(duration for _, duration in updates[1:])
    # Alone on the machine it must keep what it promises; with others at work on the same cores it takes its turn.
    turns = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    with capsys.disabled():
        sys.stdout.write(
            f"\n50 tables, {cells:,} chunks, {size / 1000:.0f} kB: first paint {paint:.0f} ms, "
            f"with figures {figures:.0f} ms, an update {later:.0f} ms (median of {len(updates) - 1}), "
            f"{turns:.1f} processes for each core\n"
        )

    assert cells == 11_000
    assert len(updates) > 6
    assert paint < 1000 * turns
    assert figures < 1000 * turns
    assert later < 200 * turns
