"""One login with the driver named, as the environment says; it may have to wait for an approval. Prints what it reads."""
import os, sys

sql = "SELECT 'in'"

async def by_asyncpg():
    import asyncpg
    # It reads no PGOPTIONS.
    c = await asyncpg.connect(server_settings={"options": os.environ["PGOPTIONS"]})
    print(await c.fetchval(sql))
    await c.close()

if sys.argv[1] == "asyncpg":
    import asyncio
    asyncio.run(by_asyncpg())
else:
    driver = __import__(sys.argv[1])
    c = driver.connect("")
    cursor = c.cursor()
    cursor.execute(sql)
    print(cursor.fetchone()[0])
    c.close()
