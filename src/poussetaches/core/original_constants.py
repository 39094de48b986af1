"""Constants of the original's API and of its data folder."""

OWNER = "original"  # of schedules from either of them
DEFAULT_EXPECTED = 200  # used if the expected status is 0
CONNECTION_ERROR = -1  # instead of a status if there was no answer
