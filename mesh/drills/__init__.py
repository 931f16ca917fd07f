"""Fault drills: something is broken in the middle of a real session, and the event log is judged afterwards.

`faults` says what can be broken, `invariants` what must hold whatever is, `runner` plays a session and strikes.
"""
