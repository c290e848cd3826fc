"""Configurations as text: what is no YAML, and what is small and unfolds to more than memory holds."""

import pytest

from renderpretrain.storage.yaml_text import parse_yaml, read_yaml_mapping

LAUGHS = "a: &l0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]\n" for i in range(1, 10)
)


def test_anchors_in_right_use_are_plain_values():
    assert parse_yaml("a: &box [1, 2]\nb: *box\nc: {<<: {d: 1}}", "text") == {
        "a": [1, 2],
        "b": [1, 2],
        "c": {"d": 1},
    }
    assert parse_yaml("", "text") is None and parse_yaml("1e-3", "text") == "1e-3"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LAUGHS, "its anchors unfold to more than 100000 values"),
        ("a: &a [*a]", "an anchor that holds itself"),
        ("a: &a {b: *a}", "an anchor that holds itself"),
        ("a: " + "[" * 100_000, "too many brackets"),
        ("a: " + "9" * 5_000, "not valid YAML ("),
        ("a: 2026-99-99", "not valid YAML ("),
        ("a: !!python/object/apply:os.system [ls]", "line 1, column 4: not valid YAML (could not determine"),
        ("a: \x1b]0;owned", "not valid YAML ("),
        ("{[1, 2]: 3, {4: 5}: 6}", "not valid YAML ("),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_configuration_is_one_line(text, said, tmp_path):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ValueError) as error:
        read_yaml_mapping(tmp_path / "c.yaml")
    message = str(error.value)
    assert message.startswith(str(tmp_path / "c.yaml")) and said in message
    assert len(message) < 400 and message.isprintable()


def test_a_file_that_holds_no_mapping_is_named(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("")
    assert read_yaml_mapping(path) == {}
    path.write_text("\ufeffa: 1\n")  # as editors on Windows begin a file
    assert read_yaml_mapping(path) == {"a": 1}
    for content, said in (
        (b"a: 1\nb: [1, 2\n", r"settings.yaml, line 3, column 1: not valid YAML"),
        (b"- 1\n", "expected a YAML mapping, got list"),
        (b"a: \xff", "expected text in UTF-8, got byte 3 of another kind"),
        (b"#" * 10_000_001, "expected a configuration, got more than 10 MB"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=said):
            read_yaml_mapping(path)
    with pytest.raises(ValueError, match="expected a file of YAML"):
        read_yaml_mapping(tmp_path)
