"""The models as migration 0006 leaves them. Migrations before and after it have their own."""

from django.db import models


class Shelf(models.Model):
    name = models.CharField(max_length=20)


class Book(models.Model):
    name = models.TextField(default="")
    pages = models.IntegerField(default=100)
    shelf = models.ForeignKey(Shelf, models.CASCADE, null=True)
    embedding = models.BinaryField(null=True)

    class Meta:
        unique_together = [("name", "pages", "id")]
        indexes = [models.Index(fields=["pages"], name="by_pages")]
