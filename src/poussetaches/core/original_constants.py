"""What the original's API and its data folder have in common."""

OWNER = "original"  # of the schedules that came in either way
DEFAULT_EXPECTED = 200  # what an expected status of 0 stands for
CONNECTION_ERROR = -1  # in place of a status, when there was no answer
