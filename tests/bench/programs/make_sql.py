#!/usr/bin/env python3
"""Prints a script for a database in memory: the same one each time."""

ORDERS = 40000
CUSTOMERS = 4000

state = 2


def below(limit):
    """A number from 0 to limit - 1. Python's own generator may change one day."""
    global state
    state = (state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
    return (state >> 33) % limit


SYLLABLES = ("ka", "lo", "mi", "ren", "tus", "vo", "sel", "bar")
WORDS = ["".join(SYLLABLES[below(8)] for _ in range(1 + below(4))) for _ in range(2000)]


def text(words):
    return " ".join([WORDS[below(len(WORDS))] for _ in range(words)])


def main():
    print("create table customers (id integer primary key, name text, place text);")
    print("create table orders (id integer primary key, customer integer, amount integer,"
          " note text);")
    print("begin;")
    for i in range(CUSTOMERS):
        print("insert into customers values (%d, '%s', '%s');" % (i, text(2), text(1)))
    for i in range(ORDERS):
        print("insert into orders values (%d, %d, %d, '%s');"
              % (i, below(CUSTOMERS), below(100000), text(1 + below(30))))
    print("commit;")
    print("create index orders_by_customer on orders (customer);")
    print("create index orders_by_note on orders (note);")
    print("create index customers_by_name on customers (name, place);")
    # A statement of its own for each: what a program costs that asks much and often.
    for _ in range(6000):
        print("select count(*), sum(amount), max(upper(note)) from orders join customers"
              " on customers.id = customer where customer between %d and %d;"
              % ((first := below(CUSTOMERS)), first + below(8)))
    for _ in range(3000):
        print("update orders set note = note || ' %s', amount = amount + %d"
              " where customer = %d;" % (text(2), below(100), below(CUSTOMERS)))
    print("delete from orders where amount % 3 = 0;")
    print("select place, count(distinct customer), sum(amount), avg(length(note))"
          " from orders join customers on customers.id = customer"
          " group by place order by sum(amount), place limit 50;")
    print("select substr(note, 1, 6) as start, count(*), group_concat(amount)"
          " from orders group by start order by count(*) desc, start limit 40;")
    print("select length(group_concat(note)) from (select note from orders order by"
          " substr(note, 3));")


main()
