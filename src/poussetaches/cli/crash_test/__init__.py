"""``verify --crash-test``: kills a server under load with kill -9, and accounts for all tasks."""
