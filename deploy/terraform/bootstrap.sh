#!/bin/sh
# Runs in an image of PostgreSQL, as the database's administrator. psql's \password asks for the password twice, on
# standard input where there is no terminal, and sends only its hash.
set -eu
printf '%s\n' "$ROLES_SQL" | psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --file=-
printf '%s\n%s\n' "$SETTLER_PASSWORD" "$SETTLER_PASSWORD" | psql --no-psqlrc --quiet --command='\password settler'
printf '%s\n%s\n' "$MIGRATOR_PASSWORD" "$MIGRATOR_PASSWORD" | psql --no-psqlrc --quiet --command='\password settler_migrator'
echo 'the roles settler and settler_migrator are there, with their passwords'
