"""Django: its ORM and schema editor, transactions and savepoints, a server-side iterator, introspection."""
import os
import django
from django.conf import settings

settings.configure(
    DATABASES={"default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": os.environ["PGDATABASE"], "USER": os.environ["PGUSER"], "PASSWORD": os.environ["PGPASSWORD"],
        "HOST": os.environ["PGHOST"], "PORT": os.environ["PGPORT"],
    }},
    USE_TZ=True,
)
django.setup()
from django.db import DatabaseError, connection, models, transaction

class Note(models.Model):
    words = models.CharField(max_length=80)
    at = models.DateTimeField(auto_now_add=True)
    class Meta:
        app_label = "notes"
        db_table = "django_notes"

with connection.schema_editor() as editor:
    editor.create_model(Note)
try:
    Note.objects.bulk_create([Note(words=f"note {n}") for n in range(200)])
    assert Note.objects.filter(words__startswith="note 1").count() == 111
    assert sum(1 for _ in Note.objects.iterator(chunk_size=50)) == 200
    with transaction.atomic():
        Note.objects.filter(words="note 7").update(words="it's 7")
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("select 1/0")
            raise SystemExit("no error")
        except DatabaseError:
            pass
    assert Note.objects.get(words="it's 7").at is not None
    assert "customers" in connection.introspection.table_names()
    connection.close()
    assert Note.objects.count() == 200
finally:
    with connection.schema_editor() as editor:
        editor.delete_model(Note)
    connection.close()
