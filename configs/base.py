"""The one base that every config is built from; all fields and what they mean.

Fields left at a "0 or '' means ..." value are derived by `lm.config.resolve`.
"""

from ml_collections import ConfigDict


def base() -> ConfigDict:
    """Returns the defaults: a 0.2M-parameter Llama-shaped model on the embedded corpus."""
    c = ConfigDict()

    # What people reach for first.
    c.seed = 0
    c.steps = 1000
    c.batch_size = 16  # sequences in one optimizer step, over all devices and hosts
    c.seq_len = 128  # tokens in a sequence
    c.learning_rate = 4e-3  # peak, at width optim.base_width; wider layers get less (lm/optim.py)
    c.checkpoint_every = 250  # steps; 0: only at the end and when stopped
    c.mesh = "data:-1"  # e.g. 'data:2,fsdp:4,tensor:2'; -1 takes the devices that are left
    c.objective = "causal"

    c.data = ConfigDict()
    c.data.path = ""  # '': embedded corpus; a folder or file of text; 'tfds:NAME'
    c.data.vocab_size = 1024
    c.data.model_type = "bpe"  # sentencepiece: 'bpe' or 'unigram'
    c.data.limit_mb = 0.0  # read only about this much text; 0: all of it
    c.data.valid_share = 0.025  # of each kind's text, where the data name no split
    c.data.max_epochs = 4.0  # refuse a budget that would read the text more often
    c.data.mixture = ""  # 'books:2,web:1': token weights of kinds; 'all': by size; '': as it is
    c.data.temperature = 1.0  # of a mixture: weights^(1/temperature)
    c.data.cache = "out/cache"  # tokenizers and token stores, by content hash

    c.model = ConfigDict()
    c.model.arch = ""  # 'decoder', 'encoder', 'encoder-decoder'; '': what the objective trains
    c.model.layers = 3  # of the decoder, or of an encoder alone
    c.model.enc_layers = 0  # of the encoder beside a decoder; 0: as many as layers
    c.model.width = 64
    c.model.heads = 4
    c.model.kv_heads = 0  # 0: as many as heads; fewer: grouped-query attention
    c.model.head_dim = 0  # 0: width / heads
    c.model.mlp = 0  # hidden size; 0: 4 x width, or 8/3 x width rounded to 16 when gated
    c.model.activation = "silu"  # 'silu', 'gelu' (exact), 'gelu_tanh', 'relu'
    c.model.gated = True
    c.model.norm = "rms"  # 'rms' or 'layer'
    c.model.norm_eps = 1e-6
    c.model.post_norm = False  # normalise after each sum (BERT), not before each part
    c.model.embed_norm = False  # normalise embeddings; a pre-norm first layer then attends bare
    c.model.position = "rotary"  # 'rotary', 'learned', 'relative' (T5) or 'none'
    c.model.rope_theta = 10_000.0
    c.model.rope_factor = 1.0  # more: slow frequencies are divided by it (Llama 3.1) ...
    c.model.rope_low_freq = 1.0  # ... wholly below so many turns in rope_original positions
    c.model.rope_high_freq = 4.0  # ... not at all above so many
    c.model.rope_original = 8192
    c.model.max_positions = 0  # of learned positions; 0: seq_len
    c.model.types = 0  # of embeddings by kind of segment (BERT: 2); 0: none
    c.model.global_every = 0  # n: layers 0, n, 2n ... see all, the others model.window; 0: all do
    c.model.window = 64  # a local layer sees so many positions to either side
    c.model.local_rope_theta = 10_000.0  # of local layers
    c.model.scale_attention = True  # queries by head_dim^-0.5; T5 has that in its initial weights
    c.model.bias = False  # on projections; layer norms then have one too
    c.model.qk_norm = False  # normalise queries and keys over each head
    c.model.tie_embeddings = False  # tied: the output head is the token table
    c.model.scale_logits = False  # by width^-0.5, as T5 1.0 before its tied head
    c.model.mlm_head = False  # BERT's: dense, activation and norm before the head; a bias on it
    c.model.vocab_size = 0  # 0: data.vocab_size; more: padded for the hardware
    c.model.dtype = "float32"  # of the computation; parameters are always float32
    c.model.scan = False  # one compiled layer looped over, instead of all unrolled
    c.model.remat = "none"  # or what a layer keeps: 'minimal', 'attention', 'offload', 'full'

    c.optim = ConfigDict()
    c.optim.schedule = "wsd"  # 'wsd', 'cosine' or 'constant'
    c.optim.warmup = 0  # steps; 0: as many tokens as parameters, at most a tenth of the steps
    c.optim.decay_share = 0.2  # wsd: the last share of the steps cools down to final_lr
    c.optim.power = 0.0  # wsd: the plateau falls as tokens^-power; 0: it is constant
    c.optim.power_tokens = 250_000  # after this many tokens (lm/optim.py)
    c.optim.final_lr = 0.0  # as a share of the peak
    c.optim.base_width = 64  # the width at which learning_rate was tuned
    c.optim.beta1 = 0.9
    c.optim.beta2 = 0.95
    c.optim.eps = 1e-8
    c.optim.weight_decay = 0.1
    c.optim.clip = 1.0  # of the global gradient norm; 0: no clipping
    c.optim.z_loss = 1e-4
    c.optim.microbatches = 1  # gradient accumulation: parts of the batch, one after another

    # What the objectives hide (data/objectives.py); each section counts for its own only.
    c.masked = ConfigDict()
    c.masked.rate = 0.15  # of the tokens; ModernBERT: 0.3
    c.masked.whole_words = False
    c.span = ConfigDict()
    c.span.density = 0.15  # share of the tokens that becomes noise
    c.span.mean_length = 3.0  # tokens in a span of noise
    c.prefix = ConfigDict()
    c.prefix.shortest = 0.25  # share of a window; prefixes are evenly long from this ...
    c.prefix.longest = 0.75  # ... to this
    c.ul2 = ConfigDict()
    c.ul2.denoisers = ""  # mode:mean span:share, ...; '': those of the paper (data/spans.py)

    c.train = ConfigDict()
    c.train.steps_per_call = 8  # optimizer steps in one call of the compiled program
    c.train.loss_chunk = 0  # positions of a sequence whose logits exist at a time; 0: all
    c.train.log_every = 50
    c.train.eval_every = 250
    c.train.eval_tokens = 200_000  # 0: the whole validation split
    c.train.keep_checkpoints = 2
    c.train.on_nonfinite = "stop"  # 'stop', or 'skip' that update and say so
    return c
