"""The pages of the website. Slow work is pushed, so no page waits for it."""

from __future__ import annotations

from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from poussetaches.django import push_on_commit

from .models import Member, Picture
from .tasks import make_thumbnail, order_print, send_welcome

# No CSRF tokens, because these views are for curl; forms for browsers need them.


@csrf_exempt
@require_POST
def sign_up(request: HttpRequest) -> JsonResponse:
    with transaction.atomic():
        member, _ = Member.objects.get_or_create(email=request.POST["email"])
        # Signing up twice sends one mail: with the same key, both pushes are one task.
        welcome = send_welcome.options(key=f"welcome-{member.pk}")
        push_on_commit(welcome)(member.pk)
    return JsonResponse({"member": member.pk}, status=202)


@csrf_exempt
@require_POST
def add_picture(request: HttpRequest) -> JsonResponse:
    with transaction.atomic():
        picture = Picture.objects.create(original=request.body)
        push_on_commit(make_thumbnail)(picture.pk)
    return JsonResponse({"picture": picture.pk}, status=202)


@require_GET
def show_thumbnail(_: HttpRequest, picture_id: int) -> HttpResponse:
    picture = get_object_or_404(Picture.objects.exclude(thumbnail=b""), pk=picture_id)
    return HttpResponse(bytes(picture.thumbnail), content_type="image/jpeg")


@csrf_exempt
@require_POST
def order(_: HttpRequest, picture_id: int) -> JsonResponse:
    picture = get_object_or_404(Picture, pk=picture_id)
    pushed = order_print.options(unique=f"print-{picture.pk}").push(picture.pk)
    return JsonResponse({"task": pushed.id}, status=202)
