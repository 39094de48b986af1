"""The gallery's tables."""

from __future__ import annotations

from django.db import models


class Member(models.Model):
    """A person who signed up."""

    email: models.EmailField[str, str] = models.EmailField(unique=True)
    was_welcomed: models.BooleanField[bool, bool] = models.BooleanField(default=False)


class Picture(models.Model):
    """An uploaded picture."""

    original: models.BinaryField[bytes, bytes] = models.BinaryField()
    thumbnail: models.BinaryField[bytes, bytes] = models.BinaryField(default=b"")


class Print(models.Model):
    """An order at the printer's API, and the second in which it was placed."""

    picture: models.OneToOneField[Picture, Picture] = models.OneToOneField(
        Picture, on_delete=models.CASCADE
    )
    second: models.BigIntegerField[int, int] = models.BigIntegerField()
