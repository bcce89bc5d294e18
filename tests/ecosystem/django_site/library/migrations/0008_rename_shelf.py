from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("library", "0007_rename_model")]
    operations = [
        migrations.RenameModel("Shelf", "Place"),
    ]
