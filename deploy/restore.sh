#!/bin/sh
# Restores a deployment from a folder of deploy/backup.sh: deploy/restore.sh FOLDER
#
# ALL CURRENT DATA in its databases and buckets ARE LOST. The servers must be running
# (docker compose up --detach postgres minio redis buckets). An interrupted restore can be repeated.
set -eu
folder=$(cd "${1:?usage: deploy/restore.sh FOLDER}" && pwd)

query() {
    docker compose exec -T postgres sh -c "psql --username \"\$POSTGRES_USER\" --set ON_ERROR_STOP=1 --quiet $1"
}

docker compose stop worker daemon webserver code
for database in "${HEIMDALL_PG_DATABASE:-heimdall}" "${HEIMDALL_PG_DAGSTER_DATABASE:-dagster}"; do
    printf 'DROP DATABASE IF EXISTS %s WITH (FORCE);\nCREATE DATABASE %s;\n' "$database" "$database" | query postgres
    # TimescaleDB needs calls before and after the restore of its tables; plain PostgreSQL lacks these functions.
    for moment in pre post; do
        if [ $moment = post ]; then
            docker compose exec -T postgres \
                sh -c "pg_restore --username \"\$POSTGRES_USER\" --exit-on-error --no-owner --dbname $database" \
                < "$folder/$database.dump"
        fi
        query "$database" <<end
DO \$do\$ BEGIN
    IF to_regproc('timescaledb_${moment}_restore') IS NOT NULL THEN PERFORM timescaledb_${moment}_restore(); END IF;
END \$do\$;
end
    done
done
# The restored tables belong to the superuser until this, which gives them to the roles of the services.
docker compose exec -T postgres sh /docker-entrypoint-initdb.d/90-roles.sh
docker compose run --rm migrate
for bucket in "${HEIMDALL_S3_BUCKET_RAW_IQ:-heimdall-raw-iq}" \
    "${HEIMDALL_S3_BUCKET_SYNTHETIC_IQ:-heimdall-synthetic-iq}" \
    "${HEIMDALL_S3_BUCKET_COMPUTE_LOGS:-heimdall-compute-logs}"; do
    [ -d "$folder/$bucket" ] || mkdir "$folder/$bucket"
    docker compose run --rm --user "$(id -u):$(id -g)" --volume "$folder:/backup" rclone \
        sync "/backup/$bucket" "store:$bucket"
done
docker compose up --detach
