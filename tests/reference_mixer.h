#pragma once
#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "nn/config.h"

// A SUPRA, delta or window layer of any variant as its equations say it, in double: every query against every key, no state,
// no chunks, no kernels. It takes nothing from the code it judges but the config and the names of the
// weights.
//
//   q, k  = relu(E u + b),  u = in_proj(x), normed and rotated as the config says
//   o_i   = sum_{j<=i} w_ij v_j,  w_ij = prod_{l=j+1..i} g_l (q_i . k_j) / sqrt(K)
//   y_i   = out_proj(norm(o_i) sigmoid(Z x_i + c))
//
// The delta layer: q and k have length 1, and every value is written less what its key brings to mind:
//   u_j = beta_j (v_j - sum_{i<j} prod_{l=i+1..j} g_l (k_i . k_j) u_i),  o_i = sum_{j<=i} prod_{l=j+1..i} g_l (q_i . k_j) u_j
//
// The window layer: supra/window_attention.h.

namespace supra {

using Values = std::vector<double>;
using Matrix = std::vector<Values>;                      // a row a token
using ReferenceWeights = std::map<std::string, Values>;  // in_proj.weight, _totrain_embed.bias, ...

inline double sigmoid_of(double x) { return 1 / (1 + std::exp(-x)); }

// x W^T + b; what is absent of W and b counts as 0.
inline Matrix affine(const Matrix& x, const ReferenceWeights& weights, const std::string& name, size_t out) {
  const auto weight = weights.find(name + ".weight"), bias = weights.find(name + ".bias");
  Matrix y(x.size(), Values(out, 0));
  for (size_t t = 0; t < x.size(); t++) {
    for (size_t o = 0; o < out; o++) {
      if (bias != weights.end()) y[t][o] = bias->second[o];
      for (size_t i = 0; weight != weights.end() && i < x[t].size(); i++)
        y[t][o] += weight->second[o * x[t].size() + i] * x[t][i];
    }
  }
  return y;
}

inline Matrix columns_of(const Matrix& x, int64_t begin, int64_t count) {
  Matrix y;
  for (const Values& row : x) y.emplace_back(row.begin() + begin, row.begin() + begin + count);
  return y;
}

// Rotary positions, half layout, base 10000, on heads of `dim`. Steps from `held_from` on turn as step `held_at`.
inline Matrix rotated(const Matrix& x, size_t dim, size_t held_from = SIZE_MAX, size_t held_at = 0) {
  Matrix y = x;
  for (size_t t = 0; t < x.size(); t++) {
    for (size_t head = 0; head < x[t].size(); head += dim) {
      for (size_t i = 0; i < dim / 2; i++) {
        const double angle = static_cast<double>(t < held_from ? t : held_at) *
                             std::pow(10000, -2.0 * static_cast<double>(i) / static_cast<double>(dim));
        const double a = x[t][head + i], b = x[t][head + dim / 2 + i];
        y[t][head + i] = a * std::cos(angle) - b * std::sin(angle);
        y[t][head + dim / 2 + i] = b * std::cos(angle) + a * std::sin(angle);
      }
    }
  }
  return y;
}

// relu(E u + b), E of all heads or of each.
inline Matrix features_of(const Config& c, const ReferenceWeights& weights, const std::string& name,
                          const Matrix& u, int64_t heads) {
  Matrix y;
  if (!c.feature_map) return u;
  if (!c.per_head_feature_map) {
    y = affine(u, weights, name, heads * c.key_dim);
  } else {
    y.resize(u.size());
    for (int64_t h = 0; h < heads; h++) {
      const auto rows = [&](const std::string& part, int64_t columns) {
        const Values& all = weights.at(name + part);
        const int64_t size = c.key_dim * columns;
        return Values(all.begin() + h * size, all.begin() + (h + 1) * size);
      };
      const ReferenceWeights own = {{"head.weight", rows(".weight", c.head_dim)},
                                    {"head.bias", rows(".bias", 1)}};
      const Matrix part = affine(columns_of(u, h * c.head_dim, c.head_dim), own, "head", c.key_dim);
      for (size_t t = 0; t < u.size(); t++) y[t].insert(y[t].end(), part[t].begin(), part[t].end());
    }
  }
  for (Values& row : y) {
    for (double& value : row) value = std::max(value, 0.0);
  }
  return y;
}

// Heads of `dim`, each for `times` query heads.
inline Matrix repeated(const Matrix& x, int64_t dim, int64_t times) {
  Matrix y;
  for (const Values& row : x) {
    Values& into = y.emplace_back();
    for (size_t head = 0; head < row.size(); head += dim) {
      for (int64_t i = 0; i < times; i++)
        into.insert(into.end(), row.begin() + head, row.begin() + head + dim);
    }
  }
  return y;
}

// RMSNorm of as many columns at a time as there are gains.
inline void normalise(Matrix& x, const Values& gain, double eps) {
  for (Values& row : x) {
    for (size_t begin = 0; begin < row.size(); begin += gain.size()) {
      double squares = 0;
      for (size_t i = 0; i < gain.size(); i++) squares += row[begin + i] * row[begin + i];
      const double size = std::sqrt(squares / static_cast<double>(gain.size()) + eps);
      for (size_t i = 0; i < gain.size(); i++) row[begin + i] *= gain[i] / size;
    }
  }
}

// (T,H): how much of the state each step keeps.
inline Matrix decays(const Config& c, const ReferenceWeights& weights, const Matrix& x) {
  Matrix g = affine(x, weights, "_totrain_decay", c.heads);
  for (Values& row : g) {
    for (int64_t h = 0; h < c.heads; h++) {
      const double n = static_cast<double>(h);
      if (c.decay.source != DecayConfig::Source::fixed)
        row[h] = sigmoid_of(row[h]);
      else if (c.decay.kind == DecayConfig::Kind::none)
        row[h] = 1;
      else if (c.decay.kind == DecayConfig::Kind::retnet)
        row[h] = 1 - std::pow(2, -5 - n);
      else
        row[h] = std::exp(-std::pow(2, -8 * (n + 1) / static_cast<double>(c.heads)));
    }
  }
  return g;
}

// [softmax(A x); softmax(-A x)] of one head's x.
inline Values far_features_of(const Values& map, int64_t rows, const double* x, int64_t K) {
  Values y(2 * rows);
  double plus = 0, minus = 0;
  for (int64_t f = 0; f < rows; f++) {
    double z = 0;
    for (int64_t i = 0; i < K; i++) z += map[f * K + i] * x[i];
    plus += y[f] = std::exp(z);
    minus += y[rows + f] = std::exp(-z);
  }
  for (int64_t f = 0; f < rows; f++) y[f] /= plus, y[rows + f] /= minus;
  return y;
}

inline Matrix clipped(Matrix x, const Config& c) {
  for (Values& row : x) {
    for (double& value : row) value = c.qkv_clip > 0 ? std::clamp(value, -c.qkv_clip, c.qkv_clip) : value;
  }
  return x;
}

inline Matrix reference_window(const Config& c, const ReferenceWeights& weights, const Matrix& x) {
  const int64_t T = static_cast<int64_t>(x.size()), H = c.heads, G = c.kv_heads, K = c.head_dim, V = c.value_dim;
  const int64_t W = c.windows[0], S = c.sinks, rows = c.far_features.empty() ? 0 : c.far_features[0] / 2;
  const Matrix projected = clipped(affine(x, weights, "in_proj", H * K + G * (K + V)), c), v = columns_of(projected, (H + G) * K, G * V);
  Matrix q = columns_of(projected, 0, H * K), k = columns_of(projected, H * K, G * K);
  if (c.qk_norm != QkNorm::none) {
    normalise(q, weights.at("q_norm.weight"), c.norm.eps);
    normalise(k, weights.at("k_norm.weight"), c.norm.eps);
  }
  // beyond the context a query meets the sinks from right behind a full window
  const Matrix to_sinks = rotated(q, K, std::max(c.context, S + W - 1), S + W - 1);
  q = rotated(q, K), k = rotated(k, K);
  const auto head_of = [](const Values& all, int64_t h, int64_t size) { return Values(all.begin() + h * size, all.begin() + (h + 1) * size); };
  const auto dot = [&](const double* a, const double* b, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
  };
  const auto score_of = [&](double product) {
    const double score = product * (c.score_scale > 0 ? c.score_scale : 1 / std::sqrt(K));
    return c.score_cap > 0 ? c.score_cap * std::tanh(score / c.score_cap) : score;
  };
  Matrix o(T, Values(H * V, 0));
  for (int64_t t = 0; t < T; t++) {
    for (int64_t h = 0; h < H; h++) {
      const int64_t g = h / (H / G);
      double mass = 0, total = 0;
      Values seen;
      if (rows > 0) {
        mass = std::exp(weights.at("_totrain_far_mass.bias")[h] + dot(&weights.at("_totrain_far_mass.weight")[h * K], &q[t][h * K], K));
        seen = far_features_of(head_of(weights.at("_totrain_far_q.weight"), h, rows * K), rows, &q[t][h * K], K);
      }
      for (int64_t s = 0; s <= t; s++) {
        double weight = 0;
        if (s < S || t - s < W)
          weight = std::exp(score_of(dot(s < S ? &to_sinks[t][h * K] : &q[t][h * K], &k[s][g * K], K)));
        else if (rows > 0)
          weight = mass * dot(seen.data(), far_features_of(head_of(weights.at("_totrain_far_k.weight"), g, rows * K), rows, &k[s][g * K], K).data(), 2 * rows);
        total += weight;
        for (int64_t n = 0; n < V; n++) o[t][h * V + n] += weight * v[s][g * V + n];
      }
      for (int64_t n = 0; n < V; n++) o[t][h * V + n] /= total;
    }
  }
  return affine(o, weights, "out_proj", c.width);
}

// x (T,C) -> y (T,C), one sequence from its beginning. For half-layout rotary positions, RMS norms and a
// power of two of heads.
inline Matrix reference_mixer(const Config& c, const ReferenceWeights& weights, const Matrix& x) {
  if (c.mixers[0] == MixerKind::window) return reference_window(c, weights, x);
  const int64_t T = static_cast<int64_t>(x.size()), H = c.heads, G = c.kv_heads, D = c.head_dim,
                K = c.key_dim, V = c.value_dim;
  Matrix projected = clipped(affine(x, weights, "in_proj", H * D + G * (D + V)), c);
  if (c.short_convolution) {
    const Matrix plain = projected;
    const Values& taps = weights.at("_totrain_conv.weight");
    for (size_t t = 0; t < x.size(); t++) {
      for (size_t n = 0; n < plain[t].size(); n++) {
        projected[t][n] = 0;
        for (size_t i = 0; i < 4 && i <= t; i++) projected[t][n] += taps[i * plain[t].size() + n] * plain[t - i][n];
      }
    }
  }
  Matrix q = columns_of(projected, 0, H * D), k = columns_of(projected, H * D, G * D);
  const Matrix v = repeated(columns_of(projected, (H + G) * D, G * V), V, H / G), g = decays(c, weights, x);
  if (c.rotates && c.rope_before_map) q = rotated(q, D), k = rotated(k, D);
  q = features_of(c, weights, "_totrain_embed", q, H);
  k = repeated(features_of(c, weights, G == H ? "_totrain_embed" : "_totrain_embed_kv", k, G), K, H / G);
  if (c.qk_norm != QkNorm::none) {
    normalise(q, weights.at("_totrain_q_norm.weight"), c.norm.eps);
    normalise(k, weights.at("_totrain_k_norm.weight"), c.norm.eps);
  }
  if (c.rotates && !c.rope_before_map) q = rotated(q, K), k = rotated(k, K);
  const bool delta = c.mixers[0] == MixerKind::delta;
  Matrix written = v;
  const Matrix beta = affine(x, weights, "_totrain_beta", H);
  const auto weight_of = [&](const Values& read, const Values& key, int64_t h) {
    double dot = 0;
    for (int64_t f = 0; f < K; f++) dot += read[h * K + f] * key[h * K + f];
    return delta ? dot : dot / std::sqrt(K);
  };
  if (delta) {
    const Values unit_gain(K, 1 / std::sqrt(static_cast<double>(K)));
    normalise(q, unit_gain, 1e-6);
    normalise(k, unit_gain, 1e-6);
    for (int64_t j = 0; j < T; j++) {
      for (int64_t h = 0; h < H; h++) {
        double kept = g[j][h];
        for (int64_t i = j - 1; i >= 0; kept *= g[i--][h]) {
          for (int64_t n = 0; n < V; n++) written[j][h * V + n] -= kept * weight_of(k[j], k[i], h) * written[i][h * V + n];
        }
        for (int64_t n = 0; n < V; n++) written[j][h * V + n] *= sigmoid_of(beta[j][h]);
      }
    }
  }

  Matrix o(T, Values(H * V, 0));
  const Matrix z = affine(x, weights, "_totrain_z", H * V);
  for (int64_t i = 0; i < T; i++) {
    for (int64_t h = 0; h < H; h++) {
      double* sum = &o[i][h * V];
      double kept = 1, weight_sum = 0;
      for (int64_t j = i; j >= 0; kept *= g[j--][h]) {
        const double weight = kept * weight_of(q[i], k[j], h);
        weight_sum += weight;
        for (int64_t n = 0; n < V; n++) sum[n] += weight * written[j][h * V + n];
      }
      double mean = 0, variance = 0;
      for (int64_t n = 0; n < V; n++) mean += sum[n] / static_cast<double>(V);
      for (int64_t n = 0; n < V; n++) variance += (sum[n] - mean) * (sum[n] - mean) / static_cast<double>(V);
      for (int64_t n = 0; n < V; n++) {
        if (c.output_norm == OutputNorm::group) sum[n] = (sum[n] - mean) / std::sqrt(variance + 1e-5);
        if (c.output_norm == OutputNorm::denominator) sum[n] /= weight_sum + 1e-6;
        if (c.output_gate) sum[n] *= sigmoid_of(z[i][h * V + n]);
      }
    }
  }
  return affine(o, weights, "out_proj", c.width);
}

}  // namespace supra
