"""psycopg2: simple protocol, COPY, large objects (FunctionCall), named cursors, cancel."""
import io, threading, time
import psycopg2, psycopg2.errors

c = psycopg2.connect("")
k = c.cursor()
k.execute("select %s", ["it's"])
assert k.fetchone() == ("it's",)
k.execute("create temp table t (n int)")
k.copy_expert("copy t from stdin", io.StringIO("1\n2\n3\n"))
out = io.StringIO()
k.copy_expert("copy t to stdout", out)
assert out.getvalue() == "1\n2\n3\n"
large = c.lobject()
large.write(b"x" * 100_000)
large.seek(0)
assert len(large.read()) == 100_000
large.unlink()
named = c.cursor("named")
named.execute("select generate_series(1, 5000)")
assert len(named.fetchall()) == 5000
threading.Thread(target=lambda: (time.sleep(0.3), c.cancel())).start()
try:
    k.execute("select pg_sleep(60)")
    raise SystemExit("not cancelled")
except psycopg2.errors.QueryCanceled:
    c.rollback()
c.close()
