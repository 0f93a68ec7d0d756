"""psycopg 3: prepared statements, pipelines, COPY, notifications, cancel, errors, binary parameters."""
import threading, time
import psycopg

with psycopg.connect("", autocommit=True) as c:
    assert c.execute("select %s::int + 1", [41], binary=True).fetchone() == (42,)
    for n in range(12):
        assert c.execute("select %s::int", [n], prepare=True).fetchone() == (n,)
    c.execute("create temp table t (n int, s text)")
    with c.cursor().copy("copy t from stdin") as copy:
        for n in range(1000):
            copy.write_row((n, "x"))
    with c.cursor().copy("copy t to stdout") as copy:
        assert len(list(copy.rows())) == 1000
    try:
        with c.cursor().copy("copy t from stdin") as copy:
            copy.write("not a number\tx\n")
        raise SystemExit("a bad COPY went through")
    except psycopg.DataError:
        pass
    assert c.execute("select 1").fetchone() == (1,)
    with c.pipeline():
        cursors = [c.execute("select %s::int", [n]) for n in range(500)]
    assert [cursor.fetchone()[0] for cursor in cursors] == list(range(500))
    try:
        with c.pipeline():
            c.execute("select 1")
            c.execute("select 1/0")
            c.execute("select 2")
        raise SystemExit("an error in a pipeline was lost")
    except psycopg.errors.DivisionByZero:
        pass
    c.cursor().executemany("insert into t values (%s, %s)", [(n, "y") for n in range(100)])
    cursor = psycopg.ServerCursor(c, "big")
    with c.transaction():
        cursor.execute("select generate_series(1, 1000)")
        assert len(cursor.fetchmany(10)) == 10 and len(cursor.fetchall()) == 990
        cursor.close()
    c.execute("listen tide")
    c.execute("notify tide, 'high'")
    assert next(c.notifies(timeout=5)).payload == "high"
    threading.Thread(target=lambda: (time.sleep(0.3), c.cancel_safe())).start()
    try:
        c.execute("select pg_sleep(60)")
        raise SystemExit("not cancelled")
    except psycopg.errors.QueryCanceled:
        pass
    assert c.info.backend_pid == c.execute("select pg_backend_pid()").fetchone()[0]
