"""Talk to the machine: files, locks, signals, console, devices and what makes a run reproducible.

Nothing here knows about texts, models or training. May import `errors` only.
"""
