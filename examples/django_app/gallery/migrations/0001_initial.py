"""The first tables."""

from __future__ import annotations

from typing import ClassVar

from django.db import migrations, models
from django.db.migrations.operations.base import Operation


def number() -> models.BigAutoField[int, int]:
    return models.BigAutoField(primary_key=True, serialize=False, verbose_name="ID")


class Migration(migrations.Migration):
    """Creates the tables."""

    initial = True
    dependencies: ClassVar[list[tuple[str, str]]] = []
    operations: ClassVar[list[Operation]] = [
        migrations.CreateModel(
            "Member",
            fields=[
                ("id", number()),
                ("email", models.EmailField(max_length=254, unique=True)),
                ("was_welcomed", models.BooleanField(default=False)),
            ],
        ),
        migrations.CreateModel(
            "Picture",
            fields=[
                ("id", number()),
                ("original", models.BinaryField()),
                ("thumbnail", models.BinaryField(default=b"")),
            ],
        ),
        migrations.CreateModel(
            "Print",
            fields=[
                ("id", number()),
                ("second", models.BigIntegerField()),
                ("picture", models.OneToOneField("gallery.picture", models.CASCADE)),
            ],
        ),
    ]
