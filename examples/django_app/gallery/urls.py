"""The URLs of the pages."""

from __future__ import annotations

from django.urls import path

from . import views

urlpatterns = [
    path("sign-up", views.sign_up),
    path("pictures", views.add_picture),
    path("pictures/<int:picture_id>", views.show_thumbnail),
    path("pictures/<int:picture_id>/print", views.order),
]
