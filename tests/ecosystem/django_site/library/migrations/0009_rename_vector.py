from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("library", "0008_rename_shelf")]
    operations = [
        migrations.RenameField("Volume", "embedding", "vector"),
    ]
