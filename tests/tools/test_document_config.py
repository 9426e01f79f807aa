import pytest
from detectron2.config import CfgNode, get_cfg

from pixpro_d2 import add_pixpro_config
from pixpro_d2.tools import document_config
from pixpro_d2.tools.document_config import Group, read_groups, render_page
from pixpro_d2.utils.errors import UsageError


def leaves(node, prefix=""):
    """Keys, with their nodes, and values of a config."""
    for name, value in node.items():
        if isinstance(value, CfgNode):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def test_page_is_current():
    document_config.main(["--check"])


def test_every_key_that_is_added_is_documented_with_its_default():
    cfg = get_cfg()
    without = set(dict(leaves(cfg)))
    add_pixpro_config(cfg)
    values = dict(leaves(cfg))
    groups = read_groups(document_config.SOURCE.read_text())
    documented = {f"{group.node}.{key}": value for group in groups for key, value in group.defaults.items()}
    assert set(values) - without <= set(documented)
    assert documented == {key: values[key] for key in documented}


SOURCE = '''
def add(cfg):
    """Not a comment."""
    cfg.A = CN()  # nor is this
    # One
    # comment.
    cfg.A.FIRST = 1
    cfg.A.SECOND = "a # in a string"

    # About the node.
    cfg.A.B = CN()
    # A | B.
    cfg.A.B.KEY = (
        1.5
    )
    # Only sometimes.
    if "LATE" not in cfg.A:
        cfg.A.LATE = ""
'''


def test_a_node_keeps_its_comment():
    source = "# The node.\ncfg.A = CN()\ncfg.A.KEY = 1\n"
    with pytest.raises(UsageError, match="A.KEY in line 3 has no comment above it"):
        read_groups(source)
    assert read_groups(source.replace("cfg.A.KEY", "# The key.\ncfg.A.KEY"))[0] == Group("A", "The node.", {})


def test_comments_go_with_keys():
    assert read_groups(SOURCE) == [
        Group("A", "One comment.", {"FIRST": 1, "SECOND": "a # in a string"}),
        Group("A.B", "About the node.", {}),
        Group("A.B", "A | B.", {"KEY": 1.5}),
        Group("A", "Only sometimes.", {"LATE": ""}),
    ]
    page = render_page(read_groups(SOURCE))
    head = "| key | default | meaning |\n|---|---|---|\n"
    rows = '| `FIRST`<br>`SECOND` | `1`<br>`a # in a string` | One comment. |\n| `LATE` | `""` | Only sometimes. |\n'
    nested = f"\n## A.B\n\nAbout the node.\n\n{head}| `KEY` | `1.5` | A \\| B. |\n"
    assert page == f"{document_config.HEADER}\n## A\n\n{head}{rows}{nested}"


@pytest.mark.parametrize(
    "source",
    [
        "cfg.KEY = 1",
        "# About another key.\ncfg.A.OTHER = 1\n\ncfg.A.KEY = 2",  # a blank line between
        "# About another node.\ncfg.A.OTHER = 1\ncfg.KEY = 2",
        "# About another node.\ncfg.A.OTHER = 1\ncfg.B = CN()\ncfg.B.KEY = 2",
    ],
)
def test_a_key_without_a_comment_is_named(source):
    with pytest.raises(UsageError, match=r"KEY in line \d has no comment"):
        read_groups(source)


def test_a_page_that_is_not_current_is_an_error_until_it_is_written(tmp_path, monkeypatch, capsys):
    page = tmp_path / "config.md"
    monkeypatch.setattr(document_config, "PAGE", page)
    with pytest.raises(SystemExit, match="not current: run `python -m pixpro_d2.tools.document_config`"):
        document_config.main(["--check"])
    assert not page.exists()
    document_config.main([])
    assert capsys.readouterr().out == f"{page}\n"
    document_config.main(["--check"])
    page.write_text(page.read_text().replace("0.99", "0.9"))
    with pytest.raises(SystemExit, match="not current"):
        document_config.main(["--check"])
