"""SAIL-VL2 and SAIL-VL 1.6: SAILViT, a projector and a Qwen language model, without code from the model's folder.

Of their checkpoints, those with tiles of 448 pixels are supported. AnyRes (one picture of any size, without tiles) is
not built: neither its code nor its weights are public, so there is nothing that it could be compared with.
"""
