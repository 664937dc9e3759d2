"""What is kept: tables, migrations, and verbs in the words of the domain. SQLite and PostgreSQL through the same code.

What does not belong here: decisions. A verb stores or fetches; what should be stored is decided in `settler.domain`.
"""
