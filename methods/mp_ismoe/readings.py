"""What MP-ISMoE's paper leaves open, and how it is read here; torch-free.

Figures are of the paper's equations on single layers, or on all-MiniLM-L6-v2 with 256 calibration
and 512 held-out sentences of SST-2; ``harness noise`` measures the latter.
"""

from harness.cards import Reading

READINGS = (
    Reading(
        place="Eq. 1",
        question="The printed brackets round down.",
        taken="To the nearest code. Rounding down has four times the squared error (s^2 / 3 "
        "against s^2 / 12) and shifts every weight by s / 2.",
        fields=("rounding",),
    ),
    Reading(
        place="Eq. 2",
        question="A range that misses 0 clamps the zero point; of weights from 1 to 2, every one "
        "becomes 1.",
        taken="A range is widened to hold 0; the zero point is rounded, then clamped.",
        fields=("range",),
    ),
    Reading(
        place="Eq. 2",
        question="Which weights share a scale and a zero point.",
        taken="Those of an output channel: an outlier then spoils its own row alone.",
        fields=("granularity", "group_size"),
    ),
    Reading(
        place="GNP-IQ",
        question="Which tensors are quantised; literally all but norms.",
        taken="Weights of linear layers, convolutions and embeddings. Norms stay as they are, and "
        "so do biases and tables of positions but with tensors=all. The embedding has 8 bits, its "
        "tied head included: without it T5-base's frozen weights take 0.334, 0.223 and 0.168 of "
        "fp32 at 8, 4 and 2 bits, with it 0.251, 0.140 and 0.085.",
        fields=("embedding_bits", "tensors"),
    ),
    Reading(
        place="Fig. 1, Table 4",
        question="The bit-width: 8 in the figure, low-bit elsewhere.",
        taken="8 for the backbone.",
        fields=("bits",),
    ),
    Reading(
        place="Table 4",
        question="What Low-Pre and Mixed-Pre store, and which 16-bit form the side network has.",
        taken="By default what train.amp says: bf16 autocast over fp32 weights where the device "
        "computes bf16 natively. Mixed-Pre is that autocast everywhere, with fp32 norms; Low-Pre "
        "leaves no fp32 weight, neither norms nor biases nor side network.",
        fields=("precision",),
    ),
    Reading(
        place="re-quantisation",
        question="What p percent of the weights are: single ones have no scale of their own.",
        taken="p percent of the output channels. With codes, single weights under the scale and "
        "zero point that they have.",
        fields=("sample_unit",),
    ),
    Reading(
        place="re-quantisation",
        question="The values of p and M, which are in a version that is not public.",
        taken="p = 10, and one round, halfway: each round makes stored features worthless.",
        fields=("sample_percent", "requantize_every"),
    ),
    Reading(
        place="re-quantisation",
        question="Whether full-precision weights are kept. Frozen weights that are quantised again "
        "without noise give the same codes.",
        taken="They are read again from their file, one tensor at a time, and never stay in "
        "memory; noise is added to them afresh in every round.",
        fields=("master", "accumulate"),
    ),
    Reading(
        place="re-quantisation",
        question="Whether a round may make the codes worse.",
        taken="A channel keeps its new codes only where its error falls. The codes belong to the "
        "checkpoint of the best epoch, so that validation and test see one backbone.",
        fields=("accept",),
    ),
    Reading(
        place="GNP-IQ",
        question="A small portion of quantized weights are updated, though they are frozen.",
        taken="No gradient changes a quantised weight; rounds of noise alone change codes.",
    ),
    Reading(
        place="Eq. 4, Eq. 5",
        question="How mean and deviation of the noise are learned without a gradient in the "
        "backbone. By Eq. 4 their best values are no noise at all.",
        taken="Of 32 draws with a deviation of 0.1 s, one of them without noise, every output "
        "channel takes the best by its output error on calibration rows, where that falls. At 3 "
        "bits on MiniLM a single draw multiplies the output error by 1.14, the best of 64 by "
        "0.746; at 8 bits nothing is left to recover.",
        fields=("noise", "noise_scale", "noise_draws", "noise_steps", "calibration_rows"),
    ),
    Reading(
        place="Eq. 5",
        question="What shares a mean and a deviation, where they are learned.",
        taken="Nothing is learned by default; the mu settings learn a mean for each tensor, "
        "channel or weight, layer_recon a mean and a deviation.",
        fields=("noise",),
    ),
    Reading(
        place="Eq. 5",
        question="Whether the noise is also in the forward pass, as the figure draws it.",
        taken="It acts within a round alone, and stays in the codes.",
    ),
    Reading(
        place="Table 4",
        question="Whether noise recovers more than what needs none.",
        taken="The remedies without noise are settings. At 3 bits on MiniLM a clip search by "
        "output error leaves 0.45 of the output error, and GPTQ 0.461; on nine of its layers "
        "selected noise takes the clip search from 0.470 to 0.414.",
        fields=("clip", "bias_correction", "init"),
    ),
    Reading(
        place="GNP-IQ",
        question="LayerNorm is trainable, and frozen elsewhere. Training it takes a backward pass "
        "through every block above, at the memory of BitFit, and not at the published one.",
        taken="The backbone's norms are frozen; a copy of a stream's final norm trains behind the "
        "upsampler. late_only trains those of the block that host=sherl runs with gradients; "
        "counted_no_grad counts all, as the published figure on T5-base does. True training of "
        "all is no setting: it would need that backward pass.",
        fields=("train_norms",),
    ),
    Reading(
        place="Eq. 7",
        question="What Norm is; its result is averaged with probabilities.",
        taken="softmax(tau cos(h0, r)), tau learned from the root of D: T5's h0, which has no "
        "norm, saturates the scaled product, and BERT's leaves it uniform.",
        fields=("correlation_norm",),
    ),
    Reading(
        place="Eq. 7",
        question="The shapes in h0 x r, and who trains.",
        taken="r holds one vector for each expert and trains from N(0, 0.02^2); h0 is one token of "
        "a row, without a graph, and all tokens of the row share its correlation.",
        fields=("correlation_width",),
    ),
    Reading(
        place="Eq. 7, Eq. 8",
        question="Whether it is the salient token that helps, and not a bias for each expert.",
        taken="It joins the router; leaving it out, a constant vector, and another row's token are "
        "controls.",
        fields=("correlation",),
    ),
    Reading(
        place="Eq. 7",
        question="What h0 is where a stream has no [CLS].",
        taken="T5: the mean of the encoder's tokens, the decoder's first token, which is all that "
        "a causal stream may use. Maps: their mean. CLIP's text: its end token. MDETR: the "
        "encoder's first token of the text, which is RoBERTa's, and the mean of the objects.",
        fields=("salient_token",),
    ),
    Reading(
        place="Fig. 1",
        question="Which layer h0 comes from.",
        taken="The hidden state that feeds the experts.",
        fields=("salient_layer",),
    ),
    Reading(
        place="Eq. 6, Eq. 8",
        question="The same process as Eq. 6 applies a second softmax, to probabilities: the "
        "largest weight is then 0.57 in the mean, and not 0.68.",
        taken="The k largest g' choose the experts; the weights are these g' over their sum.",
        fields=("router_weight", "router_temperature", "router_bias"),
    ),
    Reading(
        place="Fig. 1",
        question="k. The figure uses one expert, but the softmax of one number is 1, and router "
        "and r get no gradient.",
        taken="k = 2. With k = 1 the weight is g' itself, as in Switch Transformers.",
        fields=("top_k",),
    ),
    Reading(
        place="Fig. 1",
        question="N, whose effect is shown in a version that is not public.",
        taken="Four, as drawn.",
        fields=("experts",),
    ),
    Reading(
        place="ISMoE",
        question="What replicating the side network's feed-forward network starts from.",
        taken="On LST, copies of one network with noise of 0.05 of its weights' deviation. UniPT "
        "and SHERL have nothing to copy, and their experts start apart.",
        fields=("expert_init", "jitter"),
    ),
    Reading(
        place="ISMoE",
        question="Whether the load of the experts is balanced.",
        taken="It is not; load, entropy and dead experts are recorded.",
        fields=("load_balance",),
    ),
    Reading(
        place="ISMoE, Fig. 1",
        question="Where the experts stand on UniPT and SHERL, whose side networks have no "
        "feed-forward network, and how wide they are.",
        taken="On UniPT in place of the projection, on SHERL behind the sum of tiers, each with a "
        "norm; on LST in place of every block's feed-forward network. An expert is m-4m-m without "
        "biases.",
        fields=("host", "placement", "expert_hidden"),
    ),
    Reading(
        place="ISMoE",
        question="How sparse the experts are computed.",
        taken="Each works on its own tokens, so that k experts' activations are saved, and not N.",
        fields=("dispatch",),
    ),
    Reading(
        place="Fig. 1",
        question="The last hidden state of the backbone is added before the head; the hosts on T5 "
        "add none.",
        taken="As on the host: it is not added.",
        fields=("join",),
    ),
    Reading(
        place="Fig. 1",
        question="Add and Norm behind the sub-layers of a side block; T5's stand before.",
        taken="Where the backbone has them.",
        fields=("block_norm",),
    ),
)
"""In the order of the paper: quantisation, noise, norms, routing, experts, what surrounds them."""
