"""What every room stands on: errors, the clock, ids, paths, settings, secrets, JSON values.

Imports no other room.
"""
