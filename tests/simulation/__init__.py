"""The whole server in virtual time, with everything going wrong that can: one seed, one history.

``docs/reliability.md`` says what is simulated and what must hold; ``make simulate`` runs it.
"""
