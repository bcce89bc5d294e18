from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("library", "0004_rename_field")]
    operations = [
        migrations.AlterUniqueTogether("Book", {("name", "pages", "id")}),
        migrations.AddIndex("Book", models.Index(fields=["pages"], name="by_pages")),
        migrations.AddConstraint("Book", models.CheckConstraint(
            condition=models.Q(pages__gte=0), name="pages_not_negative")),
    ]
