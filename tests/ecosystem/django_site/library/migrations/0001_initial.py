from django.db import migrations, models


class Migration(migrations.Migration):
    operations = [
        migrations.CreateModel("Shelf", [
            ("id", models.BigAutoField(primary_key=True)),
            ("name", models.CharField(max_length=20)),
        ]),
        migrations.CreateModel("Book", [
            ("id", models.BigAutoField(primary_key=True)),
            ("title", models.CharField(max_length=200, null=True)),
            ("shelf", models.ForeignKey("Shelf", models.CASCADE, null=True)),
            ("embedding", models.BinaryField(null=True)),
        ]),
    ]
