"""What every service shares: serving, calling, errors, journal, event log, clock, conversion."""
