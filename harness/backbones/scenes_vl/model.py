"""The bundled model: image, text and joint streams of width 128, without convolutions.

Attention is written out ("eager") everywhere, so that every saved activation is a tensor that the
memory tracker can see.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from timm.models.vision_transformer import VisionTransformer
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertConfig, BertModel
from transformers.models.bert.modeling_bert import BertLayer

from harness.backbones.base import (
    AttentionNames,
    Backbone,
    Inputs,
    StreamSpec,
    StreamState,
    Tap,
    Text,
)
from harness.backbones.constants import keep_constants_as_buffers
from harness.backbones.parts import (
    attention_bias,
    bert_attentions,
    bert_sublayers,
    image_inputs,
    joint_mask,
    layer_norms,
    linear_layers,
    prepend,
)
from harness.backbones.scenes_vl import ScenesVLConfig
from harness.backbones.scenes_vl.checkpoint import (
    TOKENIZER_FILE,
    WEIGHTS_FOLDER,
    read_projection,
    read_weights,
    weights_folder,
)
from harness.backbones.scenes_vl.stem import GRID, IMAGE_SIZE, PatchStem
from harness.backbones.scenes_vl.text import encode_texts, load_tokenizer, whole_rows
from harness.backbones.source_task import SourceTask
from harness.registry import Config

_MLP_RATIO = 4


class JointEncoder(nn.Module):
    """Self-attention over text and image tokens together (one stream, LXMERT's inputs).

    Args:
        config: Configuration of its BERT layers.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.modality = nn.Embedding(2, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.layer = nn.ModuleList(BertLayer(config) for _ in range(config.num_hidden_layers))

    def embed(self, text: Tensor, image: Tensor) -> Tensor:
        """Concatenates text [B, T, D] and image [B, I, D] tokens to [B, T + I, D]."""
        kinds = self.modality.weight  # [2, D]
        return self.norm(torch.cat([text + kinds[0], image + kinds[1]], dim=1))


class ScenesVL(Backbone):
    """The bundled vision-language backbone.

    Args:
        config: Its sizes.
    """

    config_class = ScenesVLConfig

    def __init__(self, config: ScenesVLConfig) -> None:
        super().__init__()
        self.config = config
        width, ffn, heads = config.width, _MLP_RATIO * config.width, config.heads
        self.specs = (
            StreamSpec("image", width, config.image_layers, heads, ffn, modality="image"),
            StreamSpec("text", width, config.text_layers, heads, ffn, modality="text"),
            StreamSpec("joint", width, config.joint_layers, heads, ffn, sources=("text", "image")),
        )
        self.image = VisionTransformer(
            img_size=IMAGE_SIZE,
            num_classes=0,
            embed_dim=width,
            depth=config.image_layers,
            num_heads=heads,
            mlp_ratio=_MLP_RATIO,
            proj_drop_rate=config.dropout,
            attn_drop_rate=config.dropout,
            embed_layer=PatchStem,
        )
        for block in self.image.blocks:
            block.attn.fused_attn = False
        self.text = BertModel(_bert_config(config, config.text_layers), add_pooling_layer=False)
        self.joint = JointEncoder(_bert_config(config, config.joint_layers))
        keep_constants_as_buffers(self)
        self.apply(_initialise)
        nn.init.normal_(self.image.pos_embed, std=0.1)

    @classmethod
    def build(
        cls, config: Config, *, weights: str | None = None, device: str | torch.device = "cpu"
    ) -> "ScenesVL":
        """Builds the backbone; see `Backbone.build`.

        Args:
            config: A `ScenesVLConfig`.
            weights: None for the bundled weights, `"random"`, or a folder like the bundled one.
            device: Where to build; `"meta"` makes shapes without weights.

        Returns:
            The backbone in evaluation mode.

        Raises:
            UserError: If the weight file is missing, damaged, or of other sizes.
        """
        assert isinstance(config, ScenesVLConfig)
        device = torch.device(device)
        if device.type == "meta":
            with device:
                return cls(config).eval()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            backbone = cls(config)
        if weights == "random":
            backbone.weights_hash = f"random:{config.seed}"
        else:
            folder = weights_folder(weights)
            backbone.weights_path, backbone.weights_hash = read_weights(backbone, folder)
        return backbone.to(device).eval()

    def encode(
        self,
        stream: str,
        inputs: Inputs,
        states: Mapping[str, StreamState],
        *,
        taps: bool = False,
        prompt: Tensor | None = None,
        cache: Any = None,  # noqa: ARG002 - no stream writes text
    ) -> StreamState:
        """Encodes one stream; see `Backbone.encode`.

        Args:
            stream: `image`, `text` or `joint`.
            inputs: `pixels` uint8 or float [B, 3, 64, 64]; `input_ids` and `attention_mask` long
                [B, T]. The joint stream reads none.
            states: For the joint stream, the states of `text` and `image`.
            taps: Whether to keep the hidden states.
            prompt: [P, D], put before the tokens of the text stream. The joint stream reads the
                text's own tokens.
            cache: Unused.

        Returns:
            The state, with `depth + 1` taps or none.
        """
        if stream == "image":
            hidden, mask = self._embed_image(inputs["pixels"]), None
        elif stream == "text":
            hidden, mask = (
                self.text.embeddings(inputs["input_ids"]),
                inputs["attention_mask"].bool(),
            )
        else:
            text, image = states["text"], states["image"]
            hidden = self.joint.embed(text.output[:, text.content], image.output)
            mask = joint_mask(text, image)
        hidden, mask, content = prepend(prompt, hidden, mask)
        bias = attention_bias(mask, hidden.dtype)
        kept = [hidden] if taps else []
        for block in self._blocks(stream):
            hidden = block(hidden) if stream == "image" else block(hidden, bias)
            if taps:
                kept.append(hidden)
        output = self.image.norm(hidden) if stream == "image" else hidden
        return StreamState(
            output=output,
            mask=mask,
            salient=output[:, content.start or 0],
            content=content,
            taps=tuple(_tap(stream, value, mask) for value in kept),
        )

    def select_salient(
        self,
        stream: str,  # noqa: ARG002 - every stream starts with [CLS]
        output: Tensor,
        mask: Tensor | None,  # noqa: ARG002
    ) -> Tensor:
        """Returns the [CLS] token [B, D], the first of every stream."""
        return output[:, 0]

    def projection(self, stream: str) -> nn.Linear | None:
        """Returns the contrastive projection that pretraining ended with; see the base class."""
        if self.weights_path is None or stream == "joint":
            return None
        return read_projection(self.weights_path, stream)

    def source_task(self, reads: Sequence[str]) -> SourceTask | None:
        """Returns what pretraining asked of these streams; see `Backbone.source_task`."""
        # Imported here: what it draws is labelled by this module's grid.
        from harness.backbones.scenes_vl.source_task import source_task

        return None if self.weights_path is None else source_task(self, self.weights_path, reads)

    def processors(self) -> Mapping[str, Callable[[Any], Inputs]]:
        """Returns the functions from images and texts to inputs; see `Backbone.processors`."""
        return {"image": _process_images, "text": self._process_texts}

    @classmethod
    def text_positions(cls, config: Config) -> int:
        """Returns the rows of the table of positions; see `Backbone.text_positions`."""
        assert isinstance(config, ScenesVLConfig)
        return config.max_tokens

    def cuts(self, texts: Sequence[Text]) -> list[bool]:
        """Returns which texts have more than `max_tokens` tokens; see `Backbone.cuts`."""
        rows = whole_rows(self._tokenizer(), texts)
        sizes = [1 + sum(len(part) + 1 for part in parts) for parts in rows]
        return [size > self.config.max_tokens for size in sizes]

    def blocks(self, stream: str) -> Sequence[str]:
        """Returns the module names of a stream's blocks, in order."""
        prefix = {"image": "image.blocks", "text": "text.encoder.layer", "joint": "joint.layer"}
        return [f"{prefix[stream]}.{i}" for i in range(self.spec(stream).depth)]

    def sublayers(self, stream: str) -> Sequence[str]:
        """Returns the attention and feed-forward outputs of every block, in order."""
        blocks = self.blocks(stream)
        if stream != "image":
            return bert_sublayers(blocks)
        return [f"{block}.{part}" for block in blocks for part in ("attn", "mlp")]

    def attentions(self, stream: str) -> Sequence[AttentionNames]:
        """Returns the projections of every block's attention; the image's are one fused layer."""
        blocks = self.blocks(stream)
        if stream != "image":
            return bert_attentions(blocks)
        fused = [(f"{block}.attn.qkv", f"{block}.attn.proj") for block in blocks]
        return [AttentionNames(qkv, qkv, qkv, output) for qkv, output in fused]

    def run_late(
        self,
        stream: str,
        hidden: Tensor,
        mask: Tensor | None,
        *,
        memory: Tensor | None = None,  # noqa: ARG002 - no stream reads another across
        memory_mask: Tensor | None = None,  # noqa: ARG002
        cache: Any = None,  # noqa: ARG002
    ) -> Tensor:
        """Runs the last block of a stream; see `Backbone.run_late`."""
        last = self._blocks(stream)[-1]
        if stream == "image":
            return last(hidden)
        return last(hidden, attention_bias(mask, hidden.dtype))

    def norms(self, stream: str) -> Sequence[str]:
        """Returns the module names of a stream's normalisation layers."""
        return layer_norms(self, stream)

    def embedding_of(self, stream: str) -> str:  # noqa: ARG002 - one stream reads text
        """Returns the name of the word embedding."""
        return "text.embeddings.word_embeddings"

    def quantizable(self) -> Sequence[str]:
        """Returns the names of all linear layers and of the word embedding."""
        return [*linear_layers(self), "text.embeddings.word_embeddings"]

    def position_embeddings(self) -> Sequence[str]:
        """Returns the names of the text's embeddings of positions and of its one kind."""
        kinds = ("position_embeddings", "token_type_embeddings")
        return [f"text.embeddings.{kind}" for kind in kinds]

    def _blocks(self, stream: str) -> list[nn.Module]:
        return [self.get_submodule(name) for name in self.blocks(stream)]

    def _embed_image(self, pixels: Tensor) -> Tensor:
        """Turns pixels in [0, 255] into [CLS] and image tokens [B, 17, D] with positions."""
        tokens = self.image.patch_embed(pixels.float() / 127.5 - 1.0)  # [B, 16, D]
        start = self.image.cls_token.expand(tokens.shape[0], -1, -1)
        return torch.cat([start, tokens], dim=1) + self.image.pos_embed

    def _process_texts(self, texts: Sequence[Text]) -> Inputs:
        return encode_texts(self._tokenizer(), texts, self.config.max_tokens)

    def _tokenizer(self) -> Tokenizer:
        folder = WEIGHTS_FOLDER if self.weights_path is None else self.weights_path.parent
        return load_tokenizer(folder / TOKENIZER_FILE)


def _process_images(images: np.ndarray) -> Inputs:
    """Turns uint8 images [n, H, W, 3] into pixels [n, 3, 64, 64], resized where they must."""
    inputs = image_inputs(images)
    pixels = inputs["pixels"]
    size = (IMAGE_SIZE, IMAGE_SIZE)
    if pixels.shape[2:] == size:
        return inputs
    resized = functional.interpolate(pixels.float(), size, mode="bilinear", antialias=True)
    return {"pixels": resized.round().to(torch.uint8)}


def _bert_config(config: ScenesVLConfig, layers: int) -> BertConfig:
    return BertConfig(
        vocab_size=config.vocabulary,
        hidden_size=config.width,
        num_hidden_layers=layers,
        num_attention_heads=config.heads,
        intermediate_size=_MLP_RATIO * config.width,
        max_position_embeddings=config.max_tokens,
        type_vocab_size=1,
        hidden_dropout_prob=config.dropout,
        attention_probs_dropout_prob=config.dropout,
        attn_implementation="eager",
    )


def _initialise(module: nn.Module) -> None:
    """Keeps the variance of activations: the libraries' 0.02 is made for widths near 768."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=module.in_features**-0.5)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=0.05)


def _tap(stream: str, value: Tensor, mask: Tensor | None) -> Tap:
    if stream != "image":
        return Tap(value, mask=mask)
    return Tap(value, grid=(GRID, GRID), stride=IMAGE_SIZE // GRID)
