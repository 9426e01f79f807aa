"""The command line: detectron2's, a dry run, and what is refused."""

import pytest

from pixpro_d2.engine.arguments import argument_parser, check_arguments
from pixpro_d2.errors import UsageError


def parse(*words):
    return argument_parser().parse_args(list(map(str, words)))


def test_defaults():
    args = parse("--config-file", "a.yaml", "SEED", -1)
    assert (args.dry_run, args.resume, args.dist_url, args.opts) == (False, False, "auto", ["SEED", "-1"])
    check_arguments(args)
    assert parse("--dry-run").dry_run


@pytest.mark.parametrize(
    "words, message",
    [
        (["--num-gpus", 0], "must be at least 1"),
        (["--num-machines", 0], "must be at least 1"),
        (
            ["--num-machines", 2, "--dist-url", "tcp://a:1", "--machine-rank", 2],
            "--machine-rank is 2; it numbers the 2",
        ),
        (["--machine-rank", -1], "--machine-rank is -1"),
        (["--num-machines", 2], "add --dist-url tcp://HOST:PORT on all"),
        (["SEED", 1, "--dry-run"], "'--dry-run' stands among the KEY VALUE pairs: put it before them"),
    ],
)
def test_mistakes(words, message):
    with pytest.raises(UsageError, match=message):
        check_arguments(parse(*words))
