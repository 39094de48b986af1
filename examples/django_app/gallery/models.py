"""What the gallery remembers."""

from __future__ import annotations

from django.db import models


class Member(models.Model):
    """Who signed up."""

    email: models.EmailField[str, str] = models.EmailField(unique=True)
    was_welcomed: models.BooleanField[bool, bool] = models.BooleanField(default=False)


class Picture(models.Model):
    """A picture that was sent in."""

    original: models.BinaryField[bytes, bytes] = models.BinaryField()
    thumbnail: models.BinaryField[bytes, bytes] = models.BinaryField(default=b"")


class Print(models.Model):
    """A print that the printer's API was asked for, and in which second."""

    picture: models.OneToOneField[Picture, Picture] = models.OneToOneField(
        Picture, on_delete=models.CASCADE
    )
    second: models.BigIntegerField[int, int] = models.BigIntegerField()
