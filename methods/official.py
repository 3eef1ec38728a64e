"""Training protocols that the sources of several methods share, in words; torch-free."""

_GLUE = (
    "AdamW without weight decay, 500 warm-up steps, then linear decay, gradient norm at most 1, "
    "batch 100, fp32, sources of at most 128 tokens; 20 epochs on CoLA, RTE, MRPC and STS-B, 10 on "
    "SST-2, QNLI, QQP and MNLI"
)


def glue(setting: str, seeds: str = "0, 1, 2") -> dict[str, str]:
    """Return the protocol of LST's repository on T5, behind a method's own setting."""
    return {"GLUE on T5-base and T5-large": f"{setting}; {_GLUE}; seeds {seeds}"}


def hosts(vse: str, clip4clip: str, clip_vil: str, mdetr: str) -> dict[str, str]:
    """Return UniPT's protocols on the vision-language hosts, behind a method's own settings."""
    return {
        "retrieval of Flickr30K and MSCOCO on VSE (BERT-base, ResNeXt-101)": (
            f"{vse}; AdamW at 5e-4, times 0.1 at epoch 15; batch 112, 25 epochs; 512 x 512 pixels; "
            "hinge loss with margin 0.2, gradient norm at most 2; fp32"
        ),
        "retrieval of MSR-VTT and MSVD on CLIP4Clip (ViT-B/32)": (
            f"{clip4clip}; BertAdam at 1e-4 (betas 0.9 and 0.98, epsilon 1e-6), warm-up over 10 %, "
            "then cosine; batch 128, 5 epochs; 12 frames, 32 words; symmetric InfoNCE, gradient "
            "norm at most 1; CLIP in fp16, side network in fp32"
        ),
        "VQAv2 and GQA on CLIP-ViL": (
            f"{clip_vil}; AdamW (epsilon 1e-6, weight decay 0.01), warm-up over 5 %, then linear "
            "decay; batch 1,024, 5 epochs; 384 x 640 pixels, 20 text tokens; gradient norm at "
            "most 1; mixed fp16"
        ),
        "RefCOCO, RefCOCO+ and RefCOCOg on MDETR": (
            f"{mdetr}; AdamW at 5e-4, heads at 5e-5, times 0.1 at epoch 5; batch 8, 10 epochs; "
            "shorter side 480 to 800 pixels; gradient norm at most 0.1, moving average 0.9998; fp32"
        ),
    }
