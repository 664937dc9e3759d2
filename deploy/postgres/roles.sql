-- Two roles for settler's database, run once by its administrator, in that database. May be run again.
--
--   psql -v ON_ERROR_STOP=1 -f deploy/postgres/roles.sql "$ADMINISTRATORS_URL"
--
--   settler_migrator  owns the tables; `settler migrate` logs in as it
--   settler           the daemon and the operators' commands: reads and writes rows, changes no table and drops no
--                     trigger, so the append-only tables are so for whoever has only its password
--
-- Both are made without a password. psql's \password gives them one and sends only its hash, so that no log has it.
DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['settler', 'settler_migrator'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            EXECUTE format('CREATE ROLE %I LOGIN', role);
        END IF;
    END LOOP;
    -- Nobody gets in by being a member of public.
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO settler, settler_migrator', current_database());
END
$$;

REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO settler;
GRANT USAGE, CREATE ON SCHEMA public TO settler_migrator;

-- For what the migrator makes from now on. An administrator that is no superuser (RDS) has to be a member for that.
GRANT settler_migrator TO CURRENT_USER;
ALTER DEFAULT PRIVILEGES FOR ROLE settler_migrator IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO settler;
ALTER DEFAULT PRIVILEGES FOR ROLE settler_migrator IN SCHEMA public
    GRANT USAGE, SELECT ON SEQUENCES TO settler;
