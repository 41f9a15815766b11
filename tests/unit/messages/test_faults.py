import pytest
from pydantic import TypeAdapter, ValidationError

from ssl_pkg.config.schema import View
from ssl_pkg.messages.faults import fault_text


def test_a_tuple_is_called_a_list() -> None:
    for validate in (TypeAdapter(tuple[int, ...]).validate_python, TypeAdapter(tuple[int, ...]).validate_json):
        with pytest.raises(ValidationError) as error:
            validate("3")
        assert fault_text(error.value.errors()[0]["msg"]) == "Input should be a list, like [a, b]"


def test_a_section_is_called_a_mapping() -> None:
    with pytest.raises(ValidationError) as error:
        View.model_validate_json("3")
    assert fault_text(error.value.errors()[0]["msg"]) == "Input should be a mapping, like {a: b}"
