from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("library", "0003_alter_field")]
    operations = [
        migrations.RenameField("Book", "title", "name"),
    ]
