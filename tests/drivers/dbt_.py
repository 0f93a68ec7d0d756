"""dbt: a model that is built, tested and documented under its own rendered names (database, schema, table)."""
import os, pathlib, subprocess, sys, tempfile

with tempfile.TemporaryDirectory() as folder:
    project = pathlib.Path(folder)
    (project / "models").mkdir()
    (project / "dbt_project.yml").write_text("name: shop\nversion: '1.0'\nprofile: shop\nflags: {send_anonymous_usage_stats: false}\n")
    (project / "profiles.yml").write_text(f"""shop:
  target: qa
  outputs:
    qa: {{type: postgres, host: {os.environ['PGHOST']}, port: {os.environ['PGPORT']}, user: "{os.environ['PGUSER']}",
      password: "{os.environ['PGPASSWORD']}", dbname: {os.environ['PGDATABASE']}, schema: dbt_notes, threads: 2}}
""")
    (project / "models" / "sources.yml").write_text("""sources: [{name: public, database: shop, tables: [{name: customers}]}]
models: [{name: counted, columns: [{name: n, data_tests: [not_null]}]}]
""")
    (project / "models" / "counted.sql").write_text(
        "{{ config(materialized='table') }} select count(*) as n from {{ source('public', 'customers') }}\n")
    command = [str(pathlib.Path(sys.executable).parent / "dbt"), "--no-use-colors"]
    where = ["--project-dir", folder, "--profiles-dir", folder]
    for step in (["build"], ["docs", "generate"], ["show", "--inline", "select n from {{ ref('counted') }}"]):
        said = subprocess.run(command + step + where, capture_output=True, text=True, cwd=folder)
        assert said.returncode == 0, said.stdout + said.stderr
    assert "1000" in said.stdout, said.stdout
import psycopg2
connection = psycopg2.connect("")
connection.autocommit = True
connection.cursor().execute("drop schema dbt_notes cascade")
connection.close()
