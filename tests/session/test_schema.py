from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from edgetop.session.file import to_file
from edgetop.session.file_check import SCHEMA_PATH, schema, schema_text
from edgetop.session.file_io import encode_file
from tests.support.recorded_sessions import HEAD, MEMORY, S, event, fold, sample, turn


def _document() -> dict[str, Any]:
    turns = (*turn(1), event("throttled", 2 * S), *turn(2, at_us=9 * S, finished=False))
    session = fold((*HEAD, sample(MEMORY, 1 * S, 8e9, None), *turns))
    document: dict[str, Any] = json.loads(b"".join(encode_file(to_file(session))))
    return document


def test_the_shipped_schema_is_that_of_the_types() -> None:
    assert SCHEMA_PATH.read_text("utf-8") == schema_text(), "run `python -m edgetop.session.file_check`"


def test_a_written_session_keeps_to_the_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    jsonschema.Draft202012Validator(schema()).validate(_document())


def test_a_file_with_later_fields_keeps_to_the_schema_and_one_with_wrong_types_does_not() -> None:
    validator = jsonschema.Draft202012Validator(schema())
    document = _document()
    document["turns"][0]["later"] = 1
    validator.validate(document)
    document["turns"][0]["tokens"]["dt_us"][0] = -1
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(document)
