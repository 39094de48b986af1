"""A Django project for the tests, with everything switched on that refuses strangers."""
