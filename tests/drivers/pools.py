"""The pool of one Python driver, named by the first argument, as its documentation sets it up: three connections for sixteen workers that
read, fail, roll back and read again. With `write` as second argument they write, too; with `read` a write is refused and the
connection goes back to the pool whole."""
import asyncio, os, sys
from concurrent.futures import ThreadPoolExecutor

kind, writes = sys.argv[1], sys.argv[2] == "write"
WORKERS, ROUNDS = 16, 5
CHANGE = "UPDATE orders SET total = total + 1 WHERE id = 1"

def check(number, expected):
    assert number == expected, (number, expected)

def by_dbapi(borrow, error):
    """Works with any DB-API connection that `borrow` lends for a while."""
    def work(worker):
        for n in range(ROUNDS):
            with borrow() as c:
                cursor = c.cursor()
                cursor.execute("SELECT %s::int + 1", (worker,))
                check(cursor.fetchone()[0], worker + 1)
                cursor.execute("SELECT id FROM orders ORDER BY id FOR SHARE" if writes else "SELECT id FROM orders ORDER BY id")
                check(cursor.fetchall()[0][0], 1)
                c.commit()
                for refused in ("SELECT 1/0", "SELECT * FROM cards WHERE pan = 7" if n else "SELECT nothing"):
                    try:
                        cursor.execute(refused)
                        raise SystemExit("no error")
                    except error:
                        c.rollback()
                if writes:
                    cursor.execute(CHANGE)
                    check(cursor.rowcount, 1)
                    c.rollback()
                    cursor.execute("INSERT INTO orders VALUES (%s, 1)", (1000 + worker * ROUNDS + n,))
                    cursor.execute("DELETE FROM orders WHERE id = %s", (1000 + worker * ROUNDS + n,))
                else:
                    try:
                        cursor.execute(CHANGE)
                        raise SystemExit("it could write")
                    except error as refusal:
                        assert "guard rails" in str(refusal), refusal
                        c.rollback()
                c.commit()
    with ThreadPoolExecutor(WORKERS) as workers:
        list(workers.map(work, range(WORKERS)))

def psycopg():
    import psycopg
    from psycopg_pool import ConnectionPool
    with ConnectionPool("", min_size=3, max_size=3, check=ConnectionPool.check_connection) as pool:
        by_dbapi(pool.connection, psycopg.Error)
        # A cursor with a name is a portal, in any transaction.
        with pool.connection() as c, c.cursor("named") as cursor:
            cursor.execute("SELECT generate_series(1, 1000)")
            check(sum(1 for _ in cursor), 1000)

def psycopg2():
    import contextlib, threading
    import psycopg2
    from psycopg2.pool import ThreadedConnectionPool
    pool, free = ThreadedConnectionPool(3, 3, ""), threading.Semaphore(3)
    @contextlib.contextmanager
    def borrow():
        with free:
            c = pool.getconn()
            try:
                yield c
            finally:
                pool.putconn(c)
    by_dbapi(borrow, psycopg2.Error)
    pool.closeall()

def asyncpg():
    import asyncpg
    async def work(pool, worker):
        for n in range(ROUNDS):
            async with pool.acquire() as c:
                check(await c.fetchval("SELECT $1::int + 1", worker), worker + 1)
                async with c.transaction(readonly=not writes):
                    check(len([row async for row in c.cursor("SELECT generate_series(1, 300)")]), 300)
                try:
                    await c.execute("SELECT 1/0")
                    raise SystemExit("no error")
                except asyncpg.DivisionByZeroError:
                    pass
                if writes:
                    check(await c.execute(CHANGE), "UPDATE 1")
                else:
                    try:
                        await c.execute(CHANGE)
                        raise SystemExit("it could write")
                    except asyncpg.InsufficientPrivilegeError as refusal:
                        assert "guard rails" in str(refusal), refusal
    async def main():
        async with asyncpg.create_pool(min_size=3, max_size=3) as pool:
            await asyncio.gather(*(work(pool, worker) for worker in range(WORKERS)))
    asyncio.run(main())

def sqlalchemy():
    import sqlalchemy
    engine = sqlalchemy.create_engine("postgresql+psycopg2://", pool_size=3, max_overflow=0, pool_pre_ping=True, pool_recycle=3600)
    def borrow():
        import contextlib
        return contextlib.closing(engine.raw_connection())
    by_dbapi(borrow, sqlalchemy.dialects.postgresql.psycopg2.dialect.import_dbapi().Error)
    with engine.connect().execution_options(isolation_level="REPEATABLE READ", stream_results=True) as c:
        check(sum(1 for _ in c.execute(sqlalchemy.text("SELECT generate_series(1, 1000)"))), 1000)
    engine.dispose()

def django():
    import django
    from django.conf import settings
    settings.configure(USE_TZ=True, DATABASES={"default": {
        "ENGINE": "django.db.backends.postgresql", "OPTIONS": {"pool": {"min_size": 3, "max_size": 3}},
        "NAME": os.environ["PGDATABASE"], "USER": os.environ["PGUSER"], "PASSWORD": os.environ["PGPASSWORD"],
        "HOST": os.environ["PGHOST"], "PORT": os.environ["PGPORT"],
    }})
    django.setup()
    import contextlib
    from django.db import DatabaseError, connection, transaction
    @contextlib.contextmanager
    def borrow():
        transaction.set_autocommit(False)
        try:
            yield connection
        finally:
            connection.close()
    by_dbapi(borrow, DatabaseError)
    connection.close_pool()

globals()[kind]()
