"""SQLAlchemy over psycopg: reflection, the ORM, a pool that resets its connections, server-side cursors, savepoints, executemany."""
import os
from sqlalchemy import Integer, MetaData, String, create_engine, func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Session, mapped_column

url = "postgresql+psycopg://{PGUSER}:{PGPASSWORD}@{PGHOST}:{PGPORT}/{PGDATABASE}".format(**os.environ)
engine = create_engine(url, pool_size=3, max_overflow=0, pool_pre_ping=True)
class Base(DeclarativeBase): pass
class Note(Base):
    __tablename__ = "sqlalchemy_notes"
    id = mapped_column(Integer, primary_key=True)
    words = mapped_column(String(80))

reflected = MetaData()
reflected.reflect(engine, only=["customers"])
assert "name" in reflected.tables["customers"].c
Base.metadata.drop_all(engine)
Base.metadata.create_all(engine)
try:
    with Session(engine) as session:
        session.add_all([Note(words=f"note {n}") for n in range(200)])
        session.flush()
        try:
            with session.begin_nested():
                session.execute(text("select 1/0"))
            raise SystemExit("no error")
        except DBAPIError:
            pass
        session.commit()
    with Session(engine) as session:
        assert session.scalar(select(func.count()).select_from(Note)) == 200
        assert session.scalars(select(Note).where(Note.words == "note 7")).one().words == "note 7"
    with engine.connect() as connection:
        rows = connection.execution_options(yield_per=50).execute(select(reflected.tables["customers"]))
        assert sum(1 for _ in rows) == 1000
    connections = [engine.connect() for _ in range(3)]
    for connection in connections:
        assert connection.scalar(text("select 1")) == 1
        connection.close()
finally:
    Base.metadata.drop_all(engine)
    engine.dispose()
