"""The one page of the project."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import path


def index(_: HttpRequest) -> HttpResponse:
    return HttpResponse("the shop")


urlpatterns = [path("", index)]
