"""CONTRACT 2: the run folder `runs/<id>/`, read and written as types. No torch; the layout is in docs/run-format.md."""

from __future__ import annotations

from .claim import claimed
from .folder import (
    BACKBONE,
    CHECKPOINT,
    CLASSES,
    FEATURES,
    FOLDS,
    LOG,
    METRICS,
    PER_CLASS,
    PROBABILITIES,
    RECORD,
    THRESHOLDS,
    WEIGHTS,
    Run,
    best_run,
    evaluate_command,
    list_runs,
    open_run,
    read_classes,
    read_metrics,
    report_command,
    require_output,
    write_classes,
    write_json,
    write_record,
)
from .metrics import (
    METRICS_SCHEMA,
    Balance,
    Bins,
    Bootstrap,
    Calibration,
    Metrics,
    ProtocolResults,
    Reliability,
    RowCounts,
    Values,
)
from .probability_maps import (
    ClassMap,
    Kind,
    OtherMap,
    ProbabilityMaps,
    Reading,
    SharedMap,
    read_probabilities,
    write_probabilities,
)
from .record import OVERRIDDEN, SCHEMA, ChosenEpoch, FeatureSource, RunRecord, SeenScore, Setting, Timings, TunedFrom
from .tables import (
    ClassResult,
    ClassThreshold,
    LogLine,
    read_log,
    read_per_class,
    read_thresholds,
    write_csv,
    write_lines,
    write_per_class,
    write_thresholds,
)

__all__ = [
    "BACKBONE", "CHECKPOINT", "CLASSES", "FEATURES", "FOLDS", "LOG", "METRICS", "METRICS_SCHEMA", "OVERRIDDEN",
    "PER_CLASS", "PROBABILITIES", "RECORD", "SCHEMA", "THRESHOLDS", "WEIGHTS", "Balance", "Bins", "Bootstrap",
    "Calibration", "ChosenEpoch", "ClassMap", "ClassResult", "ClassThreshold", "FeatureSource", "Kind", "LogLine",
    "Metrics", "OtherMap", "ProbabilityMaps", "ProtocolResults", "Reading", "Reliability", "RowCounts", "Run",
    "RunRecord", "SeenScore", "Setting", "SharedMap", "Timings", "TunedFrom", "Values", "best_run", "claimed",
    "evaluate_command", "list_runs", "open_run", "read_classes", "read_log", "read_metrics", "read_per_class",
    "read_probabilities", "read_thresholds", "report_command", "require_output", "write_classes", "write_csv",
    "write_json", "write_lines", "write_per_class", "write_probabilities", "write_record", "write_thresholds",
]  # fmt: skip
