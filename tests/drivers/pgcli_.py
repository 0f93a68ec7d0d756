"""pgcli: what it asks the server for to complete names, and a statement as it runs one."""
import os
from pgcli.pgexecute import PGExecute

execute = PGExecute(*(os.environ[name] for name in ("PGDATABASE", "PGUSER", "PGPASSWORD", "PGHOST", "PGPORT")))
assert ("public", "customers") in list(execute.tables())
assert any(column[2] == "name" for column in execute.table_columns())
for asked in (execute.schemata, execute.search_path, execute.views, execute.foreignkeys, execute.functions, execute.datatypes, execute.databases):
    list(asked())
for _, rows, headers, status, sql, succeeded, _ in execute.run("select 40 + 2 as n"):
    assert succeeded and list(rows) == [(42,)], (status, sql)
