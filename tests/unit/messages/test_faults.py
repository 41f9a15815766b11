import pytest
from pydantic import TypeAdapter, ValidationError

from ssl_pkg.messages.faults import fault_text


def test_a_tuple_is_called_a_list() -> None:
    with pytest.raises(ValidationError) as error:
        TypeAdapter(tuple[int, ...]).validate_python(3)
    assert fault_text(error.value.errors()[0]["msg"]) == "Input should be a list, like [a, b]"
