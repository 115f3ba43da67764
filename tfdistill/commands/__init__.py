"""The command line: one file for each verb.

May import every other room; no room imports this one.
"""
