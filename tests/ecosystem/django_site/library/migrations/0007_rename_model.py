from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("library", "0006_remove_field")]
    operations = [
        migrations.RenameModel("Book", "Volume"),
    ]
