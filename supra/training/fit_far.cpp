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

// What a layer's attention is made of and comes to, for one batch: f16, for all of the text is held; on the GPU as it is.
struct Heads {
  Tensor q, k, v, o;
  Tensor lse;  // f32
};

Heads heads_of(const WindowAttention& mixer, const Var& input) {
  const auto [q, k, v] = mixer.rotated(input);
  const SoftmaxPart full = mixer.near_part(q, k, v, input.dim(1));
  const auto small = [](const Var& x) { return x.value().device() == Device::cpu ? x.value().to(Dtype::f16) : x.value(); };
  return {small(q), small(k), small(v), small(full.o), full.lse.value()};
}

// What the teacher gives to keys that are not near, (B,T,H); next to nothing is not worth learning.
Tensor far_share(const Tensor& near, const Tensor& full) {
  constexpr double kLeast = 1e-4;
  const Tensor share = near.to(Device::cpu).clone(), all = full.to(Device::cpu);
  for (int64_t i = 0; i < share.numel(); i++) {
    float& x = share.data<float>()[i];
    x = static_cast<float>(std::max(kLeast, 1 - std::exp(double{x} - double{all.data<float>()[i]})));
  }
  return share.to(near.device());
}

// At the positions beyond a window, N of them: every head's outputs and its far part's share, (N,H*(V+1)).
struct Outcome {
  Var student;
  Tensor teacher;
};

Outcome outcome_of(const WindowAttention& mixer, const Heads& heads, int64_t window, bool with_far) {
  const Var q(heads.q.to(Dtype::f32)), k(heads.k.to(Dtype::f32)), v(heads.v.to(Dtype::f32)), o(heads.o.to(Dtype::f32));
  const int64_t B = q.dim(0), T = q.dim(1), H = q.dim(2), V = v.dim(3);
  const SoftmaxPart near = mixer.near_part(q, k, v, window);
  // values have one more column, 0 of near keys and 1 of far ones: attention makes the far part's share of it
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

// The mean of the heads' relative errors, and `share_weight` times the relative error of all shares, over both weights (1).
Var error_of(const Outcome& outcome, int64_t H, double share_weight) {
  const int64_t N = outcome.teacher.dim(0), D = outcome.teacher.dim(1) / H;
  const Tensor here = outcome.teacher.to(Device::cpu), factors = empty_like(here);
  // what makes the squares of a head's targets sum to 1: of its outputs, and behind those of all heads of the shares
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

// Changes log factors (H) so that far parts begin with the teacher's shares: by what the log odds of these lack, on average.
void match_shares(const Tensor& mass, const Outcome& outcome) {
  const int64_t H = mass.numel(), D = outcome.teacher.dim(1) / H;
  const Tensor student = outcome.student.value().to(Device::cpu), teacher = outcome.teacher.to(Device::cpu);
  std::vector<double> lack(H), weight(H, 1e-30);
  const auto log_odds = [](double x) { return std::log(x / (1 - std::min(x, 1 - 1e-6)) + 1e-12); };
  for (int64_t i = D - 1; i < teacher.numel(); i += D) {
    const double share = teacher.data<float>()[i];
    lack[i / D % H] += share * (log_odds(share) - log_odds(student.data<float>()[i]));
    weight[i / D % H] += share;
  }
  const Tensor bias = mass.to(Device::cpu).clone();
  for (int64_t h = 0; h < H; h++) bias.data<float>()[h] += static_cast<float>(lack[h] / weight[h]);
  mass.copy_from(bias);
}

// Those come first; the others are held out.
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
      CHECK(batch.cuts.empty() && batch.lengths.empty(), "fit: sequences are cut or padded (use --pack stream)");
    }
    fit_.config = student.config();
    int64_t never_left = 0;  // windows that the text is too short to leave: nothing is known of their far parts
    for (int64_t layer = 0; layer < student.layers(); layer++) {
      const WindowAttention* mixer = far_mixer(layer);
      if (!mixer) continue;
      if (T_ > mixer->sinks() + mixer->window()) layers_.push_back(layer);
      else fit_.config = without_far(fit_.config, layer), never_left++;
    }
    CHECK(!layers_.empty() || never_left == 0,
          "fit: sequences of %ld tokens leave none of the windows of the %ld layers with far features (give smaller windows)",
          static_cast<long>(T_), static_cast<long>(never_left));
    read();
  }

  Fit operator()() {
    const size_t begun = fit_.layers.size();
    if (begun < layers_.size()) walk(begun);
    for (const FittedLayer& done : fit_.layers) {
      if (!done.kept) fit_.config = without_far(fit_.config, done.layer);
    }
    return fit_;
  }

 private:
  // That of a layer with a far part, else null.
  const WindowAttention* far_mixer(int64_t layer) const {
    const auto* mixer = dynamic_cast<const WindowAttention*>(&student_.mixer(layer));
    return mixer && mixer->far_features() > 0 ? mixer : nullptr;
  }

  // The teacher walks, and at each layer with a far part, from the given one on, that is fitted.
  void walk(size_t next) {
    each([&](const Batch& batch) {
      x_.push_back(teacher_.embed(batch.tokens, steps_of(batch)));
      const auto i = static_cast<int64_t>(x_.size()) - 1 - learned_;
      if (i >= 0 && i < judged_) taught_.push_back(teacher_.hidden(batch.tokens).value());
    });
    for (int64_t layer = 0; !fit_.interrupted; layer++) {
      if (layer == layers_[next]) {
        if (fit(layer)) write(), next++;
        if (next == layers_.size()) return;
      }
      each([&, i = 0](const Batch& batch) mutable { x_[i] = teacher_.block(layer, x_[i], steps_of(batch)), i++; });
    }
  }

  // Calls f for all batches, unless it is interrupted.
  template <class F>
  void each(F f) {
    const NoGrad off;
    for (const Batch& batch : batches_) {
      if (stops()) return;
      f(batch);
    }
  }

  // False when interrupted.
  bool fit(int64_t layer) {
    const WindowAttention& mixer = *far_mixer(layer);
    std::vector<Heads> heads;
    each([&](const Batch&) { heads.push_back(heads_of(mixer, teacher_.mixer_input(layer, x_[heads.size()]))); });
    if (fit_.interrupted) return false;
    const std::span held_out(heads.begin() + learned_, heads.end());
    const std::vector<Trained> parameters = far_parameters(student_, layer);
    std::vector<Tensor> best(parameters.size());
    FittedLayer result = {layer, mean_error(mixer, held_out, false), INFINITY};
    const auto keep_best = [&](double error) {
      if (error < result.after) result.after = error;
      else if (best[0].defined()) return;
      for (size_t i = 0; i < best.size(); i++) best[i] = parameters[i].parameter.value().clone();
    };
    keep_best(mean_error(mixer, held_out, true));
    if (o_.epochs > 0) {
      const NoGrad off;
      // the bias of far_mass stands last
      match_shares(parameters.back().parameter.value(), outcome_of(mixer, heads[0], mixer.window(), true));
    }

    Optimizer optimizer(parameters, {});
    const int64_t W = mixer.window(), windows[] = {std::max<int64_t>(1, W / 4), std::max<int64_t>(1, W / 2), W}, steps = o_.epochs * learned_;
    const Schedule schedule = {Schedule::Kind::cosine, o_.lr, o_.last_lr, steps / 20, steps};
    Philox random(o_.seed, 2000 + static_cast<uint64_t>(layer));
    std::vector<int64_t> order(learned_);
    std::iota(order.begin(), order.end(), 0);
    for (int64_t epoch = 0, step = 0; epoch < o_.epochs; epoch++) {
      for (size_t i = order.size(); i > 1; i--) std::swap(order[i - 1], order[random.below(i)]);
      for (const int64_t i : order) {
        if (stops()) return false;
        backward(error_of(outcome_of(mixer, heads[i], windows[random.below(3)], true), heads[i].q.dim(2), o_.share_weight));
        optimizer.step(schedule.at(step++), 1, optimizer.gradient_norm());
      }
      keep_best(mean_error(mixer, held_out, true));
      const auto done = static_cast<int64_t>(fit_.layers.size()) * o_.epochs + epoch + 1;
      if (hooks_.on_epoch) hooks_.on_epoch(done, static_cast<int64_t>(layers_.size()) * o_.epochs, result);
    }
    for (size_t i = 0; i < best.size(); i++) parameters[i].parameter.value().copy_from(best[i]);

    const NoGrad off;
    result.kl = swapped(student_, layer);
    result.kl_window = swapped(*with_mixers(student_, without_far(student_.config(), layer)), layer);
    result.kept = result.kl < result.kl_window;
    fit_.layers.push_back(result);
    return true;
  }

  // KL of the teacher with this layer of `model` in it.
  double swapped(const Decoder& model, int64_t layer) const {
    double sum = 0;
    for (int64_t i = 0; i < judged_; i++) {
      const Steps steps = steps_of(batches_[learned_ + i]);
      const Tensor own = swapped_hidden(model, teacher_, layer, x_[learned_ + i], steps);
      sum += divergence(teacher_, own, teacher_, taught_[i], std::min<int64_t>(1024, T_ / 2));
    }
    return sum / static_cast<double>(judged_);
  }

  bool stops() { return fit_.interrupted = fit_.interrupted || (hooks_.should_stop && hooks_.should_stop()); }

  // ---- the file: far parameters of the fitted layers, and what is reported of these

  std::string fingerprint() const {
    Hash hash;
    hash.add(o_.origin + format(" %ld %.17g %.17g %.17g %ld %lu", static_cast<long>(o_.epochs), o_.lr, o_.last_lr, o_.share_weight,
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

  // What a run before has written, if it was this fit.
  void read() {
    if (o_.file.empty() || !std::filesystem::exists(o_.file)) return;
    const MappedFile file(o_.file);
    const Metadata metadata = read_metadata(file);
    if (metadata.size() != 2 || metadata[0].second != fingerprint()) return;
    const auto weights = open_safetensors(file);
    const Json layers = Json::parse(metadata[1].second, o_.file);
    for (const Json& done : layers.as_array()) {
      fit_.layers.push_back({done.integer("layer"), done.number("error_before"), done.number("error_after"), done.number("kl"),
                             done.number("kl_window"), done.flag("kept")});
      for (const Trained& trained : far_parameters(student_, fit_.layers.back().layer)) {
        trained.parameter.value().copy_from(weights->get(trained.name));
      }
    }
  }

  Decoder& student_;
  const Decoder& teacher_;
  const std::vector<Batch>& batches_;
  const FitOptions& o_;
  const FitHooks& hooks_;
  const int64_t learned_, judged_, T_;  // batches to learn from, of the others those that KL is measured on; steps of a sequence
  std::vector<int64_t> layers_;         // with a far part
  std::vector<Var> x_;                  // the teacher's stream, a batch each
  std::vector<Tensor> taught_;          // its hidden states of the batches that KL is measured on
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
  result.kept = result.kl_after < result.kl_before;
  for (const auto& [parameter, copy] : before) {
    if (!result.kept) parameter.copy_from(copy);
  }
  return result;
}

}  // namespace supra
