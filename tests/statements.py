"""What the invented company's people, services and jobs do all day: units of statements.

Enters: a random generator (so: a seed) and the customers that exist.
Leaves: units, each a list of steps that must run on one connection in this order, with the data
subjects that each step names. Does not: talk to a server.

A step's text holds %s for each bind value (psycopg's way); the text that reaches the server has $1,
$2, ... instead. Without bind values psycopg uses the simple protocol.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Value = int | str | list[int]

USERS_ID = ("customer_id", "public.users.id")
ORDERS_USER = ("customer_id", "public.orders.user_id")
USERS_EMAIL = ("email", "public.users.email")

# Customers that many people look at: a complaint, a famous name, a test account.
HOT_CUSTOMERS = (4711, 1337, 2024)

# The statement of the project's brief.
EU_CUSTOMERS = "SELECT id, email, subscription_tier FROM users WHERE region = 'EU'"


@dataclass(frozen=True)
class Subject:
    """A person that a statement names directly."""

    identifier: str
    column: str
    value: str
    basis: str


@dataclass(frozen=True)
class Step:
    """One message to the server. `marked` False: the text goes out without its author's mark."""

    sql: str
    params: tuple[Value, ...] = ()
    subjects: tuple[Subject, ...] = ()
    copy_in: bytes | None = None
    copy_out: bool = False
    marked: bool = True


Unit = list[Step]


@dataclass(frozen=True)
class Customer:
    """A row of public.users, as far as statements name it."""

    id: int
    email: str
    name: str


@dataclass
class Desk:
    """What a unit is made from. `label` makes names of new rows and of prepared plans unique."""

    random: random.Random
    customers: Sequence[Customer]
    label: str
    made: int = 0

    def customer(self) -> Customer:
        """A customer; one of the much looked at every tenth time or so."""
        if self.random.random() < 0.1:
            wanted = self.random.choice(HOT_CUSTOMERS)
            if wanted <= len(self.customers):
                return self.customers[wanted - 1]
        return self.random.choice(self.customers)

    def serial(self) -> str:
        """A name that no other desk and no earlier call gives."""
        self.made += 1
        return f"{self.label}_{self.made}"


def named(basis: str, identifier: tuple[str, str], *values: int | str) -> tuple[Subject, ...]:
    """The subjects of a step that names `values` of one identifier."""
    return tuple(Subject(*identifier, str(value), basis) for value in values)


def in_transaction(*steps: Step, end: str = "COMMIT") -> Unit:
    """The steps between BEGIN and `end`."""
    return [Step("BEGIN"), *steps, Step(end)]


def customer_by_id(desk: Desk) -> Unit:
    who = desk.customer().id
    return [
        Step(
            "SELECT id, email, name, region FROM users WHERE id = %s",
            (who,),
            named("parameter", USERS_ID, who),
        )
    ]


def customer_by_literal_id(desk: Desk) -> Unit:
    who = desk.customer().id
    return [
        Step(
            f"SELECT name, subscription_tier FROM public.users WHERE id = {who}",
            (),
            named("literal", USERS_ID, who),
        )
    ]


def customer_by_email(desk: Desk) -> Unit:
    who = desk.customer().email
    return [
        Step(
            "SELECT id, name, iban FROM users WHERE email = %s",
            (who,),
            named("parameter", USERS_EMAIL, who),
        )
    ]


def customer_by_literal_email(desk: Desk) -> Unit:
    who = desk.customer().email
    return [
        Step(
            f"SELECT id, created_at\n  FROM users\n WHERE email = '{who}'",
            (),
            named("literal", USERS_EMAIL, who),
        )
    ]


def several_customers(desk: Desk) -> Unit:
    who = sorted({desk.customer().id for _ in range(desk.random.randint(2, 5))})
    listed = ", ".join(map(str, who))
    return [
        Step(
            f"SELECT u.id, u.email FROM users u WHERE u.id IN ({listed})",
            (),
            named("literal", USERS_ID, *who),
        )
    ]


def any_of_customers(desk: Desk) -> Unit:
    who = sorted({desk.customer().id for _ in range(desk.random.randint(2, 4))})
    return [
        Step(
            "SELECT id, region FROM users WHERE id = ANY(%s)",
            (who,),
            named("parameter", USERS_ID, *who),
        )
    ]


def orders_of_customer(desk: Desk) -> Unit:
    who = desk.customer().id
    return [
        Step(
            "SELECT id, product, amount FROM orders WHERE user_id = %s ORDER BY created_at DESC",
            (who,),
            named("parameter", ORDERS_USER, who),
        )
    ]


def customer_with_orders(desk: Desk) -> Unit:
    who = desk.customer().id
    text = (
        "WITH c AS (SELECT id, email FROM users WHERE id = %s)\n"
        "SELECT c.email, o.product, o.amount\n"
        "  FROM c\n"
        "  JOIN orders o ON o.user_id = c.id"
    )
    return [Step(text, (who,), named("parameter", USERS_ID, who))]


def star_of_customer(desk: Desk) -> Unit:
    who = desk.customer().id
    return [Step(f'SELECT * FROM "users" WHERE "id"={who};', (), named("literal", USERS_ID, who))]


def range_of_customers(desk: Desk) -> Unit:
    start = desk.random.randrange(1, len(desk.customers))
    return [
        Step("SELECT id, email FROM users WHERE id > %s AND id <= %s", (start, start + 25)),
        Step(f"SELECT id, iban FROM users WHERE id BETWEEN {start} AND {start + 5}"),
    ]


def orders_since(desk: Desk) -> Unit:
    day = f"2023-0{desk.random.randint(1, 9)}-01"
    return [
        Step("SELECT count(*), sum(amount) FROM orders WHERE created_at >= %s", (day,)),
        Step(f"SELECT product, count(*) FROM orders WHERE created_at < '{day}' GROUP BY product"),
    ]


def full_scan(desk: Desk) -> Unit:
    return [
        desk.random.choice(
            [
                Step("SELECT count(*) FROM users"),
                Step("SELECT region, count(*) FROM users GROUP BY region"),
                Step("SELECT id, email FROM users ORDER BY created_at DESC LIMIT 20"),
                Step("SELECT name, price FROM products"),
                Step("SELECT id, orders FROM active_customers ORDER BY orders DESC LIMIT 5"),
            ]
        )
    ]


def by_name(desk: Desk) -> Unit:
    name = desk.customer().name
    quoted = name.replace("'", "''")
    return [
        Step("SELECT id FROM users WHERE name = %s LIMIT 3", (name,)),
        Step(f"SELECT id FROM users WHERE name = '{quoted}' AND region <> '日本 🦊' LIMIT 1"),
    ]


def new_order(desk: Desk) -> Unit:
    who = desk.customer().id
    amount = desk.random.randint(5, 500)
    return in_transaction(
        Step(
            "SELECT id, subscription_tier FROM users WHERE id = %s",
            (who,),
            named("parameter", USERS_ID, who),
        ),
        Step(
            "INSERT INTO orders (user_id, product, amount) VALUES (%s, %s, %s)",
            (who, desk.random.choice(["Notebook", "Headset", "Kaffeemühle"]), amount),
            named("parameter", ORDERS_USER, who),
        ),
    )


def change_tier(desk: Desk) -> Unit:
    who = desk.customer().id
    tier = desk.random.choice(["basic", "pro", "enterprise"])
    return in_transaction(
        Step(
            f"UPDATE users SET subscription_tier = '{tier}' WHERE id = {who}",
            (),
            named("literal", USERS_ID, who),
        ),
    )


def changed_mind(desk: Desk) -> Unit:
    who = desk.customer().id
    return in_transaction(
        Step("SAVEPOINT before_delete"),
        Step("DELETE FROM orders WHERE user_id = %s", (who,), named("parameter", ORDERS_USER, who)),
        Step("ROLLBACK TO SAVEPOINT before_delete"),
        end="ROLLBACK",
    )


def registration(desk: Desk) -> Unit:
    email = f"new.{desk.serial()}@example.com"
    return [
        Step(
            "INSERT INTO users (email, name, region, iban) VALUES (%s, %s, %s, %s)",
            (email, "Žofia Kováčová", "APAC", "DE89370400440532013000"),
            named("parameter", USERS_EMAIL, email),
        )
    ]


def taken_email(desk: Desk) -> Unit:
    email = desk.customer().email
    return in_transaction(
        Step(
            f"INSERT INTO users (email, name, region) VALUES ('{email}', 'Twice', 'US')",
            (),
            named("literal", USERS_EMAIL, email),
        ),
        end="ROLLBACK",
    )


def refused(desk: Desk) -> Unit:
    who = desk.customer().id
    return [
        Step("SELECT employee_id, salary FROM payroll"),
        Step("SELEC id FROM users WHERE id = 1"),
        Step("SELECT id, phone FROM users WHERE id = %s", (who,), ()),
        Step(
            "SELECT 1 / (id - id) FROM users WHERE id = %s",
            (who,),
            named("parameter", USERS_ID, who),
        ),
    ]


def export(desk: Desk) -> Unit:
    return [
        desk.random.choice(
            [
                Step(
                    "COPY (SELECT id, email FROM public.users WHERE region = 'EU' ORDER BY id"
                    " LIMIT 50) TO STDOUT WITH (FORMAT csv, HEADER)",
                    copy_out=True,
                ),
                Step("COPY public.products TO STDOUT", copy_out=True),
            ]
        )
    ]


def load(desk: Desk) -> Unit:
    rows = "".join(f"{desk.customer().id}\tNotebook\t{n}.50\n" for n in range(1, 4))
    text = "COPY public.orders (user_id, product, amount) FROM STDIN"
    return [Step(text, copy_in=rows.encode())]


def cursor(desk: Desk) -> Unit:
    start = desk.random.randrange(1, len(desk.customers))
    return in_transaction(
        Step(f"DECLARE page CURSOR FOR SELECT id, email FROM users WHERE id >= {start}"),
        Step("FETCH 10 FROM page"),
        Step("FETCH FORWARD 5 FROM page"),
        Step("CLOSE page"),
    )


def do_block(desk: Desk) -> Unit:
    who = desk.customer().id
    text = (
        "DO $body$\nBEGIN\n"
        f"    PERFORM count(*) /* truth:{{author}} */ FROM orders WHERE user_id = {who};\n"
        "END\n$body$"
    )
    return [Step(text, (), named("literal", ORDERS_USER, who))]


def prepared(desk: Desk) -> Unit:
    plan = f"plan_{desk.serial()}"
    who = desk.customer().id
    return in_transaction(
        Step(f"PREPARE {plan} (int) AS SELECT email FROM users WHERE id = $1"),
        Step(f"EXECUTE {plan} ({who})", (), named("literal", USERS_ID, who)),
        Step(f"DEALLOCATE {plan}"),
    )


def several_in_one(desk: Desk) -> Unit:
    first, second = desk.customer().id, desk.customer().id
    return [
        Step(
            f"SELECT email FROM users WHERE id = {first};"
            f" SELECT product FROM orders WHERE user_id = {second}",
            (),
            named("literal", USERS_ID, first) + named("literal", ORDERS_USER, second),
        )
    ]


def temporary_table(desk: Desk) -> Unit:
    return in_transaction(
        Step(
            "CREATE TEMPORARY TABLE wave ON COMMIT DROP AS"
            " SELECT id FROM public.users WHERE region = 'LATAM' LIMIT 10"
        ),
        Step("SELECT count(*) FROM wave"),
    )


def explained(desk: Desk) -> Unit:
    who = desk.customer().email
    return [
        Step(
            f"EXPLAIN SELECT id FROM users WHERE email = '{who}'",
            (),
            named("literal", USERS_EMAIL, who),
        )
    ]


def locked(desk: Desk) -> Unit:
    who = desk.customer().id
    return in_transaction(
        Step(
            "SELECT id FROM users WHERE id = %s FOR SHARE",
            (who,),
            named("parameter", USERS_ID, who),
        ),
        Step("SHOW transaction_isolation"),
    )


Recipe = Callable[[Desk], Unit]

PEOPLE: Sequence[tuple[Recipe, int]] = (
    (customer_by_id, 14),
    (customer_by_literal_id, 10),
    (customer_by_email, 8),
    (customer_by_literal_email, 6),
    (several_customers, 5),
    (any_of_customers, 3),
    (orders_of_customer, 10),
    (customer_with_orders, 5),
    (star_of_customer, 4),
    (range_of_customers, 3),
    (orders_since, 2),
    (full_scan, 4),
    (by_name, 3),
    (new_order, 5),
    (change_tier, 4),
    (changed_mind, 2),
    (registration, 2),
    (taken_email, 2),
    (refused, 1),
    (export, 1),
    (load, 1),
    (cursor, 2),
    (do_block, 2),
    (prepared, 2),
    (several_in_one, 2),
    (temporary_table, 1),
    (explained, 1),
    (locked, 2),
)

SERVICE: Sequence[tuple[Recipe, int]] = (
    (customer_by_id, 10),
    (orders_of_customer, 10),
    (new_order, 6),
    (load, 1),
    (locked, 2),
)

JOB: Sequence[tuple[Recipe, int]] = ((full_scan, 3), (orders_since, 3), (customer_by_email, 1))


def units(desk: Desk, recipes: Sequence[tuple[Recipe, int]], statements: int) -> list[Unit]:
    """Units of at least `statements` steps together, drawn by the recipes' weights."""
    made: list[Unit] = []
    count = 0
    while count < statements:
        (recipe,) = desk.random.choices([r for r, _ in recipes], [w for _, w in recipes])
        made.append(recipe(desk))
        count += len(made[-1])
    return made


def announced(desk: Desk, unit: Unit) -> Unit:
    """The unit in a transaction that first says who is asking, as some applications do."""
    # Both "user" and "current_user" are reserved words: SET takes them in double quotes only.
    say = desk.random.choice(
        [
            Step("SET LOCAL app.\"current_user\" = '{author}'"),
            Step("SELECT set_config('app.current_user', '{author}', true)"),
            Step("SELECT set_config(%s, %s, true)", ("app.user", "{author}")),
        ]
    )
    return in_transaction(say, *unit)
