"""Causal language models: LayerIDGI behind Captum's own call, and FullGrad by token, exact in float32."""

from __future__ import annotations

import pytest
import torch
from captum.attr import LayerIntegratedGradients, TextTokenInput
from captum.attr import LLMGradientAttribution as CaptumLLMGradientAttribution

from captum_ext import FullGrad, LayerIDGI, LLMGradientAttribution

transformers = pytest.importorskip("transformers")
WORDS = ("<s>", "the", "cat", "sat", "on", "mat", "dog", "ran", "to", "a")


@pytest.fixture(scope="module")
def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers

    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<s>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<s>")


def random_llama():
    config = transformers.LlamaConfig(
        vocab_size=10,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32,
    )
    return transformers.LlamaForCausalLM(config)


def random_gpt2():
    config = transformers.GPT2Config(
        vocab_size=10, n_positions=32, n_embd=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0
    )
    return transformers.GPT2LMHeadModel(config)


@pytest.fixture(params=[random_llama, random_gpt2], ids=["llama", "gpt2"])
def model(request):
    torch.manual_seed(0)
    made = request.param().eval()
    with torch.no_grad():  # biases and scales of a fresh model are all 0 and 1
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def ids_of(*words):
    # Captum 0.7 takes the first token of a text for one that begins every text, which this tokenizer has not.
    return torch.tensor([WORDS.index(word) for word in words])


def log_probability(model, tokens, word):
    with torch.no_grad():
        return model(tokens).logits[0, -1].log_softmax(-1)[WORDS.index(word)]


def test_credits_sum_to_the_change_of_the_log_probability(model, tokenizer):
    prompt = TextTokenInput("the cat sat on", tokenizer)
    found = LLMGradientAttribution(LayerIDGI(model, model.get_input_embeddings()), tokenizer).attribute(
        prompt, target=ids_of("the"), n_steps=8, steps="adaptive"
    )
    tokens = torch.tensor([[1, 2, 3, 4]])
    expected = log_probability(model, tokens, "the") - log_probability(model, torch.zeros_like(tokens), "the")
    assert found.token_attr.shape == (1, 4)
    torch.testing.assert_close(found.token_attr.sum(), expected, rtol=0, atol=1e-5)
    assert found.input_tokens == ["the", "cat", "sat", "on"]


def test_each_token_of_an_answer_is_layer_idgi_of_its_own(model, tokenizer):
    method = LayerIDGI(model, model.get_input_embeddings())
    prompt = TextTokenInput("the cat sat on", tokenizer)
    found = LLMGradientAttribution(method, tokenizer).attribute(prompt, target=ids_of("the", "mat"), n_steps=8)

    def second_token(tokens):  # the answer's first token is part of the input by then
        answered = torch.cat([tokens, torch.full((len(tokens), 1), WORDS.index("the"))], 1)
        return model(answered).logits[:, -1].log_softmax(-1)[:, WORDS.index("mat")]

    alone = LayerIDGI(second_token, model.get_input_embeddings()).attribute(torch.tensor([[1, 2, 3, 4]]), n_steps=8)
    torch.testing.assert_close(found.token_attr[1], alone.sum(-1)[0, :4], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.seq_attr, found.token_attr.sum(0))


def test_captums_methods_give_what_captums_own_class_gives(model, tokenizer):
    method, prompt = (
        LayerIntegratedGradients(model, model.get_input_embeddings()),
        TextTokenInput("a dog ran", tokenizer),
    )
    ours, captums = (
        kind(method, tokenizer).attribute(prompt, target=ids_of("to"), n_steps=6)
        for kind in (LLMGradientAttribution, CaptumLLMGradientAttribution)
    )
    torch.testing.assert_close(ours.seq_attr, captums.seq_attr)
    with pytest.raises(AssertionError, match="does not support"):
        CaptumLLMGradientAttribution(LayerIDGI(model, model.get_input_embeddings()), tokenizer)


def test_what_has_no_place_in_the_result_is_refused(model, tokenizer):
    method = LLMGradientAttribution(LayerIDGI(model, model.get_input_embeddings()), tokenizer)
    with pytest.raises(ValueError, match="return_convergence_delta=True"):
        method.attribute(TextTokenInput("the cat", tokenizer), target="sat", return_convergence_delta=True)


def next_word_scores(model):
    return lambda embedded: model(inputs_embeds=embedded, use_cache=False).logits[:, -1]


@pytest.mark.parametrize("n_examples", [1, 2])
def test_full_gradients_by_token_sum_to_the_score_in_float32(model, n_examples):
    tokens = torch.tensor([[1, 2, 3, 4, 1], [9, 6, 7, 8, 1]])[:n_examples]
    embedded = model.get_input_embeddings()(tokens).detach()
    scores = next_word_scores(model)
    found = FullGrad(scores).attribute(embedded, target=5, projection="tokens")
    expected = scores(embedded)[:, 5].detach()
    assert found.dtype == torch.float32
    assert ((found.sum((1, 2)) - expected).abs() <= 1e-6 * expected.abs().clamp(min=1)).all()
    # No token is credited with many times the score, as it is where maps are sent back through normalisations.
    assert found.sum(2).abs().max() < 20 * expected.abs().max().clamp(min=1)


def test_layers_sum_to_the_score_in_float32(model):
    embedded = model.get_input_embeddings()(torch.tensor([[1, 2, 3, 4]])).detach()
    scores = next_word_scores(model)
    totals = [layer.total for layer in FullGrad(scores).layer_attributions(embedded, target=5).values()]
    torch.testing.assert_close(sum(totals), scores(embedded)[:, 5].detach(), rtol=0, atol=1e-6)


def test_a_bias_that_a_model_adds_to_one_token_stays_there():
    # The score is 2 x_1 of the second token plus a bias of 3 that only this token gets, and 1 for the whole text.
    def scores(x):
        shifted = x + torch.tensor([0.0, 3.0, 0.0]).reshape(1, 3, 1)
        return 2 * x[:, 1, 0] + shifted[:, 1, 0] + 1

    x = torch.tensor([[[1.0], [2.0], [3.0]]])
    found = FullGrad(scores).attribute(x, projection="tokens")
    # Input times gradient is 3 x_1 = 6; the one for the whole text is shared by three.
    torch.testing.assert_close(found, torch.tensor([[[1 / 3], [9 + 1 / 3], [1 / 3]]]))


@pytest.mark.parametrize(
    "inputs", [torch.rand(2, 3), torch.rand(2, 3, 4, 4), (torch.rand(2, 3, 4), torch.rand(2, 3, 4))]
)
def test_tokens_are_of_embedded_text(inputs):
    with pytest.raises(ValueError, match=r"\(N, T, E\)"):
        FullGrad(lambda *x: x[0].flatten(1).sum(1)).attribute(inputs, projection="tokens")
