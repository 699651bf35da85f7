"""A process may have several Javas, one after the other: Spark's, and the rules' parser's."""

from tarn import rules, spark


def test_the_parser_tells_its_errors_after_a_session_has_ended() -> None:
    with spark.session([]) as session:
        assert session.range(3).count() == 3
    with rules.parser() as parser:
        (found,) = parser.findings("Rules = [ RowCount ]\n")
    assert "Unexpected condition for rule of type RowCount" in found.message
