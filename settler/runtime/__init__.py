"""When things run: loops around the stages, their supervision, start and stop.

What does not belong here: what a stage does (`settler.stages`), and reading the command line or the configuration file
(`settler.cli`, `settler.config`).
"""
