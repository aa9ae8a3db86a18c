"""Makes the shipped weights from nothing but the picture world: `python -m illume_plugin.embedded.build`.

Four stages, each small enough for two CPU cores:

1. sight: the vision tower learns what each cell holds, from drawn pictures (vision.py);
2. language: the language model learns to answer and to explain from *symbolic* picture tokens, sums of
   embeddings of place, size, color and shape, so that no picture is drawn or looked at (language.py);
3. noise: a short while on rationales as one finds them on the web, mostly unfit (unfit.py), so that the
   base model is fluent and has something to learn;
4. joining: the projector learns to turn what the tower sees into the symbolic tokens (joining.py).
"""
