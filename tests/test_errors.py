"""What a mistake says."""

from pds_nerfstudio.errors import UserError


def test_a_mistake_is_one_line_in_which_nothing_is_acted_on() -> None:
    assert (
        str(UserError("--data a\n\x1b[31mb holds no [red]transforms.json."))
        == "--data a b holds no [red]transforms.json."
    )
