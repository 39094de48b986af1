"""``verify --crash-test``: kill -9 under load, again and again, and an account of all tasks."""
