"""The page that a data-protection officer hands over: complete, escaped, and in need of nothing else.

Enters: the sample's store. Leaves: nothing. How it looks was looked at in Chromium; what it says is read
here with the standard library's parser.
"""

import csv
import datetime as dt
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from scalple.cli.answer import Answer, timeline_unit
from scalple.cli.report import _bars
from tests.commandline import SAMPLE, scalple

SUBJECT = ("--subject", "customer_id=4711")


class Page(HTMLParser):
    """Its text, by heading, its tables' rows, and every place that would fetch something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sections: dict[str, list[str]] = {"": []}
        self.rows: dict[str, list[list[str]]] = {"": []}
        self.fetches: list[str] = []
        self._title = ""
        self._in: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br"):
            self._in.append(tag)
        if tag in ("script", "img", "link", "iframe", "object", "base", "form"):
            self.fetches.append(tag)
        self.fetches += [
            name for name, _ in attrs if name in ("src", "href", "action") or name[:2] == "on"
        ]
        if tag == "h2":
            self._title = ""
        if tag == "tr":
            self.rows[self._title].append([])
        if tag == "td":
            self.rows[self._title][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._in.pop() == tag
        if tag == "h2":
            self.sections[self._title], self.rows[self._title] = [], []

    def handle_data(self, data: str) -> None:
        if self._in[-1:] == ["h2"]:
            self._title += data
        elif "td" in self._in:
            self.rows[self._title][-1][-1] += data
        elif data.strip():
            self.sections[self._title].append(" ".join(data.split()))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample's."""
    directory = tmp_path_factory.mktemp("report") / "store"
    done = scalple(
        *("reprocess", "--store", directory, "--config", SAMPLE / "config.toml"),
        *("--origin", "sample"),
    )
    assert done.code == 0, done.err
    return directory


def asked(store: Path, *arguments: str, form: str = "html") -> Any:
    said = scalple("query", "--store", store, "--format", form, *arguments)
    assert said.code == 0, said.err
    return said.json() if form == "json" else said.out


def test_the_page_says_all_that_the_answer_holds(store: Path) -> None:
    arguments = (*SUBJECT, "--disclosure", "controller")
    answer, page = asked(store, *arguments, form="json"), Page(asked(store, *arguments))
    named = page.rows["Statements that name this person"][1:]
    assert [row[-1] for row in named] == [row["log_id"] for row in answer["direct"]]
    assert [row[1] for row in named] == [
        row["session_user_id"] + (f" for {row['on_behalf_of']}" if row["on_behalf_of"] else "")
        for row in answer["direct"]
    ]
    groups = page.rows["Statements that could have shown this person's data"][1:]
    assert sum(int(row[0].replace(",", "")) for row in groups) == len(answer["possible"])
    actors = page.rows["Who"][1:]
    assert sum(int(row[1]) for row in actors) == len(answer["direct"])
    missing = " ".join(page.sections["What couldn't be determined"])
    assert "it can't be said who ran them" in missing
    assert "The logs show no gap." in missing


def test_the_page_needs_nothing_else_and_runs_nothing(store: Path) -> None:
    text = asked(store, *SUBJECT)
    page = Page(text)
    assert page.fetches == []
    assert not re.search(r"https?:|url\(|@import", text)
    assert "default-src 'none'" in text


def test_the_subject_s_page_names_no_staff_and_shows_no_statement(store: Path) -> None:
    named = asked(store, *SUBJECT, "--disclosure", "controller", form="json")["direct"]
    text = asked(store, *SUBJECT)
    for row in named:
        assert row["session_user_id"] not in text
        assert row["session_email"] is None or row["session_email"] not in text
    assert "<code>SELECT" not in text


def test_what_a_client_wrote_can_t_become_part_of_the_page(tmp_path: Path, store: Path) -> None:
    text = asked(store, "--actor", '<script>alert(1)</script>"', "--disclosure", "controller")
    assert "<script>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert Page(text).fetches == []


def test_an_empty_answer_is_a_page_as_well(store: Path) -> None:
    text = asked(store, "--subject", "customer_id=999999999", "--since", "2030-01-01")
    said = " ".join(line for part in Page(text).sections.values() for line in part)
    assert "Nobody: no statement in this period names this person." in said
    assert "The record of this period holds no statements." in said


@pytest.mark.parametrize(
    ("first", "last", "count"),
    [
        ("2026-03-14T11:00:00", "2026-03-14T11:59:59", 60),
        ("2026-03-14T11:00:00", "2026-03-16T10:59:00", 48),
        ("2026-03-14T23:59:59", "2026-03-20T00:00:00", 7),
        ("2024-01-31T00:00:00", "2026-03-01T00:00:00", 27),
    ],
)
def test_the_timeline_leaves_out_no_time_in_between(first: str, last: str, count: int) -> None:
    begin, end = (dt.datetime.fromisoformat(one) for one in (first, last))
    unit = timeline_unit([begin], [{"first": end, "last": end}])
    found = Answer(
        {}, pa.table({}), [], 1, times=[{"time": f"{last}.000000Z", "times": 1}], unit=unit
    )
    bars = _bars([{"log_time": f"{first}.000000Z"}], found)
    assert len(bars) == count
    assert (bars[0]["direct"], bars[-1]["possible"]) == (1, 1)
    assert sum(bar["direct"] + bar["possible"] for bar in bars) == 2


def test_three_thousand_accesses_are_all_on_the_page(tmp_path: Path) -> None:
    log = io.StringIO()
    lines = csv.writer(log, lineterminator="\n")
    begin = dt.datetime(2026, 1, 5, 8)
    for n in range(3000):
        said = io.StringIO()
        text = "SELECT email FROM users WHERE id = 4711"
        fields = ["SESSION", n + 1, 1, "READ", "SELECT", "TABLE", "public.users", text, "<none>", 1]
        csv.writer(said, lineterminator="").writerow(fields)
        when = f"{begin + n * dt.timedelta(minutes=71):%Y-%m-%d %H:%M:%S}.000 UTC"
        session = ["jane", "shop", 100, "10.0.0.5:4000", "69b2a1c0.64", n + 1, "SELECT", when]
        rest = [f"3/{n}", 0, "LOG", "00000", f"AUDIT: {said.getvalue()}", *[""] * 8]
        lines.writerow([when, *session, *rest, "web", "client backend", "", 0])
    (tmp_path / "postgresql.csv").write_text(log.getvalue())
    (tmp_path / "schema.sql").write_text("CREATE TABLE users (id bigint PRIMARY KEY, email text);")
    (tmp_path / "config.toml").write_text(
        'origin = "db1"\n[pooler]\nkind = "none"\n'
        '[identifiers]\ncustomer_id = ["public.users.id"]\n'
        '[personal_data]\n"public.users.email" = "email"\n[actors]\nroles = { jane = "e1" }\n'
    )
    store = tmp_path / "store"
    options: list[str | Path] = [
        "--config",
        tmp_path / "config.toml",
        "--schema",
        tmp_path / "schema.sql",
    ]
    options += ["--postgres-log", tmp_path / "postgresql.csv"]
    assert scalple("reprocess", "--store", store, *options).code == 0
    page = Page(asked(store, *SUBJECT))
    rows = page.rows["Statements that name this person"][1:]
    assert len(rows) == 3000
    assert len({row[-1] for row in rows}) == 3000
    assert page.fetches == []
