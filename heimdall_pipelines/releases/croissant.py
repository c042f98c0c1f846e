"""Croissant metadata of an export (mlcommons.org/croissant/1.0), with responsible-AI fields."""

import json
from collections.abc import Mapping
from typing import Any

from heimdall_pipelines.learning.columns import TABLES, Column, columns_of
from heimdall_pipelines.learning.description import ExportDescription
from heimdall_pipelines.releases.card import TABLE_TEXTS, citation, limits_text
from heimdall_pipelines.releases.export_tables import table_file
from heimdall_pipelines.releases.licences import licence_url

_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_TYPES = {"double": "sc:Float", "string": "sc:Text", "bool": "sc:Boolean", "list<string>": "sc:Text"}


def croissant_text(description: ExportDescription, sha256: Mapping[str, str], size_bytes: Mapping[str, int]) -> str:
    """Content of croissant.json.

    Parameters
    ----------
    description : ExportDescription
    sha256, size_bytes : mapping
        Of each table's file.
    """
    splits = list(description.splits)
    document: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": description.label.replace("@", "-v"),
        "description": _description(description),
        "conformsTo": ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"],
        "citeAs": citation(description),
        "license": licence_url(description.licence),
        "url": "README.md",
        "version": f"{description.version or 0}.0.0",
        "datePublished": description.date,
        "creator": {"@type": "sc:Organization", "name": "heimdall-pipelines"},
        "keywords": ["radio", "localisation", "time difference of arrival", "received signal strength"],
        **_responsible_ai(description),
        "distribution": [_file(table, sha256[table], size_bytes[table]) for table in TABLES],
        "recordSet": [_record_set(table, columns_of(table, splits)) for table in TABLES],
    }
    return json.dumps(document, indent=1) + "\n"


def _description(description: ExportDescription) -> str:
    if description.kind == "sessions":
        return f"Features of {description.num_samples} recorded segments at several receivers."
    return (
        f"{description.num_samples} simulated radio transmissions with known position, and the features of their "
        f"signals at several receivers. Seed {description.seed}, root {description.root}."
    )


def _responsible_ai(description: ExportDescription) -> dict[str, Any]:
    limits = [line.removeprefix("- ") for line in limits_text(description).splitlines() if line.startswith("- ")]
    is_synthetic = description.kind == "dataset"
    return {
        "rai:dataCollection": (
            f"Generated from seed {description.seed} by generator version {description.generator_version}."
            if is_synthetic
            else "Recorded by receivers of amateurs' networks."
        ),
        "rai:dataCollectionType": ["Synthetic" if is_synthetic else "Physical data collection"],
        "rai:dataLimitations": limits,
        "rai:dataBiases": [
            "Positions follow the area of the receivers; accuracy elsewhere is not measured.",
            "Environment and frequency are those of the parameters.",
        ],
        "rai:dataUseCases": ["Training and evaluation of models that locate radio transmitters."],
        "rai:dataPreprocessingProtocol": [f"Features of version {description.feature_version} per chunk of IQ."],
        "rai:dataReleaseMaintenancePlan": "A release never changes; corrections get a new version.",
        "rai:personalSensitiveInformation": [
            "None." if is_synthetic else "Features only; recordings may contain transmissions of persons."
        ],
        "rai:dataSocialImpact": "Locating transmitters can help rescue and harm privacy; use it lawfully.",
    }


def _file(table: str, sha256: str, size_bytes: int) -> dict[str, Any]:
    name = table_file(table)
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "description": TABLE_TEXTS[table],
        "contentUrl": name,
        "contentSize": f"{size_bytes} B",
        "encodingFormat": "application/x-parquet",
        "sha256": sha256,
    }


def _record_set(table: str, columns: tuple[Column, ...]) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": table,
        "name": table,
        "description": TABLE_TEXTS[table],
        "field": [_field(table, column) for column in columns],
    }


def _field(table: str, column: Column) -> dict[str, Any]:
    unit = f" ({column.unit})" if column.unit else ""
    field: dict[str, Any] = {
        "@type": "cr:Field",
        "@id": f"{table}/{column.name}",
        "name": column.name,
        "description": f"{column.definition}{unit}",
        "dataType": _TYPES.get(column.kind, "sc:Integer"),
        "source": {"fileObject": {"@id": table_file(table)}, "extract": {"column": column.name}},
    }
    return field | {"repeated": True} if column.kind == "list<string>" else field
