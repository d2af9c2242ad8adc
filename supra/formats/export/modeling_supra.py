# SPDX-License-Identifier: Apache-2.0
"""SUPRA students in PyTorch: what `supra convert STUDENT -o OUT --to transformers` puts beside the weights.

    model = AutoModelForCausalLM.from_pretrained(OUT, trust_remote_code=True)

This is a second, short definition of every layer. The first is the C++ (nn/decoder.h, supra/*_attention.h), where parameters and
keys of the config have the same names, so that the program reads back what is trained here. B batch, T time, C width, H query heads,
G key/value heads, K and V dims of a head's key and value. A mixer is forward(x, steps, state) -> (y, state). Without a state the
texts begin in this call, and none is kept.
"""
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

class SupraConfig(PretrainedConfig):
    """`supra` is the program's own description of the model (nn/config.h), key by key."""
    model_type = "supra"
    def __init__(self, supra=None, **kwargs):
        self.supra = dict(supra or {})
        super().__init__(**kwargs)

for _name, _key in {"vocab_size": "vocab", "hidden_size": "width", "num_hidden_layers": "layers", "num_attention_heads": "heads",
                    "num_key_value_heads": "kv_heads", "max_position_embeddings": "context"}.items():
    setattr(SupraConfig, _name, property(lambda self, key=_key: self.supra.get(key),
                                         lambda self, value, key=_key: self.supra.update({key: value})))

class SupraCache:
    """What the model remembers of B texts: a state a layer. Only layers that kept softmax attention to all keys let it grow."""
    is_linear, is_compileable = [True], False  # generate() asks: it does not cut it by its length
    def __init__(self, states, batch, device):
        self.states = states
        self.seen = torch.zeros(batch, dtype=torch.long, device=device)  # tokens of each text
        self.length = 0  # columns, padding among them: no text is longer

    def reorder_cache(self, rows):
        self.seen = self.seen[rows]
        self.states = [tuple(part[rows] for part in state) for state in self.states]

@dataclass
class SupraOutput(ModelOutput):
    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    cache: SupraCache | None = None

class Steps:
    """The columns of a call. position (B,T): of each token in its text, -1 for padding; (1,T) where all are alike. real (B,T): who is
    no padding, None for all. seen: tokens of each text behind this call. most: no text is longer then."""
    def __init__(self, x, mask, cache):
        T = x.shape[1]
        self.real = None if mask is None else mask[:, -T:].bool()
        self.position = torch.arange(T, device=x.device)[None] if mask is None else self.real.long().cumsum(1) - 1
        self.most = T + (cache.length if cache else 0)
        if cache:
            self.seen = cache.seen + self.position[:, -1] + 1
            self.position = self.position + cache.seen[:, None]
        if mask is not None:
            self.position = self.position.masked_fill(~self.real, -1)

# ---- rotary positions (kernels/rope.cpp)
def turn_of(c, layer):
    return c["turns"][layer] if c.get("turns") else "rope"

def rotary_table(c, dim, position, turn="rope", last=None):
    """cos and sin (B,T,1,dims/2) of the angles position / (scale divisor_i base^(2i/dims)), in double; None for turn none. Turn local
    has a base of its own and no scaling. last: the last position of the call if it is not position's."""
    if turn == "none":
        return None
    dims, like = c["rope.dims"] or dim, {"dtype": torch.float64, "device": position.device}
    if turn == "local":
        own = {"rope.base": c.get("local_rope_base", 10000), "rope.divisors": [], "rope.scale": 1, "rope.magnitude": 1, "rope.trained": 0}
        c = {**c, **own}
    base, divisors, trained = c["rope.base"], c["rope.divisors"], c.get("rope.trained", 0)
    if trained and trained < (length := int((position if last is None else last).max()) + 1):  # what reaches beyond it is turned otherwise
        divisors, dynamic = c.get("rope.long_divisors") or divisors, c.get("rope.dynamic", 0)
        base *= (dynamic * length / trained - (dynamic - 1)) ** (dims / (dims - 2)) if dynamic else 1
    period = c["rope.scale"] * torch.tensor(divisors or [1], **like) * base ** (torch.arange(0, dims, 2, **like) / dims)
    # by_head: an old bug of OpenLM, kept for its checkpoints
    at = torch.arange(c["heads"], **like)[None, None] if c["rope.layout"] == "by_head" else position[..., None]
    angle = at[..., None] / period
    return c["rope.magnitude"] * angle.cos(), c["rope.magnitude"] * angle.sin()

def rotate(x, table, layout):
    """x (B,T,H,K): turns the pairs (i, i + dims/2) of a head, or (2i, 2i+1) where the layout is interleaved."""
    if layout == "none" or table is None:
        return x
    (cos, sin), n = (part.to(wide(x)) for part in table), table[0].shape[-1]
    pairs, dim = ((n, 2), -1) if layout == "interleaved" else ((2, n), -2)
    a, b = x[..., : 2 * n].unflatten(-1, pairs).unbind(dim)
    turned = torch.stack((a * cos - b * sin, b * cos + a * sin), dim).flatten(-2)
    return torch.cat((turned.to(x.dtype), x[..., 2 * n :]), -1)

# ---- sums over the past (kernels/linear_attention.cpp, delta_attention.cpp)
def wide(x):
    """The dtype of sums: at least float32."""
    return torch.promote_types(x.dtype, torch.float32)

def state_attention(q, k, v, log_decay, S, beta=None, chunk=64):
    """S = g_t S_{t-1};  u_t = v_t, or by the delta rule beta_t (v_t - k_t S);  S_t = S + k_t^T u_t;  o_t = q_t S_t  ->  o, the last S_t
    q, k (B,T,H,K)  v, o (B,T,H,V)  log_decay = log g (B or 1, T, H)  S (B,H,K,V)  beta (B,T,H)"""
    T, length = q.shape[1], min(chunk, q.shape[1])
    # (B,H,chunks,length,...); steps of zeros at the end change nothing
    q, k, v, log_decay, *beta = (
        F.pad(x.to(S.dtype), (0, 0) * (x.dim() - 2) + (0, -T % length)).unflatten(1, (-1, length)).movedim(3, 1)
        for x in (q, k, v, log_decay[..., None], *([] if beta is None else [beta[..., None]])))
    # Decays from step s to t, [t, s], and from the state before the chunk. No difference of two sums: it is rounded to the larger one.
    inside, since = log_decay.expand(*log_decay.shape[:-1], length).tril(-1).cumsum(-2).exp().tril(), log_decay.cumsum(-2).exp()
    if beta:  # in a chunk u_t + beta_t sum_{s<t} inside_ts <k_t, k_s> u_s = beta_t (v_t - since_t k_t S): u = v' - k' S
        primed = beta[0] * torch.cat((v, since * k), -1)
        primed = torch.linalg.solve_triangular(beta[0] * (k @ k.mT) * inside, primed, upper=False, unitriangular=True)
        v, erased = primed[..., : v.shape[-1]], primed[..., v.shape[-1] :].unbind(2)
    u, added, kept, states = list(v.unbind(2)), (k.mT * inside[..., -1:, :]).unbind(2), since[..., -1:, :].unbind(2), [S]
    for n in range(len(u)):
        u[n] = u[n] - erased[n] @ states[n] if beta else u[n]
        states.append(kept[n] * states[n] + added[n] @ u[n])
    o = (q @ k.mT * inside) @ torch.stack(u, 2) + since * (q @ torch.stack(states[:-1], 2))
    return o.movedim(1, 3).flatten(1, 2)[:, :T], states[-1]

def short_convolution(x, w, past, real):
    """y_t = sum_i w_i x_{t-i}, each channel by itself: x, y (B,T,C)  w (W,C)  past (B,W-1,C): the inputs before  ->  y, the next past"""
    T, n, seen = x.shape[1], past.shape[1], torch.cat((past, x), 1)
    if real is not None:  # padding goes behind the text, and returns below
        seen = seen.take_along_dim(F.pad(~real, (n, 0)).byte().argsort(dim=1, stable=True)[..., None], 1)
    y = sum(tap * seen[:, n - i : n - i + T] for i, tap in enumerate(w))
    if real is None:
        return y, seen[:, T:]
    length = real.long().cumsum(1)[..., None]
    last = length[:, -1:] + torch.arange(n, device=x.device)[:, None]
    return y.take_along_dim((length - 1).clamp(min=0), 1), seen.take_along_dim(last, 1)

# ---- modules
class HeadwiseLinear(nn.Linear):
    """(..., H*I) -> (..., H*O): each head by rows of its own of the weight (H*O, I)."""
    def __init__(self, heads, into, out, bias=True):
        super().__init__(into, heads * out, bias)
        self.heads = heads

    def forward(self, x):
        y = torch.einsum("...hi,hoi->...ho", x.unflatten(-1, (self.heads, -1)), self.weight.unflatten(0, (self.heads, -1))).flatten(-2)
        return y if self.bias is None else y + self.bias

def make_norm(c, width):
    kind, bias = (nn.RMSNorm, {}) if c["norm.kind"] == "rms" else (nn.LayerNorm, {"bias": c["norm.bias"]})
    return kind(width, eps=c["norm.eps"], elementwise_affine=c["norm.weight"], **bias)

def head_norms(c, K, *heads):
    """A norm for q, one for k, over all their heads together or head by head; or none."""
    return [None if c["qk_norm"] == "none" else make_norm(c, K if c["qk_norm"] == "per_head" else n * K) for n in heads]

def norm_heads(norm, x):
    return x if norm is None else norm(x.reshape(*x.shape[:2], -1, norm.normalized_shape[0])).view_as(x)

def clip(c, qkv):
    return qkv.clamp(-c["qkv_clip"], c["qkv_clip"]) if c.get("qkv_clip") else qkv

def fixed_log_decay(c, device):
    """log g (H): minus the slopes 2^(-8 (h+1) / H), or with another first one; RetNet's; or 0. Where H is no power of two: the slopes of
    the next lower power, then every second one of twice that power."""
    h, power = torch.arange(c["heads"], dtype=torch.float64, device=device), 1 << (c["heads"].bit_length() - 1)
    if c["decay.kind"] != "lightning":
        return 0 * h if c["decay.kind"] == "none" else torch.log1p(-torch.exp2(-5 - h))
    ratio = torch.exp2(-8 / torch.where(h < power, power, 2 * power).double())
    return -(c["decay.start"] or ratio) * ratio ** torch.where(h < power, h, 2 * (h - power))

class SupraAttention(nn.Module):
    """SUPRA (arXiv 2405.06640): a learned feature map, a decay and a norm instead of softmax. state = (S,), S (B,H,K,V) or, where
    outputs are divided by the sum of the weights, (B,H,K,V+1). Or the gated delta rule (arXiv 2412.06464) with q and k of length 1;
    where a short convolution mixes q, k and v with those of three steps before, the state holds these too (B,3,channels)."""
    def __init__(self, c, layer):
        super().__init__()
        self.c, self.angles = c, (c["head_dim" if c["rope_before_map"] else "key_dim"], turn_of(c, layer))
        self.delta, self.layout = c["mixers"][layer] == "delta", c["rope.layout"] if c.get("rotates", True) else "none"
        self.dims = H, G, D, K, V = [c[key] for key in ("heads", "kv_heads", "head_dim", "key_dim", "value_dim")]
        self.in_proj = nn.Linear(c["width"], H * D + G * (D + V), bias=c["qkv_bias"])
        if c.get("feature_map", True):
            maps = [HeadwiseLinear(heads, D, K) if c["per_head_feature_map"] else nn.Linear(heads * D, heads * K) for heads in (H, G)]
            self._totrain_embed, self._totrain_embed_kv = maps[0], maps[1] if G != H else None
        self._totrain_q_norm, self._totrain_k_norm = head_norms(c, K, H, H)
        if c["decay.source"] != "fixed":
            gated = c["decay.source"] == "gated"
            self._totrain_decay = nn.Linear(c["width"], H) if gated else nn.ParameterDict({"bias": torch.zeros(H)})
        if self.delta:
            self._totrain_beta = nn.Linear(c["width"], H)
        if self.delta and c.get("short_convolution"):
            self._totrain_conv = nn.ParameterDict({"weight": torch.zeros(4, self.in_proj.out_features)})
        if c["output_gate"]:
            self._totrain_z = nn.Linear(c["width"], H * V)
        self.out_proj = nn.Linear(H * V, c["width"], bias=c["out_bias"])

    def init_state(self, like):
        H, _, _, K, V = self.dims
        S = like.new_zeros(len(like), H, K, V + (self.c["output_norm"] == "denominator"), dtype=wide(like))
        return (S, like.new_zeros(len(like), 3, self.in_proj.out_features)) if hasattr(self, "_totrain_conv") else (S,)

    def forward(self, x, steps, state=None):
        c, (H, G, D, K, V), table, layout = self.c, self.dims, steps.tables[self.angles], self.layout
        (S, *past), projected = state or self.init_state(x), clip(c, self.in_proj(x))
        if past:
            projected, *past = short_convolution(projected, self._totrain_conv["weight"], past[0], steps.real)
        q, k, v = projected.split((H * D, G * D, G * V), -1)
        if c["rope_before_map"]:
            q, k = (rotate(u.unflatten(-1, (-1, D)), table, layout).flatten(2) for u in (q, k))
        if c.get("feature_map", True):
            q, k = F.relu(self._totrain_embed(q)), F.relu((self._totrain_embed_kv or self._totrain_embed)(k))
        q, k, v = q.unflatten(-1, (H, K)), k.unflatten(-1, (G, K)), v.unflatten(-1, (G, V))
        k, v = (u.repeat_interleave(H // G, 2) for u in (k, v))
        q, k = norm_heads(self._totrain_q_norm, q), norm_heads(self._totrain_k_norm, k)
        if not c["rope_before_map"]:
            q, k = rotate(q, table, layout), rotate(k, table, layout)
        if c["decay.source"] == "fixed":
            log_decay = fixed_log_decay(c, x.device).expand(1, x.shape[1], H)
        else:
            logit = self._totrain_decay(x) if c["decay.source"] == "gated" else self._totrain_decay["bias"].expand(1, x.shape[1], H)
            log_decay = F.logsigmoid(logit.to(wide(x)))
        if self.delta:
            q, k = F.rms_norm(q.to(wide(q)), (K,), eps=1e-6) * K**-0.5, F.rms_norm(k.to(wide(k)), (K,), eps=1e-6)
        k, beta = k * K**-0.5, torch.sigmoid(self._totrain_beta(x)) if self.delta else None
        if steps.real is not None:  # padding adds nothing, and nothing decays there
            k, log_decay = k * steps.real[..., None, None], log_decay * steps.real[..., None]
        with torch.autocast(x.device.type, enabled=False):  # sums stay float32
            v = F.pad(v, (0, 1), value=1) if c["output_norm"] == "denominator" else v
            o, S = state_attention(q, k, v, log_decay, S, beta)
        norms = {"group": lambda o: F.layer_norm(o, (V,), eps=1e-5), "denominator": lambda o: o[..., :-1] / (o[..., -1:] + 1e-6)}
        o = norms.get(c["output_norm"], lambda o: o)(o)
        o = o.flatten(2).to(x.dtype) * (torch.sigmoid(self._totrain_z(x)) if c["output_gate"] else 1)
        return self.out_proj(o), (S, *past) if state else None

class WindowAttention(nn.Module):
    """Softmax attention to all keys, to the last ones (a window), or to these, to attention sinks, and to the keys between through a
    linear state, under one normaliser. state = k (B,S,G,K), v (B,S,G,V), their positions (B,S), -1 where there is none, and with far
    features their sum (B,G,features,V+1) over the keys that left the window."""
    def __init__(self, c, layer):
        super().__init__()
        mine = c["mixers"][layer] == "window"
        self.c, self.angles = c, (c["head_dim"], turn_of(c, layer))
        self.scale, self.cap = c.get("score_scale") or c["head_dim"] ** -0.5, c.get("score_cap", 0)
        self.dims = H, G, K, V = [c[key] for key in ("heads", "kv_heads", "head_dim", "value_dim")]
        self.window, self.sinks = c["windows"][layer] if c["windows"] else 0, c.get("sinks", 0) if mine else 0
        self.features = c["far_features"][layer] if mine and c.get("far_features") else 0
        self.kept_as = torch.float16 if mine and c.get("state_dtype") == "f16" else None
        # Beyond the teacher's context a query meets the sinks as if it stood right behind a full window.
        self.held_at, self.held_from = self.sinks + self.window - 1, max(c["context"], self.sinks + self.window - 1)
        self.in_proj = nn.Linear(c["width"], H * K + G * (K + V), bias=c["qkv_bias"])
        self.out_proj = nn.Linear(H * V, c["width"], bias=c["out_bias"])
        self.q_norm, self.k_norm = head_norms(c, K, H, G)
        if self.features:
            self._totrain_far_q = HeadwiseLinear(H, K, self.features // 2, bias=False)
            self._totrain_far_k = HeadwiseLinear(G, K, self.features // 2, bias=False)
            self._totrain_far_mass = HeadwiseLinear(H, K, 1)

    def init_state(self, like):
        (_, G, K, V), B = self.dims, len(like)
        slots = self.sinks + self.window if self.window else 0
        k, v = (like.new_zeros(B, slots, G, dim, dtype=self.kept_as or like.dtype) for dim in (K, V))
        far = (like.new_zeros(B, G, self.features, V + 1, dtype=wide(like)),) if self.features else ()
        return (k, v, torch.full((B, slots), -1, device=like.device), *far)

    def forward(self, x, steps, state=None):
        c, (H, G, K, V), table, layout = self.c, self.dims, steps.tables[self.angles], self.c["rope.layout"]
        split = clip(c, self.in_proj(x)).split((H * K, G * K, G * V), -1)
        q, k, v = (u.unflatten(-1, (heads, -1)) for u, heads in zip(split, (H, G, G)))
        q, k = norm_heads(self.q_norm, q), norm_heads(self.k_norm, k)
        q_sinks = None
        if self.sinks and steps.most > self.held_from:
            held = steps.position.where(steps.position < self.held_from, self.held_at)
            q_sinks = rotate(q, rotary_table(c, K, held, self.angles[1], steps.position), layout)
        q, k = rotate(q, table, layout), rotate(k, table, layout)
        keys, values, places = k, v, steps.position
        if state:  # rounded before their first use, so that nothing depends on where a call begins
            k, v = k.to(state[0].dtype), v.to(state[1].dtype)
            keys, values = (torch.cat((old.to(q.dtype), new.to(q.dtype)), 1) for old, new in ((state[0], k), (state[1], v)))
            places = torch.cat((state[2], places.expand(len(x), -1)), 1)
        # the keys that a query sees, and those of them that are near (B,1,T,S)
        at, there = steps.position[:, None, :, None], places[:, None, None, :]
        seen = (there >= 0) & (there <= at)
        near = seen & ((there > at - self.window) | (there < self.sinks)) if self.window else seen
        shown = near | (at < 0)  # padding sees all: what comes out must be finite
        if self.features or self.cap or q_sinks is not None:
            y = self._joined(q, q_sinks, keys, values, there, shown, seen & ~near, state)
        else:
            k_all, v_all = (u.repeat_interleave(H // G, 2).transpose(1, 2) for u in (keys, values))
            y = F.scaled_dot_product_attention(q.transpose(1, 2), k_all, v_all, attn_mask=shown, scale=self.scale).transpose(1, 2)
        return self.out_proj(y.flatten(2).to(x.dtype)), self._next(state, k, v, keys, values, places, steps) if state else None

    def _far_features(self, linear, x):
        """Never negative: [softmax(A x); softmax(-A x)] a head (arXiv 2402.04347)."""
        u = linear(x.flatten(2)).unflatten(-1, (x.shape[2], -1)).to(wide(x))
        return torch.cat((u.softmax(-1), (-u).softmax(-1)), -1)

    def _joined(self, q, q_sinks, keys, values, places, near, far, state):
        """y = ( sum_near e^(q k) v + e^m sum_far f(q) g(k) v ) / ( the same sums without v )"""
        H, G, _, _ = self.dims
        k, v = keys.repeat_interleave(H // G, 2), F.pad(values.repeat_interleave(H // G, 2).to(wide(q)), (0, 1), value=1)
        scores = torch.einsum("bthk,bshk->bhts", q, k)
        if q_sinks is not None:
            scores = torch.where(places < self.sinks, torch.einsum("bthk,bshk->bhts", q_sinks, k), scores)
        scores = scores.to(wide(q)) * self.scale
        scores = (self.cap * (scores / self.cap).tanh() if self.cap else scores).masked_fill(~near, -torch.inf)
        if not self.features:
            return torch.einsum("bhts,bshv->bthv", scores.softmax(-1), v[..., :-1])
        fq, gk = self._far_features(self._totrain_far_q, q), self._far_features(self._totrain_far_k, keys)
        m = self._totrain_far_mass(q.flatten(2)).to(wide(q)).transpose(1, 2)[..., None]  # (B,H,T,1)
        top = torch.maximum(scores.amax(-1, keepdim=True), m)
        with torch.autocast(q.device.type, enabled=False):
            far_scores = torch.einsum("bthf,bshf->bhts", fq, gk.repeat_interleave(H // G, 2)).masked_fill(~far, 0)
            y = torch.einsum("bhts,bshv->bthv", (scores - top).exp() + (m - top).exp() * far_scores, v)
            if state:
                y = y + (m - top).exp().transpose(1, 2) * torch.einsum("bthf,bhfv->bthv", fq, state[3].repeat_interleave(H // G, 1))
        return y[..., :-1] / y[..., -1:]

    def _next(self, state, k, v, keys, values, places, steps):
        if not self.window:
            return torch.cat((state[0], k), 1), torch.cat((state[1], v), 1), places
        # a ring: position p lies in slot p < sinks ? p : sinks + (p - sinks) % window; what does not last, in one that is dropped
        slots, last, position = self.sinks + self.window, steps.seen[:, None] - 1, places[:, state[2].shape[1] :]
        lasts = (position >= 0) & ((position < self.sinks) | (position > last - self.window))
        slot = torch.where(position < self.sinks, position, self.sinks + (position - self.sinks) % self.window).where(lasts, slots)
        def put(ring, fresh):
            to = slot.view(slot.shape + (1,) * (fresh.dim() - 2)).expand_as(fresh)
            return F.pad(ring, (0, 0) * (ring.dim() - 2) + (0, 1)).scatter(1, to, fresh)[:, :slots]
        ring = put(state[0], k), put(state[1], v), put(state[2], position)
        if not self.features:
            return ring
        leave = ((places >= self.sinks) & (places <= last - self.window))[..., None, None]
        g, v1 = self._far_features(self._totrain_far_k, keys) * leave, F.pad(values.to(state[3].dtype), (0, 1), value=1)
        return (*ring, state[3] + torch.einsum("bsgf,bsgv->bgfv", g, v1))

MIXERS = {"supra": SupraAttention, "delta": SupraAttention, "softmax": WindowAttention, "window": WindowAttention}

class SupraLayer(nn.Module):
    """x += mixer(norm(x));  x += mlp(norm(x)), or in another order that a family has."""
    def __init__(self, c, layer):
        super().__init__()
        C, M, bias = c["width"], c["mlp_width"], c["mlp_bias"] or c["mlp"] == "geglu"
        self.order, self.kind, self.scale = c["residual"], c["mlp"], c.get("residual_scale", 1)
        self.act = F.silu if self.kind == "swiglu" else partial(F.gelu, approximate="tanh" if c["gelu"] == "tanh" else "none")
        self.attention_norm, self.ffn_norm = make_norm(c, C), make_norm(c, C) if self.order != "one_norm" else None
        both = self.order == "both_norms"
        self.attention_post_norm, self.ffn_post_norm = (make_norm(c, C) if both else nn.Identity() for _ in range(2))
        self.attention = MIXERS[c["mixers"][layer]](c, layer)
        if self.kind == "gelu":
            self._ff_w1, self._ff_w2 = nn.Linear(C, M, bias), nn.Linear(M, C, bias)
            return
        apart, packed = {"gate_proj": (C, M), "up_proj": (C, M), "down_proj": (M, C)}, {"w12": (C, 2 * M), "w3": (M, C)}
        widths = apart if self.kind == "geglu" else packed
        self.feed_forward = nn.ModuleDict({name: nn.Linear(*width, bias) for name, width in widths.items()})

    def mlp(self, x):
        if self.kind == "gelu":
            return self._ff_w2(self.act(self._ff_w1(x)))
        ff = self.feed_forward
        if self.kind == "geglu":
            return ff["down_proj"](self.act(ff["gate_proj"](x)) * ff["up_proj"](x))
        gate, up = ff["w12"](x).chunk(2, -1)
        return ff["w3"](self.act(gate) * up)

    def forward(self, x, steps, state=None):
        post = self.order == "post_norm"
        u = x if post else self.attention_norm(x)
        y, state = self.attention(u, steps, state)
        y = x + self.scale * (self.attention_norm if post else self.attention_post_norm)(y)
        if self.order != "one_norm":
            u = y if post else self.ffn_norm(x if self.order == "parallel" else y)
        return y + self.scale * (self.ffn_norm if post else self.ffn_post_norm)(self.mlp(u)), state

class SupraForCausalLM(PreTrainedModel, GenerationMixin):
    config_class = SupraConfig
    supports_gradient_checkpointing = True
    _no_split_modules = ["SupraLayer"]
    _is_stateful = True  # it cannot go back to an earlier token
    _input_embed_layer = "tok_embeddings"

    def __init__(self, config):
        super().__init__(config)
        c = config.supra
        self.gradient_checkpointing = False
        self.tok_embeddings = nn.Embedding(c["vocab"], c["width"])
        self.pos_embeddings = nn.Embedding(c["context"], c["width"]) if c["learned_positions"] else None
        self.post_embed_norm = make_norm(c, c["width"]) if c["post_embed_norm"] else nn.Identity()
        self.layers = nn.ModuleList(SupraLayer(c, layer) for layer in range(c["layers"]))
        self.norm = make_norm(c, c["width"])
        self.output = None if c["tied"] else nn.Linear(c["width"], c["vocab"], bias=False)
        self.post_init()

    def get_output_embeddings(self):
        return self.output

    def set_output_embeddings(self, value):
        self.output = value

    def forward(self, input_ids=None, attention_mask=None, inputs_embeds=None, labels=None, cache=None, use_cache=False,
                logits_to_keep=0, **kwargs):
        if kwargs.pop("position_ids", None) is not None:
            raise ValueError("positions are counted from attention_mask: give no position_ids")
        c, x = self.config.supra, self.tok_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        if cache is None and use_cache:
            cache = SupraCache([layer.attention.init_state(x) for layer in self.layers], len(x), x.device)
        steps = Steps(x, attention_mask, cache)
        x = c.get("embedding_scale", 1) * x
        steps.tables = {of: rotary_table(c, of[0], steps.position, of[1]) for of in {layer.attention.angles for layer in self.layers}}
        x = self.post_embed_norm(x + self.pos_embeddings(steps.position.clamp(min=0)) if c["learned_positions"] else x)
        states, recompute = cache.states if cache else [None] * c["layers"], self.gradient_checkpointing and self.training and not cache
        for i, layer in enumerate(self.layers):
            x, states[i] = self._gradient_checkpointing_func(layer.__call__, x, steps) if recompute else layer(x, steps, states[i])
        if cache is not None:
            cache.seen, cache.length = steps.seen, steps.most
        h, cap = c.get("logit_scale", 1) * self.norm(x[:, -logits_to_keep:]), c.get("logit_cap", 0)
        logits = F.linear(h, self.tok_embeddings.weight) if self.output is None else self.output(h)
        logits = cap * torch.tanh(logits / cap) if cap else logits
        loss = None if labels is None else self.loss_function(logits, labels, vocab_size=c["vocab"], **kwargs)
        return SupraOutput(loss=loss, logits=logits, cache=cache)

    _supports_default_dynamic_cache = classmethod(lambda cls: False)  # generate() is to make none

    def prepare_inputs_for_generation(self, input_ids, attention_mask=None, cache=None, use_cache=True, logits_to_keep=0, **kwargs):
        if cache is not None:  # the columns that it has not seen
            columns = input_ids.shape[1] if attention_mask is None else attention_mask.shape[1]
            input_ids = input_ids[:, cache.length - columns :]
        return dict(input_ids=input_ids, attention_mask=attention_mask, cache=cache, use_cache=use_cache, logits_to_keep=logits_to_keep)
