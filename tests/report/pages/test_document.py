"""What all pages share: the template environment."""

from __future__ import annotations

from eigenforget.report.pages.document import breakable, template_environment


def test_names_break_after_underscores_and_markup_stays_text() -> None:
    assert breakable("mia_auc") == "mia_<wbr>auc"
    assert breakable("<b>_") == "&lt;b&gt;_<wbr>"


def test_templates_escape_and_know_the_filters() -> None:
    template = template_environment().from_string("{{ 0.12345 | number }} {{ '<b>' }}")
    assert template.render() == "0.123 &lt;b&gt;"
