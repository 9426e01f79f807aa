#!/usr/bin/env python
"""PixPro pre-training and every downstream task, chosen by the config.

    python train_net.py --config-file configs/pretrain/pixpro_fpn.yaml --num-gpus 8
    python train_net.py --config-file configs/voc/faster_rcnn_R_50_C4_24k.yaml --init pixpro --num-gpus 8
    python train_net.py --config-file ... --eval-only MODEL.WEIGHTS output/model_final.pth
    python train_net.py --config-file ... --dry-run

The arguments are detectron2's, --init, --dry-run and --allow-changes; KEY VALUE pairs override the config. torchrun
starts it too. Where the package is installed without its checkout, ``pixpro-d2 train`` takes the same arguments.
"""

import sys

from pixpro_d2.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
