from __future__ import annotations

import psycopg


def test_postgres_of_the_test_requirements_answers(postgres_uri: str) -> None:
    with psycopg.connect(postgres_uri) as connection:
        row = connection.execute("SELECT 1").fetchone()

    assert row == (1,)
