"""Draw what pre-training sees and learns, and what a downstream model predicts; nothing is trained.

python -m pixpro_d2.tools.visualize pairs --config-file configs/pretrain/pixpro_fpn.yaml --input my_photos
python -m pixpro_d2.tools.visualize flow --config-file configs/pretrain/pixpro_video_quickstart.yaml --input my_videos
python -m pixpro_d2.tools.visualize features --config-file configs/pretrain/quickstart.yaml --weights model_final.pth
python -m pixpro_d2.tools.visualize slots --config-file configs/pretrain/slotcon_quickstart.yaml \\
    --weights model_final.pth
python -m pixpro_d2.tools.visualize predictions --config-file configs/voc/faster_rcnn_R_18_FPN_small.yaml \\
    --weights random/model_final.pth --weights pixpro/model_final.pth --input voc:DIR@test
"""

from .command_line import main

__all__ = ["main"]
