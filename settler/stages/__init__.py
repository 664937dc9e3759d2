"""The durable stages. They share only the database; each `tick` reads, decides with the pure core, and commits
facts, cursor
and events in one transaction. A tick may be killed anywhere.

What does not belong here: when to tick and what to do when a tick fails (`settler.runtime`), SQL (`settler.storage`).
"""
