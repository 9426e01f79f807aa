#!/usr/bin/env python
"""PixPro pre-training and every downstream task, chosen by the config.

    python train_net.py --config-file configs/pretrain/pixpro_fpn.yaml --num-gpus 8
    python train_net.py --config-file configs/voc/faster_rcnn_R_50_C4_24k.yaml --init pixpro --num-gpus 8
    python train_net.py --config-file ... --eval-only MODEL.WEIGHTS output/model_final.pth
    python train_net.py --config-file ... --dry-run

The arguments are detectron2's, --init, --dry-run and --allow-changes; KEY VALUE pairs override the config. torchrun
starts it too.
"""

import sys

from pixpro_d2.engine import Trainer, argument_parser, launch, setup
from pixpro_d2.engine.dry_run import dry_run
from pixpro_d2.engine.launch import failed_start_removed
from pixpro_d2.utils.errors import ONE_SENTENCE


def main(args):
    """One process of the run."""
    try:
        if args.dry_run:
            return dry_run(args)
        with failed_start_removed(args):
            cfg = setup(args)
            if args.eval_only:
                return Trainer.evaluate(cfg, resume=args.resume)
            trainer = Trainer(cfg)
            trainer.resume_or_load(resume=args.resume)
        return trainer.train()
    except ONE_SENTENCE as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    launch(main, argument_parser().parse_args())
