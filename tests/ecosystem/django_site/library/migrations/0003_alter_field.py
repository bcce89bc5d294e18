from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("library", "0002_add_field")]
    operations = [
        migrations.AlterField("Book", "title", models.TextField(default="")),
    ]
