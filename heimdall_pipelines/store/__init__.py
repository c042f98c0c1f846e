"""The only code that speaks SQL or S3; takes and returns plain frozen dataclasses.

Modules by subject:

- connections: ``stores`` opens both servers; ``database`` (SQLAlchemy), ``reading`` (psycopg2 alone), ``outages``;
  ``sql`` and ``columns`` make statements
- schema: ``migrations``, ``migrate``, ``revision``, ``table_columns``, ``receiver_view``, ``timescale``, ``row_sizes``
- objects: ``objects``, ``object_files``, ``iq_form``, ``iq_objects``, ``session_objects``, ``orphans``,
  ``public_bucket``, ``bucket_probe``
- what was committed: ``digests``, ``digest_rows``, ``digest_filling``, ``dataset_digests``, ``session_digests``,
  ``committed_parameters``, ``changes``, ``accepting``
- places: ``stations``, ``station_checks``, ``station_delays``, ``known_sources``, ``terrain_tiles``
- rows of features, of sessions and of datasets: ``features``, ``receiver_elements``
- sessions: ``sessions``, ``session_slugs``, ``session_import``, ``recordings``, ``session_completion``,
  ``session_correction``, ``session_deletion``, ``measurements``; what is computed from them: ``session_revisions``,
  ``session_inputs``, ``session_results``, ``session_features``, ``positions``, ``stale_positions``, ``session_health``
- datasets: ``datasets``, ``dataset_locks``, ``batches``, ``sample_rows``, ``restoring``, ``dataset_samples``,
  ``dataset_snapshot``, ``dataset_summaries``, ``releases``
- alerts and status: ``alerts``, ``alert_deliveries``, ``status``
"""
