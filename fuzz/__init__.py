"""Hostile inputs and kills: what the library does when everything goes wrong.

`make fuzz` runs both and writes the figures into docs/reliability.md.
"""
