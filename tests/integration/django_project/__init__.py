"""A Django project for the tests, with all of Django's checks of requests enabled."""
