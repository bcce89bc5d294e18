from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("library", "0005_constraints")]
    operations = [
        migrations.RemoveField("Book", "note"),
    ]
