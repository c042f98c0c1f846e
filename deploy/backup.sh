#!/bin/sh
# Copies both databases and all buckets of a running deployment into a folder: deploy/backup.sh FOLDER
#
# The databases go first: a row is committed after its objects are stored, so the copy has all objects that rows
# reference. Do not delete or repair anything during the backup. A later run into the same folder
# copies only the objects that changed.
set -eu
mkdir -p "${1:?usage: deploy/backup.sh FOLDER}"
folder=$(cd "$1" && pwd)

for database in "${HEIMDALL_PG_DATABASE:-heimdall}" "${HEIMDALL_PG_DAGSTER_DATABASE:-dagster}"; do
    docker compose exec -T postgres sh -c "pg_dump --username \"\$POSTGRES_USER\" --format custom $database" \
        > "$folder/$database.dump.part"
    mv "$folder/$database.dump.part" "$folder/$database.dump"
done
for bucket in "${HEIMDALL_S3_BUCKET_RAW_IQ:-heimdall-raw-iq}" \
    "${HEIMDALL_S3_BUCKET_SYNTHETIC_IQ:-heimdall-synthetic-iq}" \
    "${HEIMDALL_S3_BUCKET_COMPUTE_LOGS:-heimdall-compute-logs}"; do
    docker compose run --rm --user "$(id -u):$(id -g)" --volume "$folder:/backup" rclone \
        sync "store:$bucket" "/backup/$bucket"
done
