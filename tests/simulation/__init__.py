"""The whole server in virtual time, with injected faults. Each seed is one history.

``docs/reliability.md`` describes the faults and the promises; ``make simulate`` runs it.
"""
