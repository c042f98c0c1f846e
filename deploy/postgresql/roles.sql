-- Two roles and two databases with least privileges. Run as a superuser; it can be run again at any time:
--
--   HEIMDALL_PG_OWNER_PASSWORD=… HEIMDALL_PG_PASSWORD=… psql --no-psqlrc --dbname postgres --file roles.sql
--
-- heimdall_owner  owns the schema and Dagster's tables: runs `heimdall db migrate` and `dagster instance migrate`
-- heimdall_app    only reads and writes rows: HEIMDALL_PG_USER of all running processes
--
-- Passwords come from the environment, so that process lists and shell histories do not show them. To change one, run
-- this again. Other names and limits: --set app=… --set owner=… --set database=… --set dagster_database=…
-- --set app_connections=… . On a shared server add --set shared=1: access to other databases does not
-- change. Existing tables get the new owner and the same rights.
\set ON_ERROR_STOP on
\set QUIET on
\if :{?owner} \else
    \set owner heimdall_owner
\endif
\if :{?app} \else
    \set app heimdall_app
\endif
\if :{?database} \else
    \set database heimdall
\endif
\if :{?dagster_database} \else
    \set dagster_database dagster
\endif
\if :{?app_connections} \else
    \set app_connections 90
\endif
\if :{?shared} \else
    \set shared 0
\endif
\getenv owner_password HEIMDALL_PG_OWNER_PASSWORD
\getenv app_password HEIMDALL_PG_PASSWORD
\if :{?owner_password} \else
    \warn HEIMDALL_PG_OWNER_PASSWORD is not set
    SELECT 1 / 0 AS "HEIMDALL_PG_OWNER_PASSWORD is not set";
\endif
\if :{?app_password} \else
    \warn HEIMDALL_PG_PASSWORD is not set
    SELECT 1 / 0 AS "HEIMDALL_PG_PASSWORD is not set";
\endif
SET client_min_messages = warning;
SET log_statement = 'none';          -- the server's log must not hold the passwords
SET log_min_duration_statement = -1;
SET log_min_error_statement = panic;

SELECT format('CREATE ROLE %I', role) FROM (VALUES (:'owner'), (:'app')) AS wanted (role)
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) \gexec
ALTER ROLE :"owner" LOGIN PASSWORD :'owner_password' CONNECTION LIMIT 5
    NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
ALTER ROLE :"app" LOGIN PASSWORD :'app_password' CONNECTION LIMIT :app_connections
    NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;

SELECT format('CREATE DATABASE %I', name) FROM (VALUES (:'database'), (:'dagster_database')) AS wanted (name)
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = name) \gexec
REVOKE ALL ON DATABASE :"database", :"dagster_database" FROM PUBLIC;
REVOKE ALL ON DATABASE :"database", :"dagster_database" FROM :"owner", :"app";
GRANT CONNECT ON DATABASE :"database", :"dagster_database" TO :"owner", :"app";
\if :shared \else
    REVOKE CONNECT ON DATABASE postgres, template1 FROM PUBLIC;
\endif

-- Our own tables: schema heimdall.
\connect :"database"
SET client_min_messages = warning;
SELECT 'CREATE EXTENSION timescaledb'
WHERE 'timescaledb' = ANY (string_to_array(replace(current_setting('shared_preload_libraries'), ' ', ''), ','))
  AND NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') \gexec
REVOKE ALL ON SCHEMA public FROM PUBLIC;
CREATE SCHEMA IF NOT EXISTS heimdall;
ALTER SCHEMA heimdall OWNER TO :"owner";
SELECT format('ALTER %s %s OWNER TO %I', CASE relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, oid::regclass, :'owner')
FROM pg_class WHERE relnamespace = 'heimdall'::regnamespace AND relkind IN ('r', 'v') \gexec
SELECT format('ALTER FUNCTION %s OWNER TO %I', oid::regprocedure, :'owner')
FROM pg_proc WHERE pronamespace = 'heimdall'::regnamespace \gexec
GRANT USAGE ON SCHEMA heimdall TO :"app";
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA heimdall TO :"app";
SELECT format('REVOKE INSERT, UPDATE, DELETE ON heimdall.schema_version FROM %I', :'app')
WHERE to_regclass('heimdall.schema_version') IS NOT NULL \gexec
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA heimdall GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO :"app";

-- Dagster's own tables: schema public of a database of their own.
\connect :"dagster_database"
SET client_min_messages = warning;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
ALTER SCHEMA public OWNER TO :"owner";
SELECT format('ALTER TABLE %s OWNER TO %I', oid::regclass, :'owner')
FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' \gexec
GRANT USAGE ON SCHEMA public TO :"app";
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO :"app";
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO :"app";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO :"app";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA public GRANT USAGE ON SEQUENCES TO :"app";
