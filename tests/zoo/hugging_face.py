"""Models of Hugging Face transformers made from configurations, called with what its tokenizers give."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

from tests.zoo.registry import (
    CLASSES,
    LENGTH,
    PIXELS,
    SAMPLES,
    TOKENS,
    Architecture,
    classes,
    images,
    own_tokens,
    padding,
    sentences,
    tokens,
)

PACKAGE = "transformers"
TINY = {
    "vocab_size": TOKENS, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
     "intermediate_size": 48,
    "max_position_embeddings": 32, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
GROUPED = TINY | {"num_key_value_heads": 2, "head_dim": 8}
SEEN = {"image_size": PIXELS, "patch_size": 8, "num_labels": CLASSES}
VIT = {
    key: TINY[key] for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
} | SEEN
BETWEEN = {
    "vocab_size": TOKENS, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": 32,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2,
     "forced_eos_token_id": None,
}  # fmt: skip
HEARD = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, "vocab_size": 12,
    "conv_dim": (16, 16, 16), "conv_stride": (5, 2, 2), "conv_kernel": (10, 3, 3), "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4, "mask_time_prob": 0.0, "num_labels": CLASSES,
    "apply_spec_augment": False,
}  # fmt: skip
ENCODER, DECODER, PAIR, EXPERTS, STATE, VISION, AUDIO, SERIES, SEVERAL = (
    "encoder", "decoder", "encoder and decoder", "mixture of experts", "state space", "vision", "audio",
    "time series", "several inputs",
)  # fmt: skip
Models = dict[str, tuple[str, str, dict[str, Any], Callable[[], Any]]]


def made(model: str, config: str, settings: dict[str, Any]) -> nn.Module:
    """Return a model of a configuration, with random weights."""
    import transformers

    settings = dict(settings)
    return getattr(transformers, model)(getattr(transformers, config)(**settings))


def labelled() -> Any:
    """Return sentences with a class each."""
    return sentences(labels=classes())


def typed() -> Any:
    """Return sentences as BERT's tokenizer gives them, with a class each."""
    return sentences(token_type_ids=(torch.arange(LENGTH) > 3).long().repeat(SAMPLES, 1), labels=classes())


def tagged() -> Any:
    """Return sentences with a class for each of their tokens."""
    return sentences(labels=torch.where(padding().bool(), torch.arange(LENGTH).repeat(SAMPLES, 1) % CLASSES, -100))


def spans() -> Any:
    """Return sentences with begin and end of an answer."""
    return sentences(start_positions=classes(), end_positions=classes() + 2)


def translated() -> Any:
    """Return sentences with those that they are to become."""
    return sentences(labels=tokens(LENGTH - 2))


def stateless() -> Any:
    """Return sentences for a network whose state, which it keeps in eval mode, has no gradient."""
    return own_tokens() | {"use_cache": False}


def seen() -> Any:
    """Return images with a class each."""
    return {"pixel_values": images(), "labels": classes()}


def segmented() -> Any:
    """Return images with a class for each of their pixels."""
    return {"pixel_values": images(), "labels": torch.randint(0, CLASSES, (SAMPLES, PIXELS, PIXELS))}


def bare() -> Any:
    """Return images."""
    return {"pixel_values": images()}


def described() -> Any:
    """Return images with a sentence each."""
    return sentences(pixel_values=images(), return_loss=True)


def waves() -> Any:
    """Return sound with the letters that are said in it."""
    return {"input_values": torch.randn(SAMPLES, 400), "labels": torch.randint(1, 12, (SAMPLES, 4))}


def masked_waves() -> Any:
    """Return sound of several lengths with a class each."""
    mask = torch.ones(SAMPLES, 400, dtype=torch.long)
    mask[1, 300:] = 0
    return {"input_values": torch.randn(SAMPLES, 400) * mask, "attention_mask": mask, "labels": classes()}


def spectra() -> Any:
    """Return spectra of sound with the sentences that are said in it."""
    return {"input_features": torch.randn(SAMPLES, 8, 32), "labels": tokens(LENGTH)}


def spectra_in_time() -> Any:
    """Return spectra of sound, time first, with a class each."""
    return {"input_values": torch.randn(SAMPLES, 32, 16), "labels": classes()}


def padded_spectra() -> Any:
    """Return spectra of several lengths with the sentences that are said in them."""
    mask = torch.ones(SAMPLES, 32, dtype=torch.long)
    mask[1, 24:] = 0
    features = torch.randn(SAMPLES, 32, 8) * mask[..., None]
    return {"input_features": features, "attention_mask": mask, "labels": tokens(LENGTH)}


def past() -> Any:
    """Return a series with two channels, and how it goes on."""
    return {"past_values": torch.randn(SAMPLES, 32, 2), "future_values": torch.randn(SAMPLES, 8, 2)}


def played() -> Any:
    """Return states, actions and returns of a game."""
    return {
        "states": torch.randn(SAMPLES, 6, 5),
        "actions": torch.randn(SAMPLES, 6, 2),
        "rewards": torch.randn(SAMPLES, 6, 1),
        "returns_to_go": torch.randn(SAMPLES, 6, 1),
        "timesteps": torch.arange(6).repeat(SAMPLES, 1),
        "attention_mask": torch.ones(SAMPLES, 6),
    }


CLASSIFIED = TINY | {"num_labels": CLASSES}
EXPERT = GROUPED | {"num_experts_per_tok": 2, "moe_intermediate_size": 24, "output_router_logits": False}
MODELS: Models = {
    "BertForSequenceClassification": (ENCODER, "BertConfig", CLASSIFIED, typed),
    "BertForMaskedLM": (ENCODER, "BertConfig", TINY, own_tokens),
    "RobertaForTokenClassification": (ENCODER, "RobertaConfig", CLASSIFIED, tagged),
    "XLMRobertaForQuestionAnswering": (ENCODER, "XLMRobertaConfig", TINY, spans),
    "DistilBertForSequenceClassification": (
        ENCODER, "DistilBertConfig",
        {"vocab_size": TOKENS, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48,
         "max_position_embeddings": 32,
         "num_labels": CLASSES}, labelled,
    ),
    "AlbertForSequenceClassification": (ENCODER, "AlbertConfig", CLASSIFIED | {"embedding_size": 16}, typed),
    "ElectraForSequenceClassification": (ENCODER, "ElectraConfig", CLASSIFIED | {"embedding_size": 16}, labelled),
    "DebertaV2ForSequenceClassification": (
        ENCODER, "DebertaV2Config",
        CLASSIFIED | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8}, labelled,
    ),
    "MPNetForSequenceClassification": (ENCODER, "MPNetConfig", CLASSIFIED, labelled),
    "ModernBertForSequenceClassification": (
        ENCODER, "ModernBertConfig", CLASSIFIED | {"local_attention": 4, "cls_token_id": 1, "sep_token_id": 2},
         labelled,
    ),
    "ConvBertForSequenceClassification": (
        ENCODER, "ConvBertConfig", CLASSIFIED | {"embedding_size": 16, "conv_kernel_size": 3}, labelled,
    ),
    "FNetForSequenceClassification": (
        ENCODER, "FNetConfig", CLASSIFIED,
        lambda: {key: value for key, value in labelled().items() if key != "attention_mask"},
    ),
    "SqueezeBertForSequenceClassification": (
        ENCODER, "SqueezeBertConfig", CLASSIFIED | {"embedding_size": 32}, labelled,
    ),
    "GPT2LMHeadModel": (DECODER, "GPT2Config", {"vocab_size": TOKENS, "n_embd": 32, "n_layer": 2, "n_head": 4,
                                                "n_positions": 32}, own_tokens),
    "GPT2ForSequenceClassification": (
        DECODER, "GPT2Config", {"vocab_size": TOKENS, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 32,
                                "num_labels": CLASSES, "pad_token_id": 0}, labelled,
    ),
    "GPTNeoXForCausalLM": (DECODER, "GPTNeoXConfig", TINY, own_tokens),
    "GPTNeoForCausalLM": (
        DECODER, "GPTNeoConfig",
        {"vocab_size": TOKENS, "hidden_size": 32, "num_layers": 2, "num_heads": 4, "max_position_embeddings": 32,
         "attention_types": [[["global", "local"], 1]], "window_size": 4, "intermediate_size": 48}, own_tokens,
    ),
    "GPTJForCausalLM": (
        DECODER, "GPTJConfig", {"vocab_size": TOKENS, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 32,
                                "rotary_dim": 4}, own_tokens,
    ),
    "LlamaForCausalLM": (DECODER, "LlamaConfig", GROUPED, own_tokens),
    "LlamaForSequenceClassification": (DECODER, "LlamaConfig", GROUPED | {"num_labels": CLASSES}, labelled),
    "MistralForCausalLM": (DECODER, "MistralConfig", GROUPED | {"sliding_window": 4}, own_tokens),
    "Qwen2ForCausalLM": (DECODER, "Qwen2Config", GROUPED, own_tokens),
    "Qwen3ForCausalLM": (DECODER, "Qwen3Config", GROUPED, own_tokens),
    "Gemma2ForCausalLM": (DECODER, "Gemma2Config", GROUPED | {"query_pre_attn_scalar": 8, "sliding_window": 4},
     own_tokens),
    "PhiForCausalLM": (DECODER, "PhiConfig", TINY, own_tokens),
    "Phi3ForCausalLM": (DECODER, "Phi3Config", GROUPED, own_tokens),
    "StableLmForCausalLM": (DECODER, "StableLmConfig", GROUPED, own_tokens),
    "Olmo2ForCausalLM": (DECODER, "Olmo2Config", GROUPED, own_tokens),
    "OPTForCausalLM": (
        DECODER, "OPTConfig",
        {"vocab_size": TOKENS, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 48,
         "max_position_embeddings": 32, "word_embed_proj_dim": 32, "pad_token_id": 0}, own_tokens,
    ),
    "BloomForCausalLM": (
        DECODER, "BloomConfig", {"vocab_size": TOKENS, "hidden_size": 32, "n_layer": 2, "n_head": 4}, own_tokens,
    ),
    "FalconForCausalLM": (
        DECODER, "FalconConfig",
        {"vocab_size": TOKENS, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
         "max_position_embeddings": 32}, own_tokens,
    ),
    "MixtralForCausalLM": (EXPERTS, "MixtralConfig", EXPERT | {"num_local_experts": 4}, own_tokens),
    "Qwen2MoeForCausalLM": (
        EXPERTS, "Qwen2MoeConfig", EXPERT | {"num_experts": 4, "shared_expert_intermediate_size": 24}, own_tokens,
    ),
    "OlmoeForCausalLM": (EXPERTS, "OlmoeConfig", EXPERT | {"num_experts": 4}, own_tokens),
    "GptOssForCausalLM": (EXPERTS, "GptOssConfig", EXPERT | {"num_local_experts": 4, "sliding_window": 4},
     own_tokens),
    "SwitchTransformersForConditionalGeneration": (
        EXPERTS, "SwitchTransformersConfig",
        {"vocab_size": TOKENS, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_decoder_layers": 2,
         "num_heads": 4, "num_experts": 4, "expert_capacity": 16, "pad_token_id": 0, "decoder_start_token_id": 0,
         "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1}, translated,
    ),
    "T5ForConditionalGeneration": (
        PAIR, "T5Config",
        {"vocab_size": TOKENS, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_decoder_layers": 2,
         "num_heads": 4, "pad_token_id": 0, "decoder_start_token_id": 0}, translated,
    ),
    "MT5ForConditionalGeneration": (
        PAIR, "MT5Config",
        {"vocab_size": TOKENS, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_decoder_layers": 2,
         "num_heads": 4, "pad_token_id": 0, "decoder_start_token_id": 0}, translated,
    ),
    "BartForConditionalGeneration": (PAIR, "BartConfig", BETWEEN, translated),
    "MarianMTModel": (PAIR, "MarianConfig", BETWEEN, translated),
    "PegasusForConditionalGeneration": (PAIR, "PegasusConfig", BETWEEN, translated),
    "MBartForConditionalGeneration": (PAIR, "MBartConfig", BETWEEN, translated),
    "MambaForCausalLM": (
        STATE, "MambaConfig", {"vocab_size": TOKENS, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4,
                               "pad_token_id": 0}, own_tokens,
    ),
    "Mamba2ForCausalLM": (
        STATE, "Mamba2Config",
        {"vocab_size": TOKENS, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4, "num_heads": 8,
         "head_dim": 8,
         "n_groups": 2, "chunk_size": 4, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}, own_tokens,
    ),
    "RwkvForCausalLM": (
        STATE, "RwkvConfig", {"vocab_size": TOKENS, "hidden_size": 32, "num_hidden_layers": 2, "context_length": 32,
                              "attention_hidden_size": 32, "intermediate_size": 48}, stateless,
    ),
    "RecurrentGemmaForCausalLM": (
        STATE, "RecurrentGemmaConfig", GROUPED | {"num_hidden_layers": 3, "lru_width": 32,
         "attention_window_size": 8},
        own_tokens,
    ),
    "ViTForImageClassification": (VISION, "ViTConfig", VIT, seen),
    "DeiTForImageClassification": (VISION, "DeiTConfig", VIT, seen),
    "BeitForImageClassification": (VISION, "BeitConfig", VIT, seen),
    "Dinov2ForImageClassification": (VISION, "Dinov2Config", VIT | {"mlp_ratio": 2}, seen),
    "SwinForImageClassification": (
        VISION, "SwinConfig", SEEN | {"patch_size": 4, "embed_dim": 16, "depths": [1, 2], "num_heads": [2, 4],
                                      "window_size": 4}, seen,
    ),
    "PvtForImageClassification": (
        VISION, "PvtConfig",
        SEEN | {"patch_sizes": [4, 2, 2, 2], "hidden_sizes": [8, 16, 20, 32], "depths": [1, 1, 1, 1],
                "num_attention_heads": [1, 2, 5, 4], "mlp_ratios": [2, 2, 2, 2]}, seen,
    ),
    "ConvNextForImageClassification": (
        VISION, "ConvNextConfig", {"hidden_sizes": [8, 12, 16, 24], "depths": [1, 1, 1, 1],
         "num_labels": CLASSES}, seen,
    ),
    "ResNetForImageClassification": (
        VISION, "ResNetConfig",
        {"embedding_size": 8, "hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 1, 1], "num_labels": CLASSES},
         seen,
    ),
    "RegNetForImageClassification": (
        VISION, "RegNetConfig",
        {"embedding_size": 8, "hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 1, 1], "groups_width": 8,
         "num_labels": CLASSES}, seen,
    ),
    "MobileNetV2ForImageClassification": (
        VISION, "MobileNetV2Config", {"depth_multiplier": 0.25, "num_labels": CLASSES, "image_size": PIXELS}, seen,
    ),
    "PoolFormerForImageClassification": (
        VISION, "PoolFormerConfig",
        {"hidden_sizes": [8, 12, 16, 24], "depths": [1, 1, 1, 1], "mlp_ratio": 2.0, "num_labels": CLASSES}, seen,
    ),
    "SegformerForSemanticSegmentation": (
        VISION, "SegformerConfig",
        {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 2, 2, 4],
         "decoder_hidden_size": 16, "num_labels": CLASSES}, segmented,
    ),
    "CLIPModel": (
        SEVERAL, "CLIPConfig",
        {"text_config": TINY, "vision_config": VIT, "projection_dim": 16}, described,
    ),
    "SiglipModel": (SEVERAL, "SiglipConfig", {"text_config": TINY, "vision_config": VIT}, described),
    "Wav2Vec2ForCTC": (AUDIO, "Wav2Vec2Config", HEARD | {"pad_token_id": 0}, waves),
    "HubertForSequenceClassification": (AUDIO, "HubertConfig", HEARD | {"classifier_proj_size": 16}, masked_waves),
    "WavLMForSequenceClassification": (AUDIO, "WavLMConfig", HEARD | {"classifier_proj_size": 16}, masked_waves),
    "WhisperForConditionalGeneration": (
        AUDIO, "WhisperConfig", BETWEEN | {"num_mel_bins": 8, "max_source_positions": 16,
         "max_target_positions": 16,
                                           "suppress_tokens": None, "begin_suppress_tokens": None}, spectra,
    ),
    "Speech2TextForConditionalGeneration": (
        AUDIO, "Speech2TextConfig",
        BETWEEN | {"input_feat_per_channel": 8, "conv_channels": 16, "max_source_positions": 32,
                   "max_target_positions": 32}, padded_spectra,
    ),
    "ASTForAudioClassification": (
        AUDIO, "ASTConfig", VIT | {"num_mel_bins": 16, "max_length": 32, "frequency_stride": 8, "time_stride": 8},
        spectra_in_time,
    ),
    "PatchTSTForPrediction": (
        SERIES, "PatchTSTConfig",
        {"num_input_channels": 2, "context_length": 32, "patch_length": 8, "patch_stride": 8, "d_model": 32,
         "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 48, "prediction_length": 8,
          "loss": "mse"}, past,
    ),
    "DecisionTransformerModel": (
        SERIES, "DecisionTransformerConfig",
        {"state_dim": 5, "act_dim": 2, "hidden_size": 32, "n_layer": 2, "n_head": 4, "max_ep_len": 16,
         "n_positions": 32},
        played,
    ),
}  # fmt: skip


def hugging_face() -> Iterator[Architecture]:
    """Yield the architectures of the package."""
    for name, (family, config, settings, inputs) in MODELS.items():
        yield Architecture(name, family, PACKAGE, partial(made, name, config, settings), inputs)
