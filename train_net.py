#!/usr/bin/env python
"""PixPro pre-training and every downstream task, chosen by the config.

    python train_net.py --config-file configs/pretrain/pixpro_fpn.yaml --num-gpus 8
    python train_net.py --config-file configs/voc/faster_rcnn_R_50_C4_24k_pixpro.yaml --num-gpus 8
    python train_net.py --config-file ... --eval-only MODEL.WEIGHTS output/model_final.pth

The arguments are detectron2's; KEY VALUE pairs at the end override the config. Also starts under torchrun.
"""

import sys

from detectron2.engine import default_argument_parser
from detectron2.evaluation import verify_results
from detectron2.utils import comm

from pixpro_d2.engine import Trainer, launch, setup
from pixpro_d2.errors import UsageError


def evaluate(cfg, args):
    """Evaluate MODEL.WEIGHTS (or, with --resume, the last checkpoint) on DATASETS.TEST."""
    if not cfg.DATASETS.TEST:
        raise UsageError("--eval-only needs data sets in DATASETS.TEST, which is empty.")
    model = Trainer.build_model(cfg)
    Trainer.build_checkpointer(cfg, model).resume_or_load(cfg.MODEL.WEIGHTS, resume=args.resume)
    results = Trainer.test(cfg, model)
    if comm.is_main_process():
        verify_results(cfg, results)
    return results


def main(args):
    """One process of the run."""
    try:
        cfg = setup(args)
        if args.eval_only:
            return evaluate(cfg, args)
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=args.resume)
        return trainer.train()
    except (UsageError, FloatingPointError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    launch(main, default_argument_parser().parse_args())
