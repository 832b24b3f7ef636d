"""`edgetop check --history`: predictions beside what sessions of this machine measured."""

from __future__ import annotations

from typing import Any

from edgetop.commands.check_place import sessions_folder
from edgetop.commands.console import say, write_data
from edgetop.commands.listing import table, write_json, write_rows
from edgetop.core.format import NOT_AVAILABLE, format_bytes, format_rate, format_seconds, format_significant
from edgetop.live.experience import outcomes_in
from edgetop.session.predictions import Held, Outcome, Quantity, Record, records_of
from edgetop.settings import options
from edgetop.settings.resolve import Settings
from edgetop.telemetry.device import describe
from edgetop.telemetry.source import Host

SHOWN = {
    "Started": "STARTED", "Model": "MODEL", "Figure": "FIGURE", "Predicted": "PREDICTED", "Measured": "MEASURED",
    "Error": "ERROR", "Band": "BAND", "Basis": "BASIS",
}  # fmt: skip
UNITS: dict[Quantity, str] = {
    "memory": "bytes", "decode": "tokens_per_s", "prefill": "tokens_per_s", "first token": "s", "energy": "j_per_token",
}  # fmt: skip


def show_history(settings: Settings, chosen: str | None) -> int:
    """Print one row for each figure of each session, and for a person how good the figures have been on the whole."""
    outcomes = outcomes_in(sessions_folder(settings), describe(Host(sysroot=settings[options.SYSROOT])))
    records = records_of(outcomes)
    if chosen == "json":
        write_json({"records": records, "sessions": [_as_object(outcome) for outcome in outcomes]})
        return 0
    rows = [_row(outcome, held) for outcome in outcomes for held in outcome.held]
    if not rows and chosen is None:
        say(
            "no session of this machine holds a prediction and what came of it undisturbed: `edgetop bench -m MODEL`, "
            "or a chat of some length while nothing else runs, records both"
        )
        return 0
    write_rows(rows, chosen, SHOWN)
    if chosen is None:
        write_data(
            "\n" + table([["FIGURE", "PREDICTIONS", "MEDIAN ERROR", "BIAS", "IN THE BAND"], *map(_told, records)])
        )
    return 0


def _row(outcome: Outcome, held: Held) -> dict[str, Any]:
    model = outcome.load.model
    band = NOT_AVAILABLE if held.inside is None else "inside" if held.inside else "outside"
    return {
        "session": outcome.session_id,
        "started_at": outcome.started_at,
        "model": model.name,
        "quantization": model.quantization,
        "n_threads": outcome.load.settings.n_threads,
        "depth_tokens": round(outcome.measured.depth_tokens),
        "figure": held.quantity,
        "unit": UNITS[held.quantity],
        "predicted": held.predicted,
        "low": held.low,
        "high": held.high,
        "measured": held.measured,
        "error": held.error,
        "inside": held.inside,
        "basis": outcome.prediction.basis,
        "Started": outcome.started_at[:16].replace("T", " "),
        "Model": f"{model.name} {model.quantization}".strip(),
        "Figure": held.quantity,
        "Predicted": _value(held.quantity, held.predicted),
        "Measured": _value(held.quantity, held.measured),
        "Error": f"{held.error:+.1%}",
        "Band": band,
        "Basis": outcome.prediction.basis,
    }


def _as_object(outcome: Outcome) -> dict[str, Any]:
    return {
        "session": outcome.session_id,
        "started_at": outcome.started_at,
        "model": outcome.load.model,
        "settings": outcome.load.settings,
        "prediction": outcome.prediction,
        "measured": outcome.measured,
        "held": [
            {
                **{name: getattr(held, name) for name in held.__struct_fields__},
                "error": held.error,
                "inside": held.inside,
            }
            for held in outcome.held
        ],
    }


def _told(record: Record) -> list[str]:
    return [
        record.quantity,
        str(record.count),
        f"{record.median_error:.1%}",
        f"{record.median_bias:+.1%}",
        NOT_AVAILABLE if record.inside is None else f"{record.inside} of {record.count}",
    ]


def _value(quantity: Quantity, value: float) -> str:
    match quantity:
        case "memory":
            return format_bytes(value)
        case "first token":
            return format_seconds(value)
        case "energy":
            return f"{format_significant(value)} J/tok"
        case _:
            return format_rate(value)
