"""Networks of the Hugging Face hub: from a local snapshot, with all of their weights or none."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from torch_experiments import certify
from torch_experiments.support import hub

transformers = pytest.importorskip("transformers")

TEXT = {"vocab_size": 11, "n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 32}


@pytest.fixture
def snapshot(tmp_path):
    """A folder as the hub has it: configuration and safetensors; the embedding is tied to the head."""
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**TEXT))
    with torch.no_grad():  # the second unit of the block is a copy of the first
        for tensor, dim in (
            (model.transformer.h[0].mlp.c_fc.weight, 1),
            (model.transformer.h[0].mlp.c_proj.weight, 0),
        ):
            tensor.select(dim, 1).copy_(tensor.select(dim, 0))
    model.save_pretrained(tmp_path)
    return tmp_path


def edited(folder, change):
    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, {"format": "pt"})


def test_a_snapshot_is_the_model_that_was_saved_and_its_copies_are_found(snapshot):
    model = hub.pretrained(str(snapshot))
    assert type(model).__name__ == "GPT2LMHeadModel"
    assert torch.equal(
        model.transformer.wte.weight, load_file(snapshot / "model.safetensors")["transformer.wte.weight"]
    )
    found = certify(model, hub.example(model, (5,), 3, 0), parts=("optimizer",))
    assert [name for name, count in found.blocks.copied().items() if name.endswith("c_fc.bias") and count == 31]


def test_weights_that_are_missing_are_not_drawn(snapshot):
    edited(snapshot, lambda tensors: tensors.pop("transformer.h.0.mlp.c_fc.weight"))
    with pytest.raises(ValueError, match=r"hf: .* has no weights for transformer\.h\.0\.mlp\.c_fc\.weight, which"):
        hub.pretrained(str(snapshot))


def test_weights_of_another_shape_are_refused(snapshot):
    edited(snapshot, lambda tensors: tensors.update({"transformer.ln_f.bias": torch.zeros(3)}))
    with pytest.raises(ValueError, match=r"hf: "):
        hub.pretrained(str(snapshot))


def test_a_damaged_file_a_missing_one_and_an_unknown_class_are_named(snapshot):
    configuration = snapshot / "config.json"
    kept = json.loads(configuration.read_text())
    configuration.write_text(json.dumps(kept | {"architectures": ["MadeUpModel"]}))
    with pytest.raises(ValueError, match=r"hf: .* is a MadeUpModel, which transformers .* does not have"):
        hub.pretrained(str(snapshot))
    configuration.write_text(json.dumps(kept))
    (snapshot / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"hf: .* cannot be read"):
        hub.pretrained(str(snapshot))
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"hf: .* cannot be read"):
        hub.pretrained(str(snapshot))
    with pytest.raises(ValueError, match=r"hf: 'a/b/c' is no folder and no ORG/NAME"):
        hub.pretrained("a/b/c")


def test_examples_fit_text_translation_and_images():
    t5 = transformers.T5Config(vocab_size=9, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    t5.decoder_start_token_id = 0
    vit = transformers.ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    vit.image_size, vit.patch_size = 16, 8
    for model in (transformers.T5ForConditionalGeneration(t5), transformers.ViTModel(vit)):
        model(**hub.example(model.eval(), (), 2, 0))


def test_a_shape_that_nothing_tells_has_to_be_given():
    whisper = transformers.WhisperConfig(d_model=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2)
    with pytest.raises(ValueError, match=r"input: is missing; give the shape of one input_features"):
        hub.example(transformers.WhisperForAudioClassification(whisper), (), 2, 0)
