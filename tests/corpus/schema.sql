-- What the corpus is about: an invented shop, with every kind of relation that statements name.

CREATE SCHEMA crm;

CREATE TABLE public.users (
    id bigint PRIMARY KEY,
    email text NOT NULL UNIQUE,
    name text,
    iban text,
    region text,
    tier text,
    born date,
    created_at timestamp with time zone DEFAULT now()
);
CREATE TABLE public.orders (
    id bigint PRIMARY KEY,
    user_id bigint REFERENCES public.users (id),
    total numeric(10, 2),
    note text,
    placed_at timestamp with time zone
);
CREATE TABLE public.order_items (
    order_id bigint,
    line integer,
    sku text,
    quantity integer,
    PRIMARY KEY (order_id, line)
);
CREATE TABLE public.payments (
    id uuid PRIMARY KEY,
    user_id bigint,
    card text,
    amount numeric,
    paid_at timestamp with time zone
);
CREATE TABLE public.events (
    id bigint,
    user_id bigint,
    kind text,
    payload jsonb,
    at timestamp with time zone NOT NULL
) PARTITION BY RANGE (at);
CREATE TABLE public.events_2026 PARTITION OF public.events
    FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE public.products (sku text PRIMARY KEY, title text, price numeric);
CREATE TABLE public."Customer Notes" ("Id" bigint PRIMARY KEY, "UserId" bigint, "Body" text);
CREATE TABLE crm.contacts (id uuid PRIMARY KEY, email text, phone text, account_id bigint);
CREATE TABLE crm.accounts (
    tenant_id integer,
    account_no integer,
    owner_email text,
    PRIMARY KEY (tenant_id, account_no)
);

CREATE VIEW public.eu_users AS
    SELECT users.id, users.email, users.name FROM public.users WHERE users.region = 'EU';
CREATE VIEW public.eu_orders AS
    SELECT o.id AS order_id, e.id AS user_id, e.email, o.total
    FROM public.eu_users e JOIN public.orders o ON o.user_id = e.id;
CREATE VIEW public.user_totals AS
    SELECT orders.user_id, sum(orders.total) AS total FROM public.orders GROUP BY orders.user_id;

CREATE FUNCTION public.get_order_by_id(customer bigint) RETURNS SETOF public.orders
    LANGUAGE sql AS $$ SELECT * FROM public.orders WHERE user_id = customer $$;
CREATE FUNCTION crm.find_contact(contact uuid, verbose boolean DEFAULT false)
    RETURNS crm.contacts LANGUAGE sql AS $$ SELECT * FROM crm.contacts WHERE id = contact $$;
CREATE PROCEDURE public.forget(reason text, customer bigint)
    LANGUAGE sql AS $$ DELETE FROM public.users WHERE id = customer $$;
