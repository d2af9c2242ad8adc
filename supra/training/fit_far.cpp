#include "supra/training/fit_far.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>

#include "nn/optim.h"
#include "supra/formats/fingerprint.h"
#include "supra/formats/parameters.h"
#include "supra/formats/weights/safetensors.h"
#include "supra/training/calibrate.h"
#include "supra/training/divergence.h"
#include "supra/window_attention.h"

namespace supra {
namespace {

constexpr double kLr = 5e-2, kLastLr = 1e-3;  // cosine, after a warmup of a twentieth of the steps
constexpr double kShareWeight = 0.1;

// The inputs and outputs of the teacher's attention in a layer for one batch, in f16 on the CPU because all batches are stored.
struct Heads {
  Tensor q, k, v, o;
  Tensor lse;  // f32
};

Heads heads_of(const WindowAttention& mixer, const Var& input, const Steps& steps) {
  const auto [q, k, v] = mixer.rotated(input, steps);
  const SoftmaxPart full = mixer.near_part(q, k, v, input.dim(1));
  const auto small = [](const Var& x) { return x.value().device() == Device::cpu ? x.value().to(Dtype::f16) : x.value(); };
  return {small(q), small(k), small(v), small(full.o), full.lse.value()};
}

// The share of the teacher's attention that goes to keys outside the window, (B,T,H). Very small shares are not worth learning.
Tensor far_share(const Tensor& near, const Tensor& full) {
  constexpr double kLeast = 1e-4;
  const Tensor part = near.to(Device::cpu), all = full.to(Device::cpu), share = empty_like(part);
  for (int64_t i = 0; i < share.numel(); i++) {
    const double gap = double{part.data<float>()[i]} - double{all.data<float>()[i]};
    share.data<float>()[i] = static_cast<float>(std::max(kLeast, 1 - std::exp(gap)));
  }
  return share.to(near.device());
}

// At the N positions beyond a window: the outputs of every head, and the share of its far part, (N,H*(V+1)).
struct Outcome {
  Var student;
  Tensor teacher;
};

Outcome outcome_of(const WindowAttention& mixer, const Heads& heads, int64_t window, bool with_far) {
  const Var q(heads.q.to(Dtype::f32)), k(heads.k.to(Dtype::f32)), v(heads.v.to(Dtype::f32)), o(heads.o.to(Dtype::f32));
  const int64_t B = q.dim(0), T = q.dim(1), H = q.dim(2), V = v.dim(3);
  const SoftmaxPart near = mixer.near_part(q, k, v, window);
  // The values get one more column, which is 0 for near keys and 1 for far keys. Its output is the far part's share.
  Var y = concat_columns({near.o, Var(Tensor::zeros({B, T, H, 1}, Dtype::f32, near.o.value().device()))});
  if (with_far) {
    const Var far = mixer.far_part(q, k, v, window), weights = split_columns(far, {V, 1})[1];
    y = join_attention(y, near.lse, concat_columns({far, weights}), mixer.far_mass(q));
  }
  std::vector<int64_t> beyond;
  for (int64_t i = 0; i < B * T; i++) {
    if (i % T >= mixer.sinks() + window) beyond.push_back(i);
  }
  const auto rows = [&](const Var& x) { return take_rows({reshape(x, {B * T, H * (V + 1)})}, beyond); };
  const Var share(far_share(near.lse.value(), heads.lse).view({B, T, H, 1}));
  return {rows(y), rows(concat_columns({o, share})).value()};
}

// (mean of the heads' relative errors + share_weight * relative error of all shares) / (1 + share_weight)
Var error_of(const Outcome& outcome, int64_t H, double share_weight) {
  const int64_t N = outcome.teacher.dim(0), D = outcome.teacher.dim(1) / H;
  const Tensor here = outcome.teacher.to(Device::cpu), factors = empty_like(here);
  // the factors that make the squares of the targets sum to 1: of each head's outputs, and then of the shares of all heads
  std::vector<double> factor(H + 1, 1e-30);
  const auto kind = [=](int64_t i) { return i % D == D - 1 ? H : i / D % H; };
  for (int64_t i = 0; i < here.numel(); i++) factor[kind(i)] += double{here.data<float>()[i]} * here.data<float>()[i];
  factor[H] /= share_weight * static_cast<double>(H);
  for (double& x : factor) x = 1 / std::sqrt(x);
  for (int64_t i = 0; i < here.numel(); i++) factors.data<float>()[i] = static_cast<float>(factor[kind(i)]);
  const Var by(factors.to(outcome.teacher.device()));
  return relative_error(reshape(mul(outcome.student, by), {1, N, H * D}), mul(Var(outcome.teacher), by).value().view({1, N, H * D}));
}

double mean_error(const WindowAttention& mixer, std::span<const Heads> held_out, bool with_far) {
  const NoGrad off;
  double sum = 0;
  for (const Heads& heads : held_out) sum += error_of(outcome_of(mixer, heads, mixer.window(), with_far), heads.q.dim(2), 0).value().item();
  return sum / static_cast<double>(held_out.size());
}

// Adds to the log factors (H) of the far parts the mean gap between the log odds of the teacher's shares and their own.
void match_shares(const Tensor& mass, const Outcome& outcome) {
  const int64_t H = mass.numel(), D = outcome.teacher.dim(1) / H;
  const Tensor student = outcome.student.value().to(Device::cpu), teacher = outcome.teacher.to(Device::cpu);
  std::vector<double> gap(H), weight(H, 1e-30);
  const auto log_odds = [](double x) { return std::log(x / (1 - std::min(x, 1 - 1e-6)) + 1e-12); };
  for (int64_t i = D - 1; i < teacher.numel(); i += D) {
    const double share = teacher.data<float>()[i];
    gap[i / D % H] += share * (log_odds(share) - log_odds(student.data<float>()[i]));
    weight[i / D % H] += share;
  }
  const Tensor bias = mass.to(Device::cpu).clone();
  for (int64_t h = 0; h < H; h++) bias.data<float>()[h] += static_cast<float>(gap[h] / weight[h]);
  mass.copy_from(bias);
}

// The number of batches to learn from, which come first; the others are held out.
int64_t batches_to_learn(const std::vector<Batch>& batches) {
  const auto n = static_cast<int64_t>(batches.size());
  CHECK(n >= 2, "fit: %ld batches of text, at least 2 are needed because one is held out (give more text, or more --fit-tokens)",
        static_cast<long>(n));
  return n - std::max<int64_t>(1, n / 10);
}

std::vector<Trained> far_parameters(Decoder& student, int64_t layer) {
  std::vector<Trained> found;
  student.visit([&, path = format("layers.%ld.", static_cast<long>(layer))](const std::string& name, Var& parameter) {
    if (name.starts_with(path) && name.find("_totrain_far") != std::string::npos) found.push_back({name, parameter});
  });
  return found;
}

// One run of fit_far().
class Run {
 public:
  Run(Decoder& student, const Decoder& teacher, const std::vector<Batch>& batches, const FitOptions& o, const FitHooks& hooks)
      : student_(student), teacher_(teacher), batches_(batches), o_(o), hooks_(hooks), learned_(batches_to_learn(batches)),
        judged_(std::clamp<int64_t>(o.kl_tokens / batches[0].tokens.numel(), 1, static_cast<int64_t>(batches.size()) - learned_)),
        T_(batches[0].tokens.dim(1)) {
    for (const Batch& batch : batches) {
      CHECK(batch.cuts.empty() && batch.lengths.empty(), "fit: a batch has cut or padded sequences, whole rows of a stream are expected");
    }
    fit_.config = student.config();
    int64_t never_left = 0;
    for (int64_t layer = 0; layer < student.layers(); layer++) {
      const auto* mixer = dynamic_cast<const WindowAttention*>(&student.mixer(layer));
      if (!mixer || mixer->far_features() == 0) continue;
      // a far part has nothing to learn from sequences that do not leave the window
      if (T_ > mixer->sinks() + mixer->window()) layers_.push_back(layer);
      else fit_.config = without_far(fit_.config, layer), never_left++;
    }
    CHECK(!layers_.empty() || never_left == 0,
          "fit: sequences of %ld tokens leave none of the windows of the %ld layers with far features (give smaller windows)",
          static_cast<long>(T_), static_cast<long>(never_left));
    read();
  }

  Fit operator()() {
    if (fit_.layers.size() < layers_.size()) walk();
    for (const FittedLayer& done : fit_.layers) {
      if (!done.kept()) fit_.config = without_far(fit_.config, done.layer);
    }
    return fit_;
  }

 private:
  // Runs the teacher one layer at a time, and fits each layer that has a far part and was not fitted before.
  void walk() {
    each_batch([&](int64_t i) {
      x_.push_back(teacher_.embed(batches_[i].tokens, steps_of(batches_[i])));
      if (i >= learned_ && i < learned_ + judged_) taught_.push_back(teacher_.hidden(batches_[i].tokens).value());
    });
    for (int64_t layer = 0; !fit_.interrupted; layer++) {
      if (layer == layers_[fit_.layers.size()] && fit(layer)) write();
      if (fit_.layers.size() == layers_.size()) return;
      each_batch([&](int64_t i) { x_[i] = teacher_.block(layer, x_[i], steps_of(batches_[i])); });
    }
  }

  // Calls f with the index of every batch, unless it is interrupted.
  void each_batch(FunctionRef<void(int64_t i)> f) {
    const NoGrad off;
    for (size_t i = 0; i < batches_.size() && !stops(); i++) f(static_cast<int64_t>(i));
  }

  // Fits a layer; false if interrupted.
  bool fit(int64_t layer) {
    const auto& mixer = dynamic_cast<const WindowAttention&>(student_.mixer(layer));
    std::vector<Heads> heads;
    each_batch([&](int64_t i) { heads.push_back(heads_of(mixer, teacher_.mixer_input(layer, x_[i]), steps_of(batches_[i]))); });
    if (fit_.interrupted) return false;
    const std::span held_out(heads.begin() + learned_, heads.end());
    const std::vector<Trained> parameters = far_parameters(student_, layer);
    std::vector<Tensor> best(parameters.size());
    FittedLayer result = {layer, mean_error(mixer, held_out, false), INFINITY};
    const auto keep_best = [&] {
      const double error = mean_error(mixer, held_out, true);
      if (error < result.after) result.after = error;
      else if (best[0].defined()) return;
      for (size_t i = 0; i < best.size(); i++) best[i] = parameters[i].parameter.value().clone();
    };
    keep_best();
    if (o_.epochs > 0) {
      const NoGrad off;
      // the last parameter is the bias of far_mass
      match_shares(parameters.back().parameter.value(), outcome_of(mixer, heads[0], mixer.window(), true));
    }

    Optimizer optimizer(parameters, {});
    const int64_t W = mixer.window(), windows[] = {std::max<int64_t>(1, W / 4), std::max<int64_t>(1, W / 2), W}, steps = o_.epochs * learned_;
    const Schedule schedule = {Schedule::Kind::cosine, kLr, kLastLr, steps / 20, steps};
    Philox random(o_.seed, 2000 + static_cast<uint64_t>(layer));
    std::vector<int64_t> order(learned_);
    std::iota(order.begin(), order.end(), 0);
    for (int64_t epoch = 0, step = 0; epoch < o_.epochs; epoch++) {
      for (size_t i = order.size(); i > 1; i--) std::swap(order[i - 1], order[random.below(i)]);
      for (const int64_t i : order) {
        if (stops()) return false;
        backward(error_of(outcome_of(mixer, heads[i], windows[random.below(3)], true), heads[i].q.dim(2), kShareWeight));
        optimizer.step(schedule.at(step++), 1, optimizer.gradient_norm());
      }
      keep_best();
      const auto done = static_cast<int64_t>(fit_.layers.size()) * o_.epochs + epoch + 1;
      if (hooks_.on_epoch) hooks_.on_epoch(done, static_cast<int64_t>(layers_.size()) * o_.epochs, result);
    }
    for (size_t i = 0; i < best.size(); i++) parameters[i].parameter.value().copy_from(best[i]);

    const NoGrad off;
    result.kl = swapped(student_, layer);
    result.kl_window = swapped(*with_mixers(student_, without_far(student_.config(), layer)), layer);
    fit_.layers.push_back(result);
    return true;
  }

  // KL of the teacher if this layer is replaced by that of `model`.
  double swapped(const Decoder& model, int64_t layer) const {
    double sum = 0;
    for (int64_t i = 0; i < judged_; i++) {
      const Tensor own = swapped_hidden(model, teacher_, layer, x_[learned_ + i], steps_of(batches_[learned_ + i]));
      sum += divergence(teacher_, own, teacher_, taught_[i], std::min<int64_t>(1024, T_ / 2));
    }
    return sum / static_cast<double>(judged_);
  }

  bool stops() { return fit_.interrupted = fit_.interrupted || (hooks_.should_stop && hooks_.should_stop()); }

  // ---- the file: the far parameters of the fitted layers, and the reports of these layers

  std::string fingerprint() const {
    Hash hash;
    hash.add(o_.origin + format(" %ld %.17g %.17g %.17g %ld %lu", static_cast<long>(o_.epochs), kLr, kLastLr, kShareWeight,
                                static_cast<long>(o_.kl_tokens), static_cast<unsigned long>(o_.seed)));
    for (const Batch& batch : batches_) hash.add(batch.tokens.raw(), batch.tokens.bytes());
    return format("%016lx", static_cast<unsigned long>(hash.value()));
  }

  void write() const {
    if (o_.file.empty()) return;
    NamedTensors tensors;
    Json layers = Json::array();
    for (const FittedLayer& done : fit_.layers) {
      for (const Trained& trained : far_parameters(student_, done.layer)) tensors.emplace_back(trained.name, trained.parameter.value());
      layers.push(report_of(done));
    }
    write_safetensors(temporary_path(o_.file), tensors, {{"fingerprint", fingerprint()}, {"layers", layers.dump()}});
    replace_file(temporary_path(o_.file), o_.file);
  }

  // Reads the layers that an interrupted run of this fit has written.
  void read() {
    if (o_.file.empty() || !std::filesystem::exists(o_.file)) return;
    const MappedFile file(o_.file);
    const Metadata metadata = read_metadata(file);
    if (metadata.size() != 2 || metadata[0].second != fingerprint()) return;
    const auto weights = open_safetensors(file);
    const Json layers = Json::parse(metadata[1].second, o_.file);
    for (const Json& done : layers.as_array()) {
      fit_.layers.push_back({done.integer("layer"), done.number("error_before"), done.number("error_after"), done.number("kl"),
                             done.number("kl_window")});
      for (const Trained& trained : far_parameters(student_, fit_.layers.back().layer))
        trained.parameter.value().copy_from(weights->get(trained.name));
    }
  }

  Decoder& student_;
  const Decoder& teacher_;
  const std::vector<Batch>& batches_;
  const FitOptions& o_;
  const FitHooks& hooks_;
  const int64_t learned_, judged_, T_;  // batches to learn from, held-out batches on which KL is measured, steps of a sequence
  std::vector<int64_t> layers_;         // the layers to fit
  std::vector<Var> x_;                  // the teacher's residual stream, by batch
  std::vector<Tensor> taught_;          // its hidden states, by batch on which KL is measured
  Fit fit_;
};

}  // namespace

Fit fit_far(Decoder& student, const Decoder& teacher, const std::vector<Batch>& batches, const FitOptions& options, const FitHooks& hooks) {
  return Run(student, teacher, batches, options, hooks)();
}

Correction correct_projections(Decoder& student, const Decoder& teacher, const std::vector<Batch>& batches) {
  const NoGrad off;
  const int64_t learned = batches_to_learn(batches);
  const auto loss = [&] {
    double sum = 0;
    for (size_t i = learned; i < batches.size(); i++) {
      const Tensor& tokens = batches[i].tokens;
      sum += divergence(student, student.hidden(tokens).value(), teacher, teacher.hidden(tokens).value());
    }
    return sum / static_cast<double>(batches.size() - learned);
  };
  std::vector<std::pair<Tensor, Tensor>> before;  // a parameter, and a copy
  student.visit([&](const std::string& name, Var& parameter) {
    if (name.ends_with("out_proj.weight")) before.emplace_back(parameter.value(), parameter.value().clone());
  });
  Correction result = {loss()};
  calibrate(student, teacher, {batches.begin(), batches.begin() + learned}, Calibration::correction);
  result.kl_after = loss();
  for (const auto& [parameter, copy] : before) {
    if (!result.kept()) parameter.copy_from(copy);
  }
  return result;
}

}  // namespace supra
