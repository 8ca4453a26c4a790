"""Captum's attribution of a language model's answer, with LayerIDGI among the methods that it takes."""

from __future__ import annotations

from typing import Any

from captum.attr import LLMAttributionResult
from captum.attr import LLMGradientAttribution as CaptumLLMGradientAttribution

from captum_ext._errors import InvalidArgumentError
from captum_ext.attr.path.layer_idgi import LayerIDGI


class LLMGradientAttribution(CaptumLLMGradientAttribution):
    """``captum.attr.LLMGradientAttribution``, which takes `captum_ext.LayerIDGI` too.

    For each token of an answer, the change of its log probability between a baseline prompt and the prompt is credited
    to the prompt's tokens, and added up for the whole answer. With `captum_ext.LayerIDGI` a number says where the
    change came from, not which tokens speak for or against; for that take ``captum.attr.LayerIntegratedGradients``.
    Tokens of the answer that stand before the explained one are part of the model's input and credited too, but left
    out of the result, as Captum does for every method.

    Parameters
    ----------
    attr_method
        `captum_ext.LayerIDGI`, or one of the methods that Captum's class takes, made for the model and its embedding
        layer.
    tokenizer
        The model's, with the interface of the transformers library.

    Raises
    ------
    AssertionError
        The method is none of these.

    Examples
    --------
    >>> LayerIDGI in LLMGradientAttribution.SUPPORTED_METHODS
    True

    With a model and a tokenizer of the transformers library::

        method = LayerIDGI(model, model.get_input_embeddings())
        found = LLMGradientAttribution(method, tokenizer).attribute(
            TextTokenInput("The capital of France is", tokenizer), target=" Paris", n_steps=32, steps="adaptive"
        )
        found.plot_token_attr()
    """

    SUPPORTED_METHODS = (*CaptumLLMGradientAttribution.SUPPORTED_METHODS, LayerIDGI)

    def attribute(self, inp: Any, *arguments: Any, **keywords: Any) -> LLMAttributionResult:
        """Attribute an answer to the tokens of a prompt.

        Parameters
        ----------
        inp
            ``captum.attr.TextTokenInput``.
        *arguments, **keywords
            As Captum's own method takes them: ``target``, the answer, a text or token ids, else what the model
            generates; ``gen_args``; and what ``attribute`` of the method takes, such as ``n_steps``.

        Returns
        -------
        LLMAttributionResult
            ``token_attr`` of shape (tokens of the answer, tokens of the prompt), ``seq_attr`` of shape (tokens of the
            prompt,).

        Raises
        ------
        InvalidArgumentError
            Something is asked for that has no place in the result, such as a convergence delta.
        """
        asked = [name for name, value in keywords.items() if name.startswith("return_") and value]
        if asked:
            raise InvalidArgumentError(
                f"{asked[0]}=True was given: the result of a language model's attribution has no place for it. Ask the "
                "method itself, with a function of the token ids."
            )
        return super().attribute(inp, *arguments, **keywords)
