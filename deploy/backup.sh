#!/bin/sh
# Copies both databases and all buckets of a running deployment into a folder: deploy/backup.sh FOLDER
#
# The databases are copied first: rows are committed after their objects are stored, so the copy has all objects of its
# rows. Do not delete or repair anything during the backup. A later backup to the same folder copies only changed objects.
#
# The databases hold passwords of stations: the folder is for its owner only.
set -eu
umask 077
mkdir -p "${1:?usage: deploy/backup.sh FOLDER}"
folder=$(cd "$1" && pwd)
chmod 700 "$folder"

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
