"""asyncpg: binary parameters, statement cache, Flush without Sync, cursors, COPY, timeouts that cancel."""
import asyncio, datetime, decimal, uuid
import asyncpg

async def main():
    c = await asyncpg.connect()
    values = (7, "ä", 1.5, decimal.Decimal("12.340"), uuid.UUID(int=5), datetime.date(2026, 2, 1), [1, 2], b"\0\xff", None, True)
    row = await c.fetchrow("select $1::int, $2::text, $3::float8, $4::numeric, $5::uuid, $6::date, $7::int[], $8::bytea, $9::text, $10::bool", *values)
    assert tuple(row) == values, row
    for n in range(20):
        assert await c.fetchval("select $1::int", n) == n
    async with c.transaction():
        assert len([row async for row in c.cursor("select generate_series(1, 1000)")]) == 1000
    await c.execute("create temp table t (n int, s text)")
    await c.copy_records_to_table("t", records=[(n, "x") for n in range(5000)])
    await c.executemany("insert into t values ($1, $2)", [(n, "y") for n in range(1000)])
    assert await c.fetchval("select count(*) from t") == 6000
    try:
        await c.fetch("select pg_sleep(60)", timeout=0.3)
        raise SystemExit("not cancelled")
    except asyncio.TimeoutError:
        pass
    try:
        await c.fetch("select 1/0")
        raise SystemExit("no error")
    except asyncpg.DivisionByZeroError:
        pass
    assert await c.fetchval("select 1") == 1
    await c.close()

asyncio.run(main())
