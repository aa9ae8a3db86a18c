"""The shape of the embedded model: LLaVA with a SigLIP tower and a Llama, all very small."""

from __future__ import annotations

from typing import Any

from illume_plugin.embedded.build.tokens import IMAGE, IMAGE_TOKENS, PATCH, PX

VISION_WIDTH, VISION_LAYERS = 128, 2
WIDTH, LAYERS, HEADS, FEED_FORWARD = 128, 4, 4, 384


def new_model(tokenizer: Any) -> Any:
    """A `LlavaForConditionalGeneration` with random weights."""
    from transformers import LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, SiglipVisionConfig

    special = {
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    vision = SiglipVisionConfig(
        hidden_size=VISION_WIDTH,
        intermediate_size=4 * VISION_WIDTH,
        num_hidden_layers=VISION_LAYERS,
        num_attention_heads=4,
        image_size=PX,
        patch_size=PATCH,
        vision_use_head=False,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=FEED_FORWARD,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=512,
        initializer_range=0.06,
        tie_word_embeddings=True,
        **special,
    )
    model = LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=vision,
            text_config=text,
            image_token_index=tokenizer.convert_tokens_to_ids(IMAGE),
            vision_feature_layer=-1,
            vision_feature_select_strategy="full",
            image_seq_length=IMAGE_TOKENS,
            tie_word_embeddings=True,
            **special,
        )
    )
    for name, token in special.items():
        setattr(model.generation_config, name, token)
    return model
