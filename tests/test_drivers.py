"""Drivers and tools through sidecar, PgBouncer and PostgreSQL: they work, and their statements are named.

Enters: real servers, a real sidecar, and psycopg, asyncpg, SQLAlchemy, Django, psql and pgbench. One
run does everything, several parts at a time on few backends; then all has stopped and the logs are
attributed. The small tests look at what came out. Does not: test drivers of other languages
(drivers/), or read the sidecar's insides.

A part's statements carry its people's names in the mark that only tests read.
"""

import asyncio
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import django  # type: ignore[import-untyped]
import psycopg
import pytest
import sqlalchemy
from django.conf import settings  # type: ignore[import-untyped]
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import orm

from scalple.correlate.rules import Rules
from tests.attribute_logs import Attributed, attribute_files
from tests.cluster import POSTGRES_BIN
from tests.recipes import Recipes, recipes, unmarked
from tests.sidecars import SidecarProcess, before_pooler
from tests.stack import HOST, SHARED_ROLE, Stack, StackOptions, password_of

pytestmark = pytest.mark.stack

AT_A_TIME = 4
BACKENDS = 3
Part = Callable[["Scene"], Any]
PARTS: dict[str, Part] = {}
ALONE = {"psql_script"}
"""It runs a DO block, which costs the pool its proof meanwhile."""


@dataclass
class Scene:
    """What a part plays on."""

    stack: Stack
    sidecar: SidecarProcess
    directory: Path
    straight: dict[str, Any] = field(default_factory=dict)
    """What psql and pgbench said without a sidecar."""
    recipe: Recipes = field(default_factory=Recipes)

    def dsn(self, user: str | None) -> str:
        """A connection string through the sidecar."""
        return self.sidecar.dsn(self.stack, user)

    def url(self, scheme: str) -> str:
        """The same for drivers that want a URL; without a person."""
        login = f"{SHARED_ROLE}:{password_of(SHARED_ROLE)}"
        return f"{scheme}://{login}@{HOST}:{self.sidecar.port}/{self.stack.options.database}"

    def connect(self, user: str | None) -> psycopg.Connection[tuple[Any, ...]]:
        """A psycopg connection in autocommit."""
        return psycopg.connect(self.dsn(user), autocommit=True, prepare_threshold=None)


@dataclass
class Run:
    """What came out."""

    done: Attributed
    results: dict[str, Any]
    recipes: Recipes
    metrics: str

    def result(self, part: str) -> Any:
        """What a part returned; what it raised is raised here."""
        said = self.results[part]
        if isinstance(said, BaseException):
            raise said
        return said

    def rows_of(self, *people: str) -> list[dict[str, object]]:
        """The marked rows of these people."""
        return [row for row in self.done.dicts() if row["truth"] in people]

    def assert_named(self, expected: dict[str, int]) -> None:
        """Each person has so many marked rows, and each of them is proven to be that person's."""
        found: dict[str, int] = {}
        for row in self.rows_of(*expected):
            who = str(row["truth"])
            found[who] = found.get(who, 0) + 1
            assert (row["session_user_id"], row["attribution_grade"]) == (who, "proven"), row
        assert found == expected


def part(function: Part) -> Part:
    """A part of the run."""
    PARTS[function.__name__] = function
    return function


def marked(sql: str, who: str) -> str:
    """A text with its author's mark."""
    return f"{sql} /* truth:{who} */"


def email_of(customer: int) -> str:
    """What company.sql gave that customer."""
    return f"customer{customer}@example.{('com', 'net', 'org')[customer % 3]}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """All parts, played and attributed."""
    directory = tmp_path_factory.mktemp("drivers")
    results: dict[str, Any] = {}
    options = StackOptions(application_name_add_host=False, pool_size=BACKENDS, users=300)
    with Stack(options) as stack:
        fill_pgbench(stack)
        # Before the others: beside a client that no event announces, less is proven.
        past = stack.dsn_pooler(application_name="app")
        straight = {"psql": play_psql(past, "straight", directory), "pgbench": play_pgbench(past)}
        with before_pooler(stack, directory) as sidecar:
            scene = Scene(stack, sidecar, directory, straight)

            def play(name: str) -> None:
                try:
                    results[name] = PARTS[name](scene)
                except BaseException as error:  # noqa: BLE001 - raised by `Run.result`
                    results[name] = error

            with ThreadPoolExecutor(AT_A_TIME) as pool:
                list(pool.map(play, PARTS.keys() - ALONE))
            for name in ALONE:
                play(name)
            metrics = sidecar.page("metrics")
    done = attribute_files(stack.csvlog_paths(), [stack.pgbouncer_log], [sidecar.events], Rules())
    yield Run(done, results, scene.recipe, metrics)


# -- psycopg ------------------------------------------------------------------------------------


@part
def psycopg_simple(scene: Scene) -> Any:
    with scene.connect("ps_simple") as connection:
        rows = [
            connection.execute(
                marked(f"SELECT email FROM users WHERE id = {i}", "ps_simple").encode()
            )
            for i in range(1, 9)
        ]
        with pytest.raises(errors.UndefinedTable):
            connection.execute("SELECT 1 FROM no_such_table")
        return [cursor.fetchone() for cursor in rows]


def test_psycopg_simple_queries(run: Run) -> None:
    assert run.result("psycopg_simple") == [(email_of(i),) for i in range(1, 9)]
    run.assert_named({"ps_simple": 8})


@part
def psycopg_extended(scene: Scene) -> Any:
    text = marked("SELECT id, email FROM users WHERE id = %s", "ps_extended")
    with scene.connect("ps_extended") as connection:
        found = [connection.execute(text, [i]).fetchone() for i in range(1, 9)]
        binary = connection.cursor(binary=True).execute(text, [9]).fetchone()
        many = connection.cursor()
        many.executemany(text, [[10], [11]], returning=True)
        last = [many.fetchone() for _ in many.results()]
        return [*found, binary, *last]


def test_psycopg_extended_queries(run: Run) -> None:
    assert run.result("psycopg_extended") == [(i, email_of(i)) for i in range(1, 12)]
    run.assert_named({"ps_extended": 11})


@part
def psycopg_recipe_connects(scene: Scene) -> Any:
    connect_as = scene.recipe("psycopg-connect")["connect_as"]
    with connect_as(scene.dsn(None), "ps_recipe") as connection:
        text = marked("SELECT email FROM users WHERE id = %s", "ps_recipe")
        # More often than psycopg's own threshold for preparing.
        return [connection.execute(text, [i]).fetchone() for i in range(1, 11)]


def test_psycopg_by_the_recipe(run: Run) -> None:
    assert run.result("psycopg_recipe_connects") == [(email_of(i),) for i in range(1, 11)]
    run.assert_named({"ps_recipe": 10})


@part
def psycopg_pipeline(scene: Scene) -> Any:
    with scene.connect("ps_pipeline") as connection:
        text = marked("SELECT email FROM users WHERE id = %s", "ps_pipeline")
        with connection.pipeline() as pipeline:
            cursors = [connection.execute(text, [i]) for i in range(1, 21)]
            pipeline.sync()
            cursors += [connection.execute(text, [i]) for i in range(21, 31)]
        with pytest.raises(errors.DivisionByZero), connection.pipeline():
            connection.execute("SELECT 1 / 0")
            connection.execute(marked("SELECT 'skipped' FROM users", "ps_pipeline"))
        return [cursor.fetchone() for cursor in cursors]


def test_psycopg_pipeline_mode(run: Run) -> None:
    assert run.result("psycopg_pipeline") == [(email_of(i),) for i in range(1, 31)]
    run.assert_named({"ps_pipeline": 30})


@part
def psycopg_server_side_cursor(scene: Scene) -> Any:
    with scene.connect("ps_cursor") as connection, connection.transaction():
        cursor = connection.cursor("page")
        cursor.itersize = 10
        cursor.execute(marked("SELECT id FROM users WHERE id <= 50 ORDER BY id", "ps_cursor"))
        found = [one for (one,) in cursor]
        cursor.close()
        connection.execute(marked("SELECT count(*) FROM users", "ps_cursor"))
        return found


def test_psycopg_server_side_cursor(run: Run) -> None:
    assert run.result("psycopg_server_side_cursor") == list(range(1, 51))
    assert {row["command"] for row in run.rows_of("ps_cursor")} == {"DECLARE CURSOR", "SELECT"}
    assert all(row["session_user_id"] == "ps_cursor" for row in run.rows_of("ps_cursor"))


@part
def psycopg_copy(scene: Scene) -> Any:
    into = marked("COPY products (name, price) FROM STDIN", "ps_copy")
    out = marked("COPY (SELECT name FROM products WHERE name LIKE 'copy-%') TO STDOUT", "ps_copy")
    with scene.connect("ps_copy") as connection:
        cursor = connection.cursor()
        # More than the sidecar keeps waiting.
        with cursor.copy(into) as copy:
            for i in range(20_000):
                copy.write_row((f"copy-{i}-{'x' * 20}", i))
        with cursor.copy(out) as copy:
            lines = sum(bytes(block).count(b"\n") for block in copy)
        with pytest.raises(errors.InvalidTextRepresentation), cursor.copy(into) as copy:
            copy.write(b"name\tno number\n")
        with pytest.raises(ZeroDivisionError), cursor.copy(into) as copy:
            copy.write_row(("never", 1))
            raise ZeroDivisionError
        text = marked("DELETE FROM products WHERE name LIKE %s", "ps_copy")
        return lines, connection.execute(text, ["copy-%"]).rowcount


def test_psycopg_copy_in_and_out(run: Run) -> None:
    assert run.result("psycopg_copy") == (20_000, 20_000)
    commands = {str(row["command"]) for row in run.rows_of("ps_copy")}
    assert {"COPY", "DELETE"} <= commands
    assert {row["session_user_id"] for row in run.rows_of("ps_copy")} == {"ps_copy"}
    assert {row["attribution_grade"] for row in run.rows_of("ps_copy")} == {"proven"}


@part
def psycopg_cancel(scene: Scene) -> Any:
    said = []
    with scene.connect("ps_cancel") as connection:
        for cancel in (connection.cancel_safe, connection.cancel):
            asked = threading.Timer(0.3, cancel)
            began = time.monotonic()
            asked.start()
            with pytest.raises(errors.QueryCanceled):
                connection.execute("SELECT pg_sleep(20)")
            asked.join()
            assert time.monotonic() - began < 10
            text = marked("SELECT email FROM users WHERE id = %s", "ps_cancel")
            said.append(connection.execute(text, [1]).fetchone())
    return said


def test_psycopg_cancels_and_goes_on(run: Run) -> None:
    assert run.result("psycopg_cancel") == [(email_of(1),)] * 2
    run.assert_named({"ps_cancel": 2})


@part
def psycopg_transactions_of_many(scene: Scene) -> Any:
    acting_as = scene.recipe("psycopg-transaction")["acting_as"]
    found = []
    with scene.connect("ps_service") as connection:
        for i in range(12):
            who = f"ps_local_{i % 3}"
            with acting_as(connection, who):
                found.append(
                    connection.execute(marked(f"SELECT {i} FROM users LIMIT 1", who)).fetchone()
                )
                connection.execute(marked("SELECT name FROM users WHERE id = %s", who), [i])
            connection.execute(marked("SELECT count(*) FROM users", "ps_service"))
        with pytest.raises(ZeroDivisionError), acting_as(connection, "ps_local_0"):
            connection.execute(marked("SELECT 1 FROM users LIMIT 1", "ps_local_0"))
            raise ZeroDivisionError
        connection.execute(marked("SELECT count(*) FROM users", "ps_service"))
    return found


def test_psycopg_transactions_of_several_people(run: Run) -> None:
    assert run.result("psycopg_transactions_of_many") == [(i,) for i in range(12)]
    run.assert_named({"ps_service": 13, "ps_local_0": 9, "ps_local_1": 8, "ps_local_2": 8})


@part
def psycopg_session_of_many(scene: Scene) -> Any:
    names = scene.recipe("psycopg-session")
    with scene.connect(None) as connection:
        for i in range(9):
            who = f"ps_taken_{i % 3}"
            names["take"](connection, who)
            connection.execute(marked("SELECT name FROM users WHERE id = %s", who), [i])
            with pytest.raises(ZeroDivisionError), connection.transaction():
                connection.execute(marked("SELECT 1 FROM users LIMIT 1", who))
                raise ZeroDivisionError
            connection.execute(marked("SELECT email FROM users WHERE id = %s", who), [i])
            names["give_back"](connection)
            connection.execute(marked("SELECT count(*) FROM users", "ps_nobody"))


def test_psycopg_sessions_of_several_people(run: Run) -> None:
    run.result("psycopg_session_of_many")
    run.assert_named({f"ps_taken_{i}": 9 for i in range(3)})
    nobody = run.rows_of("ps_nobody")
    assert len(nobody) == 9
    assert {row["session_user_id"] for row in nobody} == {None}
    assert {row["attribution_reason"] for row in nobody} == {"unidentified-client"}


# -- asyncpg ------------------------------------------------------------------------------------


@part
def asyncpg_pool(scene: Scene) -> Any:
    async def work() -> list[Any]:
        async with asyncpg.create_pool(
            scene.url("postgresql"),
            ssl=False,
            min_size=1,
            max_size=2,
            statement_cache_size=0,
            server_settings={"scalple.user": "apg_pool", "application_name": "billing"},
        ) as pool:

            async def one(i: int) -> Any:
                # Every release sends RESET ALL and the like.
                async with pool.acquire() as connection:
                    text = marked("SELECT email FROM users WHERE id = $1", "apg_pool")
                    return await connection.fetchval(text, i)

            return list(await asyncio.gather(*(one(i) for i in range(1, 25))))

    return asyncio.run(work())


def test_asyncpg_pool_stays_proven_over_its_resets(run: Run) -> None:
    assert run.result("asyncpg_pool") == [email_of(i) for i in range(1, 25)]
    run.assert_named({"apg_pool": 24})


@part
def asyncpg_recipe_connects(scene: Scene) -> Any:
    connect_as = scene.recipe("asyncpg-connect")["connect_as"]

    async def work() -> Any:
        connection = await connect_as(scene.url("postgresql") + "?sslmode=disable", "apg_recipe")
        try:
            async with connection.transaction():
                text = marked("SELECT id FROM users WHERE id <= 30 ORDER BY id", "apg_recipe")
                found = [row["id"] async for row in connection.cursor(text, prefetch=10)]
            rows = [(f"apg-{i}", i) for i in range(50)]
            await connection.copy_records_to_table(
                "products", records=rows, columns=("name", "price")
            )
            gone = marked("DELETE FROM products WHERE name LIKE $1", "apg_recipe")
            many = marked("UPDATE users SET name = name WHERE id = $1", "apg_recipe")
            await connection.executemany(many, [(1,), (2,)])
            return found, await connection.execute(gone, "apg-%")
        finally:
            await connection.close()

    return asyncio.run(work())


def test_asyncpg_by_the_recipe(run: Run) -> None:
    assert run.result("asyncpg_recipe_connects") == (list(range(1, 31)), "DELETE 50")
    rows = run.rows_of("apg_recipe")
    assert len(rows) >= 4
    assert {row["session_user_id"] for row in rows} == {"apg_recipe"}
    assert {row["attribution_grade"] for row in rows} == {"proven"}


@part
def asyncpg_transactions_of_many(scene: Scene) -> Any:
    acting_as = scene.recipe("asyncpg-transaction")["acting_as"]

    async def work() -> list[Any]:
        async with asyncpg.create_pool(
            scene.url("postgresql"),
            ssl=False,
            min_size=1,
            max_size=2,
            statement_cache_size=0,
            server_settings={"scalple.user": "apg_service"},
        ) as pool:

            async def one(i: int) -> Any:
                who = f"apg_local_{i % 4}"
                async with acting_as(pool, who) as connection:
                    text = marked("SELECT email FROM users WHERE id = $1", who)
                    return await connection.fetchval(text, i)

            found = list(await asyncio.gather(*(one(i) for i in range(1, 25))))
            await pool.execute(marked("SELECT count(*) FROM users", "apg_service"))
            return found

    return asyncio.run(work())


def test_asyncpg_transactions_of_several_people(run: Run) -> None:
    assert run.result("asyncpg_transactions_of_many") == [email_of(i) for i in range(1, 25)]
    run.assert_named({f"apg_local_{i}": 6 for i in range(4)} | {"apg_service": 1})


@part
def asyncpg_checkouts_of_many(scene: Scene) -> Any:
    names = scene.recipe("asyncpg-session")
    current_user: ContextVar[str] = names["current_user"]

    async def work() -> list[Any]:
        async with await names["tagged_pool"](
            scene.url("postgresql"), ssl=False, min_size=1, max_size=2
        ) as pool:

            async def one(i: int) -> Any:
                who = f"apg_taken_{i % 4}"
                current_user.set(who)
                async with pool.acquire() as connection:
                    text = marked("SELECT email FROM users WHERE id = $1", who)
                    await connection.fetchval(text, i)
                    return await connection.fetchval(text, i)

            return list(await asyncio.gather(*(one(i) for i in range(1, 25))))

    return asyncio.run(work())


def test_asyncpg_checkouts_of_several_people(run: Run) -> None:
    assert run.result("asyncpg_checkouts_of_many") == [email_of(i) for i in range(1, 25)]
    run.assert_named({f"apg_taken_{i}": 12 for i in range(4)})


# -- SQLAlchemy ---------------------------------------------------------------------------------


class Base(orm.DeclarativeBase):
    """SQLAlchemy's models."""


class Customer(Base):
    """A customer."""

    __tablename__ = "users"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    email: orm.Mapped[str]


def customer(session: orm.Session, number: int, who: str) -> str:
    """One customer's address, through the ORM."""
    asked = sqlalchemy.select(Customer).where(Customer.id == number)
    found = session.scalars(asked.suffix_with(f"/* truth:{who} */")).one()
    return found.email


@part
def sqlalchemy_recipe_connects(scene: Scene) -> Any:
    engine = scene.recipe("sqlalchemy-connect")["engine_as"](
        scene.url("postgresql+psycopg"), "sa_recipe"
    )
    found = []
    for i in range(1, 11):
        with orm.Session(engine) as session:
            found.append(customer(session, i, "sa_recipe"))
            session.commit()
    engine.dispose()
    url = scene.url("postgresql+psycopg") + "?options=-c%20scalple.user%3Dsa_url"
    by_url = sqlalchemy.create_engine(url, connect_args={"prepare_threshold": None})
    with orm.Session(by_url) as session:
        found.append(customer(session, 11, "sa_url"))
    by_url.dispose()
    return found


def test_sqlalchemy_by_the_recipe(run: Run) -> None:
    assert run.result("sqlalchemy_recipe_connects") == [email_of(i) for i in range(1, 12)]
    run.assert_named({"sa_recipe": 10, "sa_url": 1})


def people_on_one_pool(scene: Scene, recipe: str, tagger: str, prefix: str) -> list[str]:
    """Four people at a time on an engine of two connections."""
    names = scene.recipe(recipe)
    engine = sqlalchemy.create_engine(
        scene.url("postgresql+psycopg"),
        pool_size=2,
        max_overflow=0,
        connect_args={"prepare_threshold": None},
    )
    names[tagger](engine)

    def serve(i: int) -> str:
        who = f"{prefix}_{i % 4}"
        names["current_user"].set(who)
        with orm.Session(engine) as session:
            email = customer(session, i, who)
            if i % 3:
                session.commit()
            else:
                session.rollback()
            # Another transaction of the session: a checkout of its own.
            assert customer(session, i + 1, who) == email_of(i + 1)
            return email

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(serve, range(1, 25)))
    engine.dispose()
    return found


@part
def sqlalchemy_transactions_of_many(scene: Scene) -> Any:
    return people_on_one_pool(scene, "sqlalchemy-transaction", "tag_transactions", "sa_local")


@part
def sqlalchemy_checkouts_of_many(scene: Scene) -> Any:
    return people_on_one_pool(scene, "sqlalchemy-session", "tag_checkouts", "sa_taken")


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("sqlalchemy_transactions_of_many", "sa_local"),
        ("sqlalchemy_checkouts_of_many", "sa_taken"),
    ],
)
def test_sqlalchemy_pool_that_serves_several_people(run: Run, name: str, prefix: str) -> None:
    assert run.result(name) == [email_of(i) for i in range(1, 25)]
    run.assert_named({f"{prefix}_{i}": 12 for i in range(4)})


# -- Django -------------------------------------------------------------------------------------


def django_settings(scene: Scene, middleware: str) -> None:
    """Django for this process, with a connection that is a person's and one that serves many."""
    login = {
        "HOST": HOST,
        "PORT": scene.sidecar.port,
        "NAME": scene.stack.options.database,
        "USER": SHARED_ROLE,
        "PASSWORD": password_of(SHARED_ROLE),
        "CONN_MAX_AGE": None,
    }
    person = scene.recipe("django-connect")["database_as"]
    bound = person("dj_bound", **login)
    bound["OPTIONS"]["server_side_binding"] = True
    settings.configure(
        DATABASES={
            "default": {"ENGINE": "django.db.backends.postgresql", **login},
            "person": person("dj_person", **login),
            "bound": bound,
        },
        DATABASE_ROUTERS=[],
        ALLOWED_HOSTS=["testserver"],
        LOGGING_CONFIG=None,
        MIDDLEWARE=[f"{middleware}.authenticated", f"{middleware}.acting_user"],
    )
    django.setup()


@part
def django_site(scene: Scene) -> Any:
    site = ModuleType("site_of_the_tests")
    sys.modules[site.__name__] = site
    django_settings(scene, site.__name__)
    from django.db import connection, connections, models  # type: ignore[import-untyped]
    from django.http import HttpResponse  # type: ignore[import-untyped]
    from django.test import Client, override_settings  # type: ignore[import-untyped]
    from django.urls import path  # type: ignore[import-untyped]

    class User(models.Model):  # type: ignore[misc]
        email = models.TextField()

        class Meta:
            app_label = "site"
            db_table = "users"
            managed = False

    class Person:
        is_authenticated = True

        def __init__(self, name: str) -> None:
            self.get_username = lambda: name

    def authenticated(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def middleware(request: Any) -> Any:
            request.user = Person(request.headers["X-User"])
            return get_response(request)

        return middleware

    def marking(who: str) -> Callable[..., Any]:
        return lambda execute, sql, *more: execute(marked(sql, who), *more)

    def view(request: Any, number: int) -> Any:
        with connection.execute_wrapper(marking(request.user.get_username())):
            email = User.objects.get(pk=number).email
            User.objects.filter(pk=number).update(email=email)
        if number % 6 == 0:
            raise ZeroDivisionError
        return HttpResponse(email)

    site.__dict__.update(authenticated=authenticated)
    found: dict[str, list[str]] = {}
    try:
        for alias in ("person", "bound"):
            with connections[alias].execute_wrapper(marking(f"dj_{alias}")):
                users = User.objects.using(alias).filter(pk__lte=30).order_by("pk")
                found[alias] = [one.email for one in users.iterator(chunk_size=10)]
                users.filter(pk=1).update(email=email_of(1))
        for form in ("transaction", "session"):
            site.__dict__.update(scene.recipe(f"django-{form}"))
            with override_settings(ROOT_URLCONF=(path("<int:number>", view),)):
                client = Client(raise_request_exception=False)
                said = [
                    client.get(f"/{i}", headers={"X-User": f"dj_{form}_{i % 4}"})
                    for i in range(1, 25)
                ]
            found[form] = [one.content.decode() for one in said if one.status_code == 200]
    finally:
        connections.close_all()
    return found


def test_django_orm_on_a_connection_of_one_person(run: Run) -> None:
    found = run.result("django_site")
    assert found["person"] == found["bound"] == [email_of(i) for i in range(1, 31)]
    run.assert_named({"dj_person": 2, "dj_bound": 2})


@pytest.mark.parametrize("form", ["transaction", "session"])
def test_django_requests_of_several_people_on_one_connection(run: Run, form: str) -> None:
    found = run.result("django_site")
    assert found[form] == [email_of(i) for i in range(1, 25) if i % 6]
    run.assert_named({f"dj_{form}_{i}": 12 for i in range(4)})


# -- psql and pgbench ---------------------------------------------------------------------------

PSQL_SCRIPT = r"""
\set VERBOSITY verbose
\timing off
SELECT id, email FROM users WHERE id <= 3 ORDER BY id /* truth:PERSON */;
\d users
\d+ active_customers
\dt
\df no_such_function
SELECT * FROM payroll
/* truth:PERSON */;
SELECT no_such_column FROM users;
SELEC 1;
SELECT 1/0;
BEGIN;
INSERT INTO products (name, price) VALUES ('psql', 1) /* truth:PERSON */;
SELECT 1/0;
SELECT 2;
ROLLBACK;
BEGIN;
\copy products (name, price) from stdin
psql-1	1
psql-2	2
\.
\copy products (name, price) from 'INPUT' with (format csv)
\copy (select name, price from products where name like 'psql-%' order by name) to 'OUTPUT'
COPY (SELECT name FROM products WHERE name LIKE 'psql-%' ORDER BY name) TO STDOUT /* truth:PERSON */;
\copy products (name, price) from stdin
bad	no number
\.
ROLLBACK;
SELECT 1 AS a\; SELECT 2 AS b /* truth:PERSON */\; SELECT 'x' AS c;
SELECT count(*) AS n FROM users /* truth:PERSON */ \gset
\echo :n
SELECT 'SELECT ' || i FROM generate_series(1, 3) AS i \gexec
\set FETCH_COUNT 7
SELECT id FROM users WHERE id <= 20 ORDER BY id /* truth:PERSON */;
\unset FETCH_COUNT
SHOW client_encoding;
BEGIN;
SET LOCAL search_path = pg_catalog;
SHOW search_path;
COMMIT;
DO $$ BEGIN RAISE NOTICE 'said'; END $$;
\encoding LATIN1
SELECT name FROM users WHERE id = 1 /* truth:PERSON */;
\encoding UTF8
\l app
"""


def psql(dsn: str, script: str) -> tuple[int, bytes, bytes]:
    """Exit code, stdout and stderr of psql with that script."""
    done = subprocess.run(
        [str(POSTGRES_BIN / "psql"), "-X", "-f", "-", dsn],
        input=script.encode(),
        capture_output=True,
        timeout=60,
        check=False,
        env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"},
    )
    return done.returncode, done.stdout, done.stderr


def play_psql(dsn: str, person: str, directory: Path) -> Any:
    """All that the script prints and writes."""
    given, written = directory / "products.csv", directory / "written.tsv"
    given.write_text("psql-3,3\npsql-4,4.5\n")
    script = PSQL_SCRIPT.replace("PERSON", person).replace("INPUT", str(given))
    said = psql(dsn, script.replace("OUTPUT", str(written)))
    return said, written.read_bytes()


@part
def psql_script(scene: Scene) -> Any:
    return scene.straight["psql"], play_psql(
        scene.dsn("psql_person"), "psql_person", scene.directory
    )


def test_psql_says_the_same_byte_for_byte(run: Run) -> None:
    straight, relayed = run.result("psql_script")
    assert relayed == straight
    (code, out, err), written = relayed
    assert code == 0
    assert written == b"psql-1\t1.00\npsql-2\t2.00\npsql-3\t3.00\npsql-4\t4.50\n"
    assert b"customer1@example.net" in out and b"active_customers" in out
    assert err.count(b"ERROR:  ") == 7


def test_psql_statements_are_named(run: Run) -> None:
    rows = run.rows_of("psql_person")
    assert {row["session_user_id"] for row in rows} == {"psql_person"}
    grades = {(row["attribution_grade"], row["attribution_reason"]) for row in rows}
    # After its DO block, until it is tagged again, a tag only confirms.
    assert grades <= {("proven", None), ("confirmed", "drifted-client")}
    assert {"SELECT", "INSERT", "COPY", "DECLARE CURSOR"} <= {str(row["command"]) for row in rows}


@part
def psql_by_environment(scene: Scene) -> Any:
    done = subprocess.run(
        [str(POSTGRES_BIN / "psql"), "-XAt", "-c", "SELECT 'by_environment' FROM products LIMIT 1"],
        env=psql_environment(scene.dsn(None)) | {"PGOPTIONS": r"-c scalple.user=Anna\ Müller"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


def psql_environment(dsn: str) -> dict[str, str]:
    """libpq's environment variables for a connection string."""
    known = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD"}
    said = conninfo_to_dict(dsn)
    found = {variable: str(said[key]) for key, variable in known.items()}
    return found | {"PGDATABASE": str(said["dbname"]), "LC_ALL": "C.UTF-8"}


def test_psql_by_the_environment_with_a_name_in_two_words(run: Run) -> None:
    assert run.result("psql_by_environment") == "by_environment\n"
    rows = [row for row in run.done.dicts() if "'by_environment'" in str(row["statement"])]
    assert [row["session_user_id"] for row in rows] == ["Anna Müller"]


PGBENCH = {
    "select": ["-S", "-M", "simple"],
    "select-extended": ["-S", "-M", "extended"],
    "default": ["-M", "simple"],
    "default-extended": ["-M", "extended"],
}
CLIENTS, TRANSACTIONS = 2, 25


def pgbench(dsn: str, *arguments: str) -> str:
    """What pgbench prints."""
    done = subprocess.run(
        [str(POSTGRES_BIN / "pgbench"), *arguments, dsn],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert not done.returncode, done.stderr
    return done.stdout


def fill_pgbench(stack: Stack) -> None:
    """pgbench's tables, the accounts fewer than usual."""
    pgbench(stack.dsn_superuser(), "-i", "-q", "-I", "dtgp")
    with psycopg.connect(stack.dsn_superuser(), autocommit=True) as connection:
        for table in ("accounts", "branches", "tellers", "history"):
            connection.execute(f"GRANT ALL ON pgbench_{table} TO {SHARED_ROLE}".encode())


def play_pgbench(dsn: str) -> dict[str, list[str]]:
    """How many transactions each script did."""
    counts = {}
    for name, arguments in PGBENCH.items():
        said = pgbench(dsn, "-n", "-c", str(CLIENTS), "-t", str(TRANSACTIONS), *arguments)
        counts[name] = re.findall(r"^number of .*$", said, re.MULTILINE)
    return counts


@part
def pgbench_scripts(scene: Scene) -> Any:
    return scene.straight["pgbench"], play_pgbench(scene.dsn("pgbench_person"))


def test_pgbench_does_the_same_number_of_transactions(run: Run) -> None:
    straight, relayed = run.result("pgbench_scripts")
    assert relayed == straight
    done = f"number of transactions actually processed: {CLIENTS * TRANSACTIONS}/{CLIENTS * TRANSACTIONS}"
    assert all(done in said for said in relayed.values())
    assert all("number of failed transactions: 0 (0.000%)" in said for said in relayed.values())


def test_pgbench_statements_are_all_named(run: Run) -> None:
    rows = [row for row in run.done.dicts() if row["session_user_id"] == "pgbench_person"]
    assert {row["attribution_grade"] for row in rows} == {"proven"}
    found = [str(row["statement"]) for row in rows]
    each = CLIENTS * TRANSACTIONS
    assert sum(one.startswith("SELECT abalance") for one in found) == 4 * each
    assert sum(one.startswith("UPDATE pgbench_") for one in found) == 2 * 3 * each
    assert sum(one.startswith("INSERT INTO pgbench_history") for one in found) == 2 * each


# -- all of it ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(PARTS))
def test_it_works(run: Run, name: str) -> None:
    run.result(name)


def test_nobody_is_named_wrongly(run: Run) -> None:
    assert run.done.wrong() == []
    assert run.done.rejects == []
    assert run.done.bad_payloads == 0


def test_who_went_round_the_sidecar_is_not_named(run: Run) -> None:
    assert run.rows_of("straight")
    assert {row["session_user_id"] for row in run.rows_of("straight")} == {None}


def test_every_python_recipe_is_executed(run: Run) -> None:
    assert run.recipes.used == set(recipes("python"))
    assert unmarked() == 0


def test_every_client_was_served_and_none_is_left(run: Run) -> None:
    metrics = dict(re.findall(r"^scalple_sidecar_(\w+) (\S+)$", run.metrics, re.MULTILINE))
    expected = {"connections": 0, "held_bytes": 0, "unrecorded_total": 0, "cancels_total": 2}
    assert {name: float(metrics[name]) for name in expected} == expected
    # A refusal has a label that says why, so that there is a line only if there was one.
    assert "scalple_sidecar_refused_total{" not in run.metrics
